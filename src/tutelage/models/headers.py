"""Headers of safetensors files, read and held against the file before anything is loaded."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from tutelage.errors import ModelError

_HEADER_LIMIT = 32 << 20
"""Bytes, for some 300,000 tensors; the format's own is 100 MB, which take minutes to read."""
_TEXT_LIMIT = 100 << 20
_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
    "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file.

    Attributes:
        dtype: its type as safetensors names it, for example ``BF16``.
        shape: its shape.
    """

    dtype: str
    shape: tuple[int, ...]


def tensors_in(folder: Path, name: str) -> Iterator[tuple[str, Stored]]:
    """The tensors that a safetensors file says it holds.

    Args:
        folder: of the file.
        name: of the file.

    Raises:
        ModelError: it is no whole safetensors file.
    """
    file = folder / name
    size = file.stat().st_size
    length = int.from_bytes(read_bytes(folder, name, 8), "little")
    if _HEADER_LIMIT < length <= size - 8:
        raise ModelError(
            f"'{file}' has a header of {length:,} bytes, and at most {_HEADER_LIMIT:,} are read, of"
            " some 300,000 tensors. Save the model in several files."
        )
    if size < 8 or not 2 <= length <= size - 8:
        raise ModelError(_damaged(file, "it does not begin as a safetensors file"))
    try:
        header = json.loads(read_bytes(folder, name, 8 + length)[8:], object_pairs_hook=_once)
        header.pop("__metadata__", None)
        tensors = {key: Stored(*_described(value)) for key, value in header.items()}
        spans = {key: _whole_numbers(value["data_offsets"]) for key, value in header.items()}
        end = max((end for _, end in spans.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ModelError(_damaged(file, "its header cannot be read")) from error
    if size != 8 + length + end:
        raise ModelError(_damaged(file, f"it has {size:,} bytes of {8 + length + end:,}"))
    _check_spans(file, tensors, spans)
    yield from tensors.items()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ: of two descriptions of a tensor readers take another one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _described(value: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    """Type and shape of a tensor."""
    if not isinstance(value["dtype"], str):
        raise TypeError("a type is a text")
    return value["dtype"], _whole_numbers(value["shape"])


def _whole_numbers(values: list[Any]) -> tuple[int, ...]:
    """Sizes or places, as the format has them: whole, not negative, of 64 bits."""
    if not all(type(value) is int and 0 <= value < 2**64 for value in values):
        raise ValueError("a number is not whole, negative or too large")
    return tuple(values)


def _check_spans(
    file: Path, tensors: Mapping[str, Stored], spans: Mapping[str, tuple[int, ...]]
) -> None:
    """Each tensor has the bytes of its shape and type, one tensor after another."""
    place = 0
    for name, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        if begin != place or end < begin:
            raise ModelError(
                _damaged(file, f"its header puts '{name}' at byte {begin:,} and not at {place:,}")
            )
        place, tensor = end, tensors[name]
        size = _BYTES.get(tensor.dtype)
        if size is not None and end - begin != size * prod(tensor.shape):
            shape = " x ".join(map(str, tensor.shape))
            raise ModelError(
                _damaged(
                    file,
                    f"'{name}' ({shape}, {tensor.dtype}) has {end - begin:,} bytes in its header",
                )
            )


def check_ends(path: Path) -> None:
    """Refuse what stands where a file should and has no end.

    Raises:
        ModelError: it is a pipe or a device.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ModelError(f"'{path}' is a pipe or a device and not a file. Put the file there.")


def read_bytes(folder: Path, name: str, count: int = -1) -> bytes:
    """The first bytes of a file, or all of it.

    Raises:
        ModelError: it cannot be read, has no end, or is far larger than such a file is.
    """
    path = folder / name
    check_ends(path)
    if count < 0 and path.is_file() and path.stat().st_size > _TEXT_LIMIT:
        raise ModelError(
            f"'{path}' has {path.stat().st_size:,} bytes, and no such file of a model has more than"
            f" {_TEXT_LIMIT:,}. Download it again."
        )
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise ModelError(
            f"'{path}' cannot be read: {error.strerror}. Mend its permissions or download it again."
        ) from error


def _damaged(file: Path, what: str) -> str:
    return f"'{file}' is damaged or cut: {what}. Download or save it again."
