"""Whether every stage of every arm gets an update, as far as the number of rows tells."""

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tutelage.checks.data import is_here
from tutelage.checks.findings import Findings
from tutelage.data.read import format_of
from tutelage.errors import ConfigError
from tutelage.recipe import Recipe
from tutelage.recipe.sections import FileData

_COUNTED = 64_000_000  # bytes of text whose lines are counted in a moment


def check_updates(findings: Findings) -> None:
    """Controls make the updates of the main arm: one for each of their stages at least."""
    recipe = findings.loaded.recipe
    most = most_updates(recipe, _most_rows(recipe))
    for prefix, control in findings.arms():
        if control is not recipe and most is not None:
            with findings.about(f"{prefix}curriculum.stages"):
                check_stages(control, most, f"{most} at most")


def check_stages(control: Recipe, updates: int, words: str) -> None:
    """Refuse a control with more stages than updates.

    Args:
        control: the recipe of the control.
        updates: what the main arm makes, and so does the control.
        words: the same, for the message.

    Raises:
        ConfigError: some stages would get no update.
    """
    stages = control.curriculum.stages
    if stages > updates:
        raise ConfigError(
            f"{stages} stages, but all arms make the updates of the main arm, and that makes"
            f" {words}, so that some stages would get none. Set it to {updates} or less,"
            " give more data, or a smaller training.batch_size."
        )


def most_updates(recipe: Recipe, rows: int | None) -> int | None:
    """No plan of the recipe makes more updates; None when nothing is known of the data.

    Args:
        recipe: the recipe of the main arm.
        rows: no more rows than these are there to learn from.
    """
    from tutelage.curriculum import CURRICULA

    settings = recipe.curriculum
    if settings.total_steps is not None:
        return settings.total_steps
    if rows is None:
        return None
    if settings.iteration_ratio is not None:
        epochs = settings.epochs or settings.stages
        visits = settings.iteration_ratio * epochs * rows
    else:
        passes = settings.passes or CURRICULA[settings.kind].passes
        visits = passes * settings.stages * rows
    # Every stage has a step of its own, however few its visits are.
    return math.ceil(visits / recipe.training.batch_size) + settings.stages


def _most_rows(recipe: Recipe) -> int | None:
    """No more rows than these are in the training data; None when counting would take long."""
    data = recipe.data
    if not isinstance(data, FileData):
        return None if data is None else data.train
    counts = []
    for source in data.sources("train"):
        if not is_here(source.path):
            return None
        try:
            count = _count(Path(source.path).expanduser())
            counts.append(min(count, source.first or count) if count is not None else None)
        except (OSError, pa.ArrowException):
            return None  # said by those who read it
    if not counts or None in counts:
        return None
    rows = sum(counts)
    return min(rows, data.limit_train) if data.limit_train else rows


def _count(path: Path) -> int | None:
    if path.suffix == ".parquet":
        return pq.read_metadata(path).num_rows
    lines = (".jsonl", ".ndjson", ".csv", ".tsv")
    if path.suffix not in lines or path.stat().st_size > _COUNTED or format_of(path) != path.suffix:
        return None
    content = path.read_bytes()
    if content[:1] == b"[":
        return None
    return content.count(b"\n") + content.count(b"\r") + (content[-1:] not in b"\r\n")
