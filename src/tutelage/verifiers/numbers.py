"""A verifier of numbers: which one an answer gives, in the notations that models use."""

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from tutelage.errors import DataError
from tutelage.verifiers.text import check_references, spoken

# A sign counts unless it stands between two values: "-5" and "= -5" are negative, "8-5" is not.
# A currency sign may stand between sign and digits. Commas group thousands only in full groups.
# A fraction is one number: by its last part alone, 1/4 would equal 3/4; so is 2e5, and so is 2 1/2.
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]%])[-+])?[$\u00a3\u20ac\u00a5\u20b9]?"
    r"(?:(?<![\w.,/])(?P<whole>[0-9]{1,4})\s(?=[0-9]{1,3}/[0-9]{1,3}(?![0-9/.])))?"
    r"(?P<digits>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
    r"(?P<exponent>[eE][-+]?[0-9]{1,3}(?![0-9A-Za-z]))?"
    r"(?:/(?P<divisor>[0-9]+(?:\.[0-9]+)?)(?![0-9/]))?"
)
_MINUS = "\u2212"  # the typographic minus, which models like to write
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{(-?[0-9.]+)\}\s*\{([0-9.]+)\}|([0-9])([0-9]))")
_TIMES_TEN = re.compile(
    r"\s*(?:\\times|\\cdot|\u00d7)\s*10\s*\^\s*(?:\{\s*([-+]?[0-9]{1,3})\s*\}|([0-9]))"
)
# Thousands apart as LaTeX and typographers set them: 1{,}000, 1\,000, a narrow space.
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\{,\}|\\[,!;: ]|[\u00a0\u2009\u202f])(?=[0-9]{3}(?![0-9]))")
# The power of a unit is no number of the answer: 42 m^2, 42 \text{ cm}^2.
_UNIT = re.compile(
    r"(?<=[0-9])(\s*(?:\\[ ,]\s*)?(?:\\(?:text|mathrm)\s*\{[^{}0-9]*\}"
    r"|(?:square\s|cubic\s)?(?:[kcdm]?m|ft|in|yd|mi|feet|inches|meters?|metres?|miles|units?)\b))"
    r"\s*\^\s*\{?[23]\}?"
)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
# What LaTeX puts around a plain number: spaces, thousands, currency, percent, words, marks.
_DECORATION = re.compile(
    r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{[^{}]*\}(?:\^\{?[0-9]\}?)?|\\[ ,;:!$%()\[\]]"
    r"|\\(?:quad|left|right|circ)\b|[{}$%]"
)
# "#### 42" with what may follow on its line; "#### 2. Compute the sum" is a heading of Markdown.
_MARKED = re.compile(
    r"####[\s$*\\]*[-+\u2212]?[$\u00a3\u20ac]?\.?[0-9](?![0-9,.]*[.):]\s+\S)[^\n]*"
)
_ANSWER = r"(?i:\banswer)[*_\"'\s]*"
# "The answer is that she pays $18.", "Final Answer: 18 dollars", "Answer: 18": the number must be
# near, and no equation may follow it on its line, for then it is what the equation begins with.
_STATED = re.compile(
    rf"(?:(?i:final\s+){_ANSWER}(?::|\uff1a|=|(?i:is)\b)(?P<far>[^0-9\n]{{0,60}}?)"
    rf"|{_ANSWER}(?i:is|was|would\s+be|must\s+be)\b(?P<near>[^0-9\n]{{0,60}}?)"
    rf"|{_ANSWER}(?::|\uff1a|=))"
    r"[\s:*_$\\(\[]*(?P<value>[-+\u2212]?[$\u00a3\u20ac\u00a5\u20b9]?\.?[0-9][^\n]*)"
)
# Next to a number these make it part of something else: a root, a power, a product with a symbol.
_PART_BEFORE = re.compile(
    r"(?:(?:\\[a-zA-Z]+|sqrt|[\^_\u221a])\s*[({\[]*\s*"
    r"|\\[dt]?frac\s*\{[^{}]*\}\s*\{\s*"
    r"|[\^_]\s*\{?\s*-?[0-9]+\s*\}?\s*[-+*/]\s*"
    r"|(?<![A-Za-z])(?:[a-zA-Z][-+*/]|[xyz]\s*[-+*/]\s*))$"
)
_PART_AFTER = re.compile(
    r"\s*(?:\\(?:sqrt|pi|cdot|times|[dt]?frac)\b|[\u03c0\u221a^]|sqrt|\*?\s*[xyz]\b(?!\s*[0-9])"
    r"|[-+*/]\s*[xyz]\b)|[-+*/][a-zA-Z](?![A-Za-z])"
)
_OPERATOR = re.compile(r"\s*(?:[-+/\u00d7\u00f7^]|\*(?!\*)|[x]\s*[0-9]|\\(?:times|cdot|div)\b)")


