"""Verifiers: did this answer solve this example? Pure functions of texts, and one table of them.

Every function takes ``(answer, references)`` and gives a number in [0, 1], higher is better. One
place for filters, difficulty and evaluation, so that all of them mean the same by "right".
"""

from tutelage.verifiers.choice import choice
from tutelage.verifiers.mathematics import math
from tutelage.verifiers.table import VERIFIERS
from tutelage.verifiers.text import exact_match, number, rouge_l

__all__ = [
    "VERIFIERS",
    "choice",
    "exact_match",
    "math",
    "number",
    "rouge_l",
]
