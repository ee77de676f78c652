r"""Steps of a written-out rationale: pure functions of texts.

What counts as one step, in the order in which ``"auto"`` tries them:

1. **Items.** "Step 1:", numbered lines ("2." or "(3)"), bullets. The first of these kinds that
   occurs at least twice decides, and its marks are counted: what stands between two marks belongs
   to the step before, and an introduction is none.
2. **Sentences**, where the end of a line ends a sentence too: a solution of GSM8K has a step on
   each line. A line that goes on with a small letter or a sign of relation was only wrapped. A full
   stop does not end a sentence inside a number (3.14), after a mark of enumeration ("1. First"),
   after an abbreviation ("e.g.", "Dr. Lee") or before a small letter.
3. **Equations**, when all is one sentence: its relations are counted, as in ``37+48=85;85+20=105``.

Not counted are lines without letters or digits, fences of code, and the marked final answer
("#### 42"), which repeats a result. Calculator notes of GSM8K (``<<48/2=24>>``) are taken out
first.
"""

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from tutelage.difficulty.measurements import FloatArray
from tutelage.errors import unknown_name

Unit = Literal["auto", "items", "lines", "sentences", "equations"]
UNITS: tuple[Unit, ...] = ("auto", "items", "lines", "sentences", "equations")

_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_FINAL_ANSWER = re.compile(r"\s*####")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_DECORATION = r"[\s>#*_|]*"  # quotes, headings and emphasis of Markdown before a mark
# A step may be announced within a line too, after a sentence.
_ITEM_MARKS = (
    re.compile(
        rf"(?:^{_DECORATION}|(?<=[.!?;:])\s+[*_]*)step\s+(?:\d+|[ivx]+)\b\s*(?:[:.)\u2013\u2014*-]|$)",
        re.IGNORECASE | re.MULTILINE,
    ),
    re.compile(r"^[\s>#*_|]*(?:\d{1,3}[.)]|\(\d{1,3}\))[*_]*(?=\s)", re.MULTILINE),
    re.compile(r"^[\s>]*[-*\u2022\u2023\u25e6](?=\s+\S)", re.MULTILINE),
)
_CONTINUES = re.compile(
    r"\s*(?:[a-z]|[=<>\u2248\u2264\u2265\u21d2\u2192]|\\(?:implies|approx|leq?|geq?)\b)"
)
_CLOSED = re.compile(r"[.!?:;][\"')\]*_$]*$")
# An end, what may close around it, white space, and how the next sentence begins. A run of marks is
# tried from its first one only: models that repeat themselves write runs of thousands.
_END = re.compile(
    r"(?<![.!?])(?P<end>[.!?]+)(?P<closing>[\"'\u201d\u2019)\]}$*_]*|\\[)\]])(?=\s+(?P<next>\S)|\s*$)"
    r"|[\u3002\uff01\uff1f]+"
)
# "2. Then" when nothing else was said yet; within a sentence only a list's first mark is certain,
# because "The answer is: 5. Check it." ends at its number.
_ENUMERATION = re.compile(r"(?:^[\s\"'(*_]*(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})|[:;]\s+[(*_]*[1aAi])$")
_BEFORE_NAMES = re.compile(r"(?:^|[^\w.])(?:Mr|Mrs|Ms|Dr|Prof|St|Mt|vs|cf|resp|viz)$")
_BEFORE_NUMBERS = re.compile(
    r"(?:^|[^\w.])(?:no|nos|fig|figs|eq|eqs|eqn|sec|ch|vol|thm|lem|def|ex|ref|approx|ca|al)$",
    re.IGNORECASE,
)
_DOTTED = re.compile(r"(?:^|[^\w.])(?:[A-Za-z]\.)+[A-Za-z]$")  # e.g., i.e., U.S.
_CLOCK = re.compile(r"[ap]\.m$", re.IGNORECASE)
_OPENING = "\"'\u201c\u2018([$\\*_"  # may open a sentence
_RELATION = re.compile(
    r"(?<![=<>!:])=(?![=>])|\\(?:approx|leq?|geq?|implies)\b|[\u2248\u2264\u2265]|[<>!]="
)