def number(answer: str, references: Sequence[str]) -> float:
    r"""Whether the number that an answer gives equals that of a reference, exactly.

    Which number counts, the last of its kind: what is boxed (``\boxed{42}``); what follows ``####``
    as in GSM8K; what is said to be the answer ("The answer is 42.", "Final answer: $42"); else the
    last number. Thoughts between ``<think>`` and ``</think>`` are passed over, and an answer that
    never leaves them gives none.

    Signs, decimals, fractions (``3/4``, ``2 1/2``, ``\frac{3}{4}``), powers of ten as in ``2e5``,
    thousands separated by commas, currency and percent signs are read, units are passed over;
    ``1,250.00`` equals ``1250`` and ``3/4`` equals ``0.75``. References may be whole solutions.

    A number that is part of an expression (``5\sqrt3``, ``x^2+1``) is none: such an answer is
    wrong, and such a reference is refused, because the verifier ``math`` reads those.

    Args:
        answer: what a model wrote.
        references: accepted answers, at least one with a number.

    Returns:
        1.0 or 0.0; an answer without a number is wrong.

    Raises:
        DataError: there is no reference, or none of them is a plain number.

    Examples:
        >>> number("So she pays $1,250.00 in all.", ["#### 1250"])
        1.0
        >>> number("The answer is 18. I checked it in 2 ways.", ["18"])
        1.0
    """
    check_references(references)
    accepted = {_given(reference) for reference in references} - {None}
    if not accepted:
        raise DataError(
            f"The reference '{references[0][:60]}' holds no number by itself, so the metric"
            " 'number' has nothing to compare with. Use 'math' for expressions, 'choice' for"
            " letters, and 'exact_match' or 'rouge_l' for other texts."
        )
    return float(_given(spoken(answer)) in accepted)


def _given(text: str) -> Decimal | Fraction | None:
    """The number that a text gives, exact; None when there is none, or only in an expression."""
    text = text.replace(_MINUS, "-")
    box = _last_box(text)
    if box is not None:
        return _last(_plain(box), alone=True)
    marked = list(_MARKED.finditer(text))
    if marked:
        return _first(_DECORATION.sub("", _plain(marked[-1][0].removeprefix("####"))))
    stated = _stated(text)
    if stated is not None:
        return stated
    return _last(_plain(text.rpartition("####")[2]))


def _plain(text: str) -> str:
    """Notations of LaTeX that are one number, written as one."""
    text = _THOUSANDS.sub(",", text)
    text = _FRACTION.sub(lambda m: f" {m[1] or m[3]}/{m[2] or m[4]} ", text)
    text = _TIMES_TEN.sub(lambda m: f"e{m[1] or m[2]}", text)
    return _UNIT.sub(r"\1", text)


def _stated(text: str) -> Decimal | Fraction | None:
    """The number that is said to be the answer, where that can be told from what follows it."""
    for found in reversed(list(_STATED.finditer(text))):
        between = found["far"] or found["near"] or ""
        value = _plain(found["value"])
        number = _NUMBER.match(value)
        if number is None or re.search(r"(?i)\bnot\b|[.!?]\s", between) or "=" in value:
            continue
        after = value[number.end() :]
        if _OPERATOR.match(after) or _PART_AFTER.match(after):
            continue
        return _value(number)
    return None


def _first(text: str) -> Decimal | Fraction | None:
    """The number that a line begins with, unless it is a part of more."""
    found = _NUMBER.search(text)
    if found is None or _PART_AFTER.match(text[found.end() :]):
        return None
    return _value(found)


def _last(text: str, *, alone: bool = False) -> Decimal | Fraction | None:
    """The last number of a text, unless it is a part of more; or the only one, where it must be."""
    if alone:
        text = _DECORATION.sub("", text)
    found = list(_NUMBER.finditer(text))
    # A box holds the answer and nothing else: of a list or a sum its last number is not the answer.
    if not found or (alone and len(found) > 1):
        return None
    before, after = text[: found[-1].start()], text[found[-1].end() :]
    if _PART_BEFORE.search(before) or _PART_AFTER.match(after):
        return None
    return _value(found[-1])


def _last_box(text: str) -> str | None:
    r"""What the last ``\boxed{...}`` holds; None without one, or where it is left empty."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    start, depth = boxes[-1].end(), 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return text[start:place]
    return text[start:]


def _value(match: re.Match[str]) -> Decimal | Fraction | None:
    parts = match.groupdict(default="")
    value = Decimal(parts["sign"] + parts["digits"].replace(",", "") + parts["exponent"])
    if not parts["divisor"]:
        return value
    divisor = Decimal(parts["divisor"])
    # Decimals divide with rounding, fractions do not; equal values of both types compare as equal.
    if not divisor:
        return None
    part = Fraction(value) / Fraction(divisor)
    if not parts["whole"]:
        return part
    return part + Fraction(parts["whole"]) * (-1 if parts["sign"] == "-" else 1)
