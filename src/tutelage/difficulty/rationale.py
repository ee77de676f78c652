"""How many steps a written-out rationale has."""

import re

_MARKED = re.compile(r"^\s*(?:step\s*\d+|\(?\d{1,2}[.):]|[-*\u2022])\s*", re.IGNORECASE)
"""A line that says itself that it is a step: ``Step 2:``, ``3.``, ``(4)``, ``-``."""

_ABBREVIATIONS = re.compile(r"\b(?:e\.g|i\.e|etc|vs|mr|mrs|ms|dr|st|no|approx|fig|eq)\.", re.I)
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)")
_EQUATION = re.compile(r"(?<![<>=!])=(?!=)")


def count_steps(rationale: str) -> int:
    """Steps of a rationale, by the clearest sign that it gives.

    Lines that are marked as steps or items are counted when there are two or more. Otherwise every
    line that is not empty counts as its sentences; a line in which equations outnumber sentences
    (``12+7=19;19-4=15``) counts as its equations.

    Args:
        rationale: the text.

    Returns:
        At least 1 for a text that is not blank, 0 for a blank one.

    Examples:
        >>> count_steps("Step 1: add. Step 2 follows.")
        2
        >>> count_steps("First, 3 + 4 = 7 apples. Then 7 * 2.5 = 17.5 dollars.")
        2
        >>> count_steps("12+7=19;19-4=15#15")
        2
    """
    lines = [line.strip() for line in rationale.splitlines() if line.strip()]
    marked = sum(bool(_MARKED.match(line)) for line in lines)
    return marked if marked >= 2 else sum(_steps_of_line(line) for line in lines)


def _steps_of_line(line: str) -> int:
    text = _ABBREVIATIONS.sub(lambda match: match.group(0)[:-1], line)
    ends = list(_SENTENCE_END.finditer(text))
    sentences = len(ends)
    # What follows the last full stop is one more sentence, unless it holds no word or number.
    rest = text[ends[-1].end() :] if ends else text
    sentences += bool(re.search(r"\w", rest))
    return max(sentences, len(_EQUATION.findall(text)), 1)
