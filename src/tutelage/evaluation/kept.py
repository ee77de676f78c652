"""The answers that an evaluation keeps, read again: ``answers.jsonl`` as values by id."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.errors import DataError
from tutelage.files import read_json_or, read_jsonl
from tutelage.proofs import MANIFEST, changed_since
from tutelage.types import check_unique

Rows = Mapping[str, Mapping[str, Any]]
"""By id the rows of an ``answers.jsonl``."""


def read_answers(folder: str | Path) -> dict[str, dict[str, Any]]:
    """The rows of an evaluation by id, in file order.

    Args:
        folder: where the evaluation was written.

    Raises:
        DataError: there are none, some are missing, ids repeat, or the file was changed.
    """
    path = Path(folder) / "answers.jsonl"
    if not path.is_file():
        raise DataError(
            f"There is no '{path}', so there are no answers to compare. Give the folder of an"
            " evaluation: MODEL/SUITE of `tutelage eval`, or arms/NAME/evaluation of a run."
        )
    rows = read_jsonl(path)
    scores = read_json_or(path.parent / "scores.json", {})
    expected = scores.get("num_examples", len(rows)) if isinstance(scores, dict) else len(rows)
    whole = len(rows) == expected and all("id" in row for row in rows)
    if not rows or not whole or changed_since(path, path.parent / MANIFEST) is not None:
        raise DataError(
            f"'{path}' was changed or damaged after it was written ({len(rows)} of {expected}"
            " answers can be read), so nothing is compared with it. Delete the folder and evaluate"
            " again."
        )
    check_unique([str(row["id"]) for row in rows])
    return {str(row["id"]): row for row in rows}


def values_of(rows: Rows, metric: str) -> dict[str, float]:
    """The metric of every answered example by id, the mean over seeds; without it: left out."""
    found = {i: (row.get("scores") or {}).get(metric) for i, row in rows.items()}
    return {i: float(v) for i, v in found.items() if v is not None and math.isfinite(v)}


def answer_score(row: Mapping[str, Any], metric: str) -> float | None:
    """The metric of the very answer that is kept, where :func:`values_of` has a mean over seeds."""
    value = (row.get("answer_scores") or row.get("scores") or {}).get(metric)
    return float(value) if value is not None and math.isfinite(value) else None


def clusters_of(rows: Rows) -> dict[str, str]:
    """The cluster of each example that shares something with others."""
    return {i: str(row["cluster"]) for i, row in rows.items() if row.get("cluster")}
