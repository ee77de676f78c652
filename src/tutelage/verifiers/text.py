"""Verifiers that compare an answer with reference texts."""

import functools
import re
from collections.abc import Sequence
from typing import Any

from tutelage.errors import DataError

_THOUGHTS_BEGIN, _THOUGHTS_END = re.compile(r"<think(?:ing)?>"), re.compile(r"</think(?:ing)?>")


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


def check_references(references: Sequence[str]) -> None:
    """Refuse an example that has none."""
    if not references:
        raise DataError(
            "An answer came without any reference, so it cannot be judged. Give every example a"
            " completion or references, or leave it out of the data."
        )


def spoken(text: str) -> str:
    """What an answer says after its thoughts (``<think>...``); empty when they never end."""
    closed = list(_THOUGHTS_END.finditer(text))
    if closed:
        return text[closed[-1].end() :]
    return "" if _THOUGHTS_BEGIN.search(text) else text


def _normalized(text: str, after: str | None) -> str:
    """The text after the last marker, or all of it, with runs of white space made one."""
    kept = " ".join((text.rpartition(after)[2] if after else text).split())
    return kept.removesuffix(".").rstrip() if after else kept


@functools.cache
def _rouge_scorer(stemmer: bool) -> Any:
    # Imported here: it pulls in a natural-language toolkit, and listing the metrics needs none.
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=stemmer)
