"""Rows of a data set of the hub, taken one after another as they come over the network.

So a data set that has room nowhere here can be read, and of one that is only begun no more is
loaded than is used. What was loaded before by ``datasets`` is read from its cache where the hub
cannot be reached.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tutelage.data.row import Row, columns_to_read
from tutelage.errors import ConfigError, DataError, first_line

_CHUNK = 4096  # rows of a table that are Python objects at once


def read_hub(
    source: str, split: str, wanted: Sequence[str], *, name: str = "", revision: str = ""
) -> Iterator[Row]:
    """The rows of a data set of the hub, or of a folder that is laid out as one.

    Args:
        source: its name, optionally ``name:config``; or the folder.
        split: its split; a part of one, as in ``train[:1000]``, or a sum of splits is loaded whole.
        wanted: columns to read.
        name: its config.
        revision: branch, tag or commit.

    Raises:
        ConfigError: it has two configs.
        DataError: it cannot be loaded, or cannot be read to its end.
    """
    # Imported here: it costs a second, and most data are files.
    import datasets

    folder = Path(source).is_dir()
    path, _, within = (source, "", "") if folder else source.partition(":")
    if name and within:
        raise ConfigError(
            f"'{source}' names the config '{within}', and `name` the config '{name}'. Name one."
        )
    # Rows are counted and splits are joined only of what is here.
    streaming = not any(sign in split for sign in "[+")
    options = {
        "split": split,
        "streaming": streaming,
        **({"revision": revision} if revision else {}),
    }
    try:
        data: Any = datasets.load_dataset(path, name or within or None, **options)
    except Exception as error:
        where = "" if folder else "is no file here, and as a data set of the hub "
        which = f"config '{name}', split '{split}'" if name else f"split '{split}'"
        raise DataError(
            f"'{source}' {where}({which}) cannot be loaded: {first_line(error)}. Check the name,"
            " its config (`name:config`), the split and the network, or give a local file."
        ) from error
    if isinstance(data, datasets.Dataset):
        return dataset_rows(data, source, wanted)
    if not isinstance(data, datasets.IterableDataset):
        raise DataError(f"'{source}' has no single split '{split}'. Name one split.")
    return _streamed(data, source, wanted)


def _streamed(data: Any, source: str, wanted: Sequence[str]) -> Iterator[Row]:
    """The rows of a data set that is read as it comes."""
    found: Sequence[str] | None = data.column_names  # None where only the rows say
    if found is not None:
        data = data.select_columns(columns_to_read(found, wanted))
    rows, number = iter(data), 0
    while True:
        try:
            row = next(rows, None)
        except Exception as error:
            raise DataError(
                f"'{source}', after row {number}: the data set cannot be read on:"
                f" {first_line(error)}. Check the network and begin again, load it first"
                " (`hf download --repo-type dataset`) and name the folder, or read less of it"
                " (`first` of a source)."
            ) from error
        if row is None:
            return
        number += 1
        if found is None:
            found = list(row)
        there = {column: row[column] for column in columns_to_read(list(row), wanted)}
        yield Row(f"'{source}', row {number}", there, found)


def dataset_rows(data: Any, name: str, wanted: Sequence[str]) -> Iterator[Row]:
    """The rows of a data set that is here whole.

    Args:
        data: of ``datasets``.
        name: for messages.
        wanted: columns to read.
    """
    found = data.column_names
    columns = data.select_columns(columns_to_read(found, wanted))
    for start in range(0, len(columns), _CHUNK):
        chunk = columns.select(range(start, min(start + _CHUNK, len(columns))))
        for number, row in enumerate(chunk.to_list(), start=start + 1):
            yield Row(f"'{name}', row {number}", row, found)
