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


def exact_match(answer: str, references: Sequence[str], *, after: str | None = None) -> float:
    """Whether the answer is one of the references, white space aside.

    Args:
        answer: what a model wrote.
        references: accepted answers, at least one.
        after: when given, only the text after the last occurrence of this marker counts. An answer
            without the marker is wrong; a reference without it is taken whole.

    Returns:
        1.0 or 0.0; an empty answer is wrong.

    Raises:
        DataError: there is no reference.

    Examples:
        >>> exact_match("37+48=85#85", ["85"], after="#")
        1.0
    """
    _check(references)
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
    _check(references)
    scorer = _rouge_scorer(stemmer)
    best = 0.0
    for reference in references:
        if re.search("[a-z0-9]", reference.lower()):
            best = max(best, float(scorer.score(reference, answer)["rougeL"].fmeasure))
        else:
            best = max(best, exact_match(answer, [reference]))
    return best


def number(answer: str, references: Sequence[str]) -> float:
    """Whether the last number of the answer equals the last number of a reference, exactly.

    Signs, decimals, fractions, powers of ten as in ``2e5``, thousands separated by commas and a
    dollar sign are read; ``1,250.00`` equals ``1250`` and ``3/4`` equals ``0.75``. References may
    be whole solutions, such as those of GSM8K that end in ``#### 42``.

    Args:
        answer: what a model wrote.
        references: accepted answers, at least one with a number.

    Returns:
        1.0 or 0.0; an answer without a number is wrong.

    Raises:
        DataError: there is no reference, or none of them holds a number.

    Examples:
        >>> number("So she pays $1,250.00 in all.", ["#### 1250"])
        1.0
    """
    _check(references)
    accepted = {_last_number(reference) for reference in references} - {None}
    if not accepted:
        raise DataError(
            f"The reference '{references[0][:60]}' holds no number, so the metric 'number' has"
            " nothing to compare with. Use 'exact_match' or 'rouge_l' for such data."
        )
    return float(_last_number(answer) in accepted)


def _check(references: Sequence[str]) -> None:
    if not references:
        raise DataError(
            "An answer came without any reference, so it cannot be judged. Give every example a"
            " completion or references, or leave it out of the data."
        )


def _normalized(text: str, after: str | None) -> str:
    """The text after the last marker, without outer white space and with inner runs made one."""
    kept = text.rpartition(after)[2] if after else text
    return " ".join(kept.split())


def _last_number(text: str) -> Decimal | Fraction | None:
    """The last number, exact; None when there is none or when it divides by 0."""
    found = list(_NUMBER.finditer(text.replace(_MINUS, "-")))
    if not found:
        return None
    parts = found[-1].groupdict(default="")
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
