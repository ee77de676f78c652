"""Verifiers that compare an answer with reference texts."""

import functools
import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tutelage.errors import DataError

# A sign counts unless it stands between two values: "-5" and "= -5" are negative, "8-5" is not.
# A currency sign may stand between sign and digits. Commas group thousands only in full groups.
# A fraction is one number: by its last part alone, 1/4 would equal 3/4; so is 2e5.
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]%])[-+])?\$?"
    r"(?P<digits>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
    r"(?P<exponent>[eE][-+]?[0-9]{1,3}(?![0-9A-Za-z]))?"
    r"(?:/(?P<divisor>[0-9]+(?:\.[0-9]+)?)(?![0-9/]))?"
)
_MINUS = "\u2212"  # the typographic minus, which models like to write
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{(-?[0-9.]+)\}\s*\{([0-9.]+)\}|([0-9])([0-9]))")
_TIMES_TEN = re.compile(
    r"\s*(?:\\times|\\cdot|\u00d7)\s*10\s*\^\s*(?:\{\s*([-+]?[0-9]{1,3})\s*\}|([0-9]))"
)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
# What LaTeX puts around a plain number: spaces, thousands, currency, percent, words, marks.
_DECORATION = re.compile(
    r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{[^{}]*\}(?:\^\{?[0-9]\}?)?|\\[ ,;:!$%()\[\]]"
    r"|\\(?:quad|left|right|circ)\b|[{}$%]"
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


def exact_match(answer: str, references: Sequence[str], *, after: str | None = None) -> float:
    """Whether the answer is one of the references, white space aside.

    Args:
        answer: what a model wrote.
        references: accepted answers, at least one.
        after: when given, only the text after the last occurrence of this marker counts, without
            the full stop of its sentence. An answer without the marker is wrong; a reference
            without it is taken whole. For letters and yes or no, ``choice`` reads more.

    Returns:
        1.0 or 0.0; an empty answer is wrong.

    Raises:
        DataError: there is no reference.

    Examples:
        >>> exact_match("37+48=85#85", ["85"], after="#")
        1.0
    """
    check_references(references)
    if after and after not in answer:
        return 0.0
    given = _normalized(answer, after)
    accepted = {_normalized(reference, after) for reference in references}
    return float(bool(given) and given in accepted)


def rouge_l(answer: str, references: Sequence[str], *, stemmer: bool = True) -> float:
    r"""ROUGE-L: F1 of the longest common subsequence of words; the best over the references.

    With a common subsequence of n words, precision is n over the words of the answer, recall n over
    those of the reference, and F1 their harmonic mean. Words are runs of a-z and 0-9 in lower case,
    as in the original package; a reference without any (another script) is compared as a whole.

    Args:
        answer: what a model wrote.
        references: accepted answers, at least one.
        stemmer: compare words without their English suffixes (Porter), as the papers do.

    Returns:
        A number in [0, 1], not a percentage; 0.0 for an answer without words.

    Raises:
        DataError: there is no reference.

    References:
        Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004.
    """
    check_references(references)
    scorer = _rouge_scorer(stemmer)
    best = 0.0
    for reference in references:
        if re.search("[a-z0-9]", reference.lower()):
            best = max(best, float(scorer.score(reference, answer)["rougeL"].fmeasure))
        else:
            best = max(best, exact_match(answer, [reference]))
    return best


def number(answer: str, references: Sequence[str]) -> float:
    r"""Whether the last number of the answer equals the last number of a reference, exactly.

    Signs, decimals, fractions (``3/4``, ``\frac{3}{4}``), powers of ten as in ``2e5``, thousands
    separated by commas, dollar and percent signs are read; ``1,250.00`` equals ``1250`` and ``3/4``
    equals ``0.75``. What is boxed counts before all else. References may be whole solutions, such
    as those of GSM8K that end in ``#### 42``.

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
    """
    check_references(references)
    accepted = {_last_number(reference) for reference in references} - {None}
    if not accepted:
        raise DataError(
            f"The reference '{references[0][:60]}' holds no number by itself, so the metric"
            " 'number' has nothing to compare with. Use 'math' for expressions, 'choice' for"
            " letters, and 'exact_match' or 'rouge_l' for other texts."
        )
    return float(_last_number(answer) in accepted)


def check_references(references: Sequence[str]) -> None:
    """Refuse an example that has none."""
    if not references:
        raise DataError(
            "An answer came without any reference, so it cannot be judged. Give every example a"
            " completion or references, or leave it out of the data."
        )


def _normalized(text: str, after: str | None) -> str:
    """The text after the last marker, or all of it, with runs of white space made one."""
    kept = " ".join((text.rpartition(after)[2] if after else text).split())
    return kept.removesuffix(".").rstrip() if after else kept


def _last_number(text: str) -> Decimal | Fraction | None:
    """The last number, exact; None when there is none, or only as a part of an expression."""
    text = text.replace(_MINUS, "-")
    box = _last_box(text)
    _, announced, after = text.rpartition("####")
    text = box if box is not None else after if announced else text
    text = _FRACTION.sub(lambda m: f" {m[1] or m[3]}/{m[2] or m[4]} ", text)
    text = _TIMES_TEN.sub(lambda m: f"e{m[1] or m[2]}", text)
    if box is not None or announced:
        text = _DECORATION.sub("", text)
    found = list(_NUMBER.finditer(text))
    # A box holds the answer and nothing else: of a list or a sum its last number is not the answer.
    if not found or (box is not None and len(found) > 1):
        return None
    before, after = text[: found[-1].start()], text[found[-1].end() :]
    if _PART_BEFORE.search(before) or _PART_AFTER.match(after):
        return None
    return _value(found[-1])


def _last_box(text: str) -> str | None:
    r"""What the last ``\boxed{...}`` holds; None without one."""
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
    return Fraction(value) / Fraction(divisor) if divisor else None


@functools.cache
def _rouge_scorer(stemmer: bool) -> Any:
    # Imported here: it pulls in a natural-language toolkit, and listing the metrics needs none.
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=stemmer)
