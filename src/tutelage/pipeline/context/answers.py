"""Answers of an evaluation that is not finished, kept where the next try finds them."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.errors import RunFolderError
from tutelage.evaluation.pieces import Kept, keep_in
from tutelage.files import disk_errors, remove_directory


def room_warning(title: str, without: int, answers: int) -> str:
    """What to tell of answers that are empty because their prompts left no room; empty for none.

    Args:
        title: of the model and the suite.
        without: how many answers had no room.
        answers: how many there are.
    """
    if not without:
        return ""
    return (
        f"warning: {title}: {without:,} of {answers:,} answers were cut before their first word,"
        " and count as wrong: the prompt is as long as the model can read, or as max_total_tokens"
        " allows. Put fewer solved problems in front of the questions (shots), or ask shorter ones."
    )


@contextlib.contextmanager
def kept_answers(
    folder: Path, inputs: Mapping[str, Any], *, wanted: bool = True
) -> Iterator[Kept | None]:
    """A store of answers for the time of the block; what was there of other inputs goes before.

    The store stays when the block fails or is killed, and is removed when it ends well.

    Args:
        folder: of the store; nothing else is in it.
        inputs: what decides the answers.
        wanted: whether keeping them is worth it; None is yielded where it is not.
    """
    if not wanted:
        yield None
        return
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        store = keep_in(folder, inputs)
    except RunFolderError:
        # Of other inputs, or damaged: nothing that anybody would want to put right by hand.
        remove_directory(folder)
        store = keep_in(folder, inputs)
    yield store
    remove_directory(folder)
