"""Files of a run folder as plain values, each held against what its part says of it.

A file may be missing; one that is there is as the run wrote it, or it is refused.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
from numpy.typing import NDArray

from tutelage.errors import RunFolderError
from tutelage.files import read_json, read_jsonl
from tutelage.proofs import MANIFEST, changed_since, read_sealed


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when there is no such file.

    Raises:
        RunFolderError: it was changed, or cannot be read.
    """
    if not path.exists():
        return {}
    _check(path, path.parent)
    try:
        value = read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _broken(path, error) from error
    if not isinstance(value, dict):
        raise _broken(path, TypeError("it does not hold a JSON object"))
    return value


def read_record(path: Path) -> dict[str, Any]:
    """The object in a sealed file; empty when there is no such file.

    Raises:
        RunFolderError: it was changed.
    """
    value = read_sealed(path) if path.exists() else {}
    if value is None:
        raise _changed(path, "writes it anew")
    return value


def read_recipe(path: Path, record: Path) -> str:
    """The recipe as it was written when the run was begun; empty when there is no such file.

    Args:
        path: the file.
        record: what vouches for it.

    Raises:
        RunFolderError: it was changed.
    """
    changed = changed_since(path, record)
    if changed is not None:
        raise _changed(changed, "writes it anew")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def read_columns(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Some columns of a parquet file, those that it has; empty when there is no such file.

    Args:
        path: the file.
        names: of columns of numbers.

    Raises:
        RunFolderError: it was changed, or cannot be read.
    """
    if not path.exists():
        return {}
    _check(path, path.parent)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            there = [name for name in names if name in file.schema_arrow.names]
            table = file.read(there)
        return {name: table[name].to_numpy() for name in there}
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise _broken(path, error) from error


def read_rows(path: Path, owner: Path | None) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file; empty when there is no such file.

    Args:
        path: the file.
        owner: the part that vouches for it; None while it grows.

    Raises:
        RunFolderError: it was changed.
    """
    if owner is not None:
        _check(path, owner)
    return read_jsonl(path)


def _check(path: Path, part: Path) -> None:
    """Refuse a file that is not as its part was written: what is said of it would be wrong."""
    changed = changed_since(path, part / MANIFEST)
    if changed is not None:
        remedy = f"makes it anew (if it does not: delete the folder '{part}' and give it once more)"
        raise _changed(changed, remedy)


def _changed(path: Path, remedy: str) -> RunFolderError:
    return RunFolderError(
        f"'{path}' was changed or damaged after the run wrote it, so nothing is reported of it."
        f" Give the same `tutelage run` command again, which {remedy}."
    )


def _broken(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(
        f"'{path}' cannot be read: {error}. It was changed or cut off after the run wrote it."
        " Delete this file and give the same `tutelage run` command again; it is made anew."
    )