def rationale_steps(rationales: Sequence[str], *, by: Unit = "auto") -> FloatArray:
    """Number of steps of the reference rationale.

    CLPD grades examples by the complexity of their chain of thought. How it counts steps is not
    published; this is one reading, and ``by`` fixes another.

    Args:
        rationales: reference rationales, N texts.
        by: what a step is. ``"auto"`` decides for each text, see the module.

    Returns:
        Scores in steps, shape ``[N]``; 0 for an empty text.

    Raises:
        ConfigError: ``by`` is none of ``UNITS``.

    References:
        Cao et al., Curriculum Learning-Guided Progressive Distillation, 2026, arXiv:2605.11260.
    """
    if by not in UNITS:
        raise unknown_name("unit of rationale_steps", by, UNITS)
    return np.asarray([count_steps(text, by) for text in rationales], dtype=np.float64)


def count_steps(text: str, by: Unit = "auto") -> int:
    r"""Number of steps of one text.

    Args:
        text: a rationale.
        by: what a step is; a text that has none of that kind but says something has one step.

    Examples:
        >>> count_steps("Add 3 and 4.5 to get 7.5. Then halve it: 3.75 kg.")
        2
        >>> count_steps("1. Add.\n2. Halve.")
        2
        >>> count_steps("37+48=85;85+20=105")
        2
    """
    lines = _lines(text)
    if not lines:
        return 0
    if by == "lines":
        return len(lines)
    counts = {
        "items": lambda: _count_items(lines),
        "sentences": lambda: len(split_sentences("\n".join(lines))),
        "equations": lambda: sum(len(_RELATION.findall(line)) for line in lines),
    }
    if by != "auto":
        return max(1, counts[by]())
    return next((n for count in counts.values() if (n := count()) > 1), 1)


def split_sentences(text: str) -> list[str]:
    """Sentences of a text, without outer white space; the end of a line ends one as well.

    Args:
        text: anything.

    Returns:
        Sentences that hold a letter or a digit, in order.

    Examples:
        >>> split_sentences("It is 2 p.m. now. See Fig. 3, i.e. the left one. Done!")
        ['It is 2 p.m. now.', 'See Fig. 3, i.e. the left one.', 'Done!']
    """
    sentences: list[str] = []
    for block in _unwrapped(_lines(text)):
        start = 0
        for match in _END.finditer(block):
            if _ends(block[start : match.start()], match):
                sentences.append(block[start : match.end()])
                start = match.end()
        sentences.append(block[start:])
    return [s.strip() for s in sentences if _says_something(s)]


def _lines(text: str) -> list[str]:
    """The lines that say something and are no final answer."""
    return [
        line
        for line in _CALCULATOR.sub("", text).splitlines()
        if _says_something(line) and not _FINAL_ANSWER.match(line) and not _FENCE.match(line)
    ]


def _says_something(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _count_items(lines: Sequence[str]) -> int:
    """Marks of the first kind of item that occurs twice; 0 when none does."""
    text = "\n".join(lines)
    return next((n for marks in _ITEM_MARKS if (n := len(marks.findall(text))) > 1), 0)


def _unwrapped(lines: Sequence[str]) -> list[str]:
    """Lines, with those that only go on put behind the line before."""
    blocks: list[list[str]] = []
    for line in lines:
        goes_on = bool(blocks) and not _CLOSED.search(blocks[-1][-1]) and _CONTINUES.match(line)
        if goes_on:
            blocks[-1].append(line.strip())
        else:
            blocks.append([line.strip()])
    return [" ".join(block) for block in blocks]


def _ends(before: str, match: re.Match[str]) -> bool:
    """Whether what looks like the end of a sentence is one.

    Args:
        before: the sentence so far, up to the mark.
        match: of ``_END``.
    """
    mark, following = match["end"], match["next"]
    if mark is None or following is None:
        return True
    if following.islower() or not (following.isalnum() or following in _OPENING):
        return False
    if mark in (".", "!."):  # the second is that of a factorial
        return not _is_inside(before, following)
    # "5! 4!" and "1, 2, ... 10" go on; only a word can follow them as a new sentence.
    if len(mark) > 1 or (before and (before[-1].isdigit() or before[-1] == ")")):
        return following.isupper()
    return True


def _is_inside(before: str, following: str) -> bool:
    """Whether a full stop belongs to an abbreviation or to a mark of enumeration."""
    if _CLOCK.search(before):
        return not following.isupper()
    if _BEFORE_NUMBERS.search(before):
        # "See Eq. (3)" goes on, "Is it prime? No. Then" does not.
        return following.isdigit() or following in "($["
    return any(
        pattern.search(before) is not None for pattern in (_ENUMERATION, _BEFORE_NAMES, _DOTTED)
    )
