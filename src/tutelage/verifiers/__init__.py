"""Verifiers: did this answer solve this example? Pure functions of texts, and one table of them.

A verifier takes ``(answer, references)`` and gives a number in [0, 1], higher is better. One place
for filters, difficulty and evaluation, so that all of them mean the same by "right"; a recipe names
verifiers under ``evaluation.metrics``, ``supervision.verifier`` and ``difficulty.verifier``.
"""

from collections.abc import Callable, Sequence

from tutelage.verifiers.choice import choice
from tutelage.verifiers.mathematics import math
from tutelage.verifiers.numbers import number
from tutelage.verifiers.table import VERIFIERS
from tutelage.verifiers.text import exact_match, rouge_l

Verifier = Callable[[str, Sequence[str]], float]
"""An answer and the accepted ones to a number in [0, 1]."""

__all__ = [
    "VERIFIERS",
    "Verifier",
    "choice",
    "exact_match",
    "math",
    "number",
    "rouge_l",
]
