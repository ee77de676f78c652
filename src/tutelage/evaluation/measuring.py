"""What a suite finds that generates nothing, piece by piece."""

import functools
from collections.abc import Sequence
from typing import Any

from tutelage.evaluation.measure import Measured, Progress
from tutelage.evaluation.pieces import Kept, pieces_to_measure
from tutelage.evaluation.question import Question
from tutelage.evaluation.suite import Suite


def measured(
    engine: Any,
    questions: Sequence[Question],
    suite: Suite,
    kept: Kept | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Measure a model at all questions.

    What shares a batch depends on the suite and its questions alone, and a piece is kept wholly or
    not at all. So a second run that finds some pieces kept gives the same as an unbroken one.

    Args:
        engine: with the model that is evaluated.
        questions: all of them are read.
        suite: with what it measures.
        kept: what is there is not read again, and what is new is added piece by piece.
        progress: called with (questions done, questions in all).
    """
    assert suite.measure is not None
    read = suite.measure.reader(engine, suite)
    whole = suite.measure.whole
    pieces = [list(range(len(questions)))] if whole else pieces_to_measure(questions, suite)
    kept = None if whole else kept
    found: dict[int, Any] = {}
    report = progress or (lambda done, total: None)
    for piece in pieces:
        known = _known(kept, questions, piece)
        if known is None:
            tell = functools.partial(_tell, report, len(found), len(piece), len(questions))
            known = read([questions[place] for place in piece], tell)
            if kept is not None:
                kept.add(
                    [
                        {"id": questions[place].id, "sample": 0, "found": one}
                        for place, one in zip(piece, known, strict=True)
                    ]
                )
        found |= dict(zip(piece, known, strict=True))
        report(len(found), len(questions))
    return suite.measure.conclude(questions, [found[place] for place in range(len(questions))])


def _known(
    kept: Kept | None, questions: Sequence[Question], piece: Sequence[int]
) -> list[Any] | None:
    """What was found of all questions of a piece; None where it is not there."""
    rows = [None if kept is None else kept.find((questions[place].id, 0)) for place in piece]
    return [row["found"] for row in rows if row] if all(rows) else None


def _tell(report: Progress, before: int, size: int, total: int, done: int, of: int) -> None:
    """Tell how far all questions are, when told how far one piece is."""
    report(before + size * done // max(of, 1), total)
