"""The table of all verifiers. A new row is held to the contract test of the family."""

from tutelage.components import Component
from tutelage.verifiers.choice import choice
from tutelage.verifiers.mathematics import math
from tutelage.verifiers.numbers import number
from tutelage.verifiers.text import exact_match, rouge_l

VERIFIERS: dict[str, Component] = {
    "exact_match": Component(
        exact_match, "1 when the answer, or what follows a marker in it, equals a reference"
    ),
    "rouge_l": Component(
        rouge_l,
        "F1 of the longest common subsequence of words with the nearest reference",
        "Lin 2004, https://aclanthology.org/W04-1013",
    ),
    "number": Component(
        number, "1 when the number that is boxed, marked, stated or last is that of a reference"
    ),
    "math": Component(
        math, "1 when the answer means the same as a reference, as mathematics; needs math-verify"
    ),
    "choice": Component(
        choice, "1 when the answer settles on the letter of a reference, or on its yes or no"
    ),
}
"""Verifiers by name, for metrics and filters; `tutelage ls metrics` prints them."""
