"""A verifier of multiple choice: which letter, or yes or no, an answer settles on."""

import re
from collections.abc import Sequence

from tutelage.errors import DataError
from tutelage.verifiers.text import check_references, spoken

_WORDS = {"yes": "yes", "no": "no", "true": "yes", "false": "no"}
_OPEN, _CLOSE = r"[\s*_$\"'`({\[<\u201c\u300c]*", r"[*_$\"'`)}\]>\u201d\u300d]*"
_TEX = r"(?:\\(?:text|textbf|mathrm|mathbf|boxed|fbox)\s*\{)?"

# What stands between a cue and the choice: "is", "is: **(", "is option ", "should be".
_FILL = (
    r"(?:\s*(?:is|was|are|be|should\s+be|must\s+be|would\s+be|:|\uff1a|=|therefore|thus|clearly"
    r"|definitely|probably|most\s+likely|option|choice|letter|the|correct|best|answer|,)(?![A-Za-z]))*"
)
_CUE = r"(?:answer|option|choice)(?:\s+(?:to|for)\s+[^.\n]{0,60}?)?"
# A capital letter, a letter in brackets or at the end of a phrase; never the article "a".
_LETTER = (
    r"(?:(?P<marked>(?<=[(\[{*_$\"'`])[A-Ja-j](?=[)\]}*_$\"'`]))"
    r"|(?P<capital>[A-J])(?![A-Za-z'\u2019-])"
    r"|(?P<small>[a-j])(?=\s*(?:[.,;:)\]!?]|\n|$)))"
)
_WORD = r"(?P<word>(?i:yes|no|true|false))(?![A-Za-z])"
_CHOICE = rf"(?:{_LETTER}|{_WORD})"
_STATED = re.compile(
    rf"(?i:\b{_CUE}){_CLOSE}(?i:{_FILL}){_OPEN}{_TEX}{_OPEN}{_CHOICE}(?!\s*\?)", re.MULTILINE
)
_CORRECT = re.compile(
    rf"(?:^|[\s(\[*_]){_LETTER}{_CLOSE}\s+(?i:is\s+(?:the\s+)?(?:correct|right|best|true|answer)\b(?!\s*\?))"
)
# "Therefore, no." or a last sentence that is "Yes."; never "so no animal".
_CONCLUDED = re.compile(
    rf"(?:(?i:\b(?:so|therefore|thus|hence|in\s+conclusion|overall)),?\s+{_OPEN}{_WORD}"
    r"(?=[*_\"']*\s*(?:[.,;!\n]|$))|(?:(?<=[.!?])\s+|\n\s*)[*_\"']*"
    r"(?P<last>(?i:yes|no|true|false))[*_\"'.!]*\s*$"
    r"|(?i:\b(?:statement|claim|assertion)\s+is\s+)[*_\"']*(?P<said>(?i:true|false))\b)"
)
_BOXED = re.compile(rf"\\(?:boxed|fbox)\s*\{{{_OPEN}{_TEX}{_OPEN}{_CHOICE}{_CLOSE}[.\s]*\}}")
_FIRST = re.compile(
    rf"\s*{_OPEN}{_TEX}{_OPEN}(?:(?P<only>[A-Ja-j]){_CLOSE}(?=[.):\]]|\s*$)|{_WORD})"
)
# Options that are repeated line by line are no answer.
_LIST = re.compile(r"\s*[(*]*A[*.):][^\n]*\n+\s*[(*]*B[*.):][^\n]*(?:\n+\s*[(*]*C[*.):]|\s*$)")
_ALONE = re.compile(
    r"(?<![A-Za-z0-9'\u2019\u00b0\\-])(?<!not )"
    r"([B-H]|[AIJ](?=[^\S\n]*(?:[.,;:)\]!?*\n]|$)|\s+(?:and|or)\b))(?![A-Za-z'\u2019-])"
)


def choice(answer: str, references: Sequence[str]) -> float:
    r"""Whether the answer settles on the choice of a reference: a letter A to J, or yes or no.

    Read in this order, the last statement of each kind: a boxed choice (``\boxed{\text{(B)}}``), a
    stated one ("the answer is (B).", "**Answer: B**", "option B is correct"), a yes or no that
    concludes ("Therefore, no."), a choice that the answer begins with ("B) Paris", "Yes, because"),
    and a letter that is the only one named. An answer that names several and settles on none is
    wrong. True and false are taken for yes and no. Thoughts between ``<think>`` and ``</think>``
    are passed over.

    Args:
        answer: what a model wrote.
        references: accepted choices: ``B``, ``(B)``, ``B) Paris``, ``yes``; or texts with one.

    Returns:
        1.0 or 0.0; an answer without a choice is wrong.

    Raises:
        DataError: there is no reference, or none of them is a choice.

    Examples:
        >>> choice("(A) is too small, so the answer is (B).", ["B"])
        1.0
        >>> choice("The answer is yes.", ["yes"])
        1.0
    """
    check_references(references)
    accepted = {settled(reference) for reference in references} - {None}
    if not accepted:
        raise DataError(
            f"The reference '{references[0][:60]}' is no choice, so the metric 'choice' has nothing"
            " to compare with. Give a letter from A to J, or yes or no; for other texts use"
            " 'exact_match'."
        )
    return float(settled(spoken(answer)) in accepted)


def settled(text: str) -> str | None:
    """The choice that an answer settles on, as :func:`choice` reads it.

    Args:
        text: what a model wrote, or a reference; without thoughts.

    Returns:
        A capital letter, ``yes`` or ``no``; None when it settles on nothing.
    """
    for pattern in (_BOXED, _STATED, _CORRECT, _CONCLUDED):
        found = list(pattern.finditer(text))
        if found:
            return _name(found[-1])
    first = _FIRST.match(text)
    if first is not None and not _LIST.match(text):
        return _name(first)
    named = {match.group(1) for match in _ALONE.finditer(text)}
    return named.pop() if len(named) == 1 else None


def _name(match: re.Match[str]) -> str:
    """Which choice a pattern found."""
    found = next(value for value in match.groupdict().values() if value)
    return _WORDS.get(found.lower(), found.upper())
