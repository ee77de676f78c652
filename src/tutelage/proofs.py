"""What proves that a file is as it was written: seals, checksums and fingerprints."""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.files import atomic_write_json, plain_json, read_json_or

_BLOCK = 1 << 20

SEAL = "seal"
MANIFEST = "manifest.json"
"""What vouches for a part of a run, in its folder."""


def write_sealed(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with the fingerprint of its content, by which any change shows."""
    plain = plain_json(dict(value))
    atomic_write_json(path, {**plain, SEAL: fingerprint(plain)})


def read_sealed(path: str | Path) -> dict[str, Any] | None:
    """What :func:`write_sealed` wrote; None when it is not there, empty, torn or changed since."""
    value = read_json_or(path, {})
    seal = value.pop(SEAL, None)
    try:
        return value if seal == fingerprint(value) else None
    except ValueError:  # JSON may hold half of a character, and no file of ours does
        return None


def checksums(
    folder: str | Path, *, within: str = "", without: tuple[str, ...] = ()
) -> dict[str, list[int]]:
    """Size and CRC-32 of every file in a folder, by its path below it; see :func:`damaged_file`.

    Damage is what they find, not forgery: the checksum is read as fast as the file itself.

    Args:
        folder: an existing folder.
        within: a file or folder in it, there or not, to look at alone.
        without: names of files that are left out.
    """
    folder = Path(folder)
    start = folder / within
    found = [start] if start.is_file() else sorted(start.rglob("*"))
    return {
        str(path.relative_to(folder)): [path.stat().st_size, file_crc32(path)]
        for path in found
        if path.is_file() and path.name not in without
    }


def damaged_file(folder: str | Path, files: Mapping[str, Any]) -> str | None:
    """The first file that is missing or is not as :func:`checksums` found it; None: all are."""
    for name, (size, checksum) in files.items():
        path = Path(folder) / name
        if not path.is_file() or path.stat().st_size != size or file_crc32(path) != checksum:
            return name
    return None


def changed_since(path: str | Path, proof: str | Path) -> Path | None:
    """What was changed or damaged after it was written: a file, or the proof that vouches for it.

    Args:
        path: the file, there or not.
        proof: a sealed file with the :func:`checksums` of its folder as ``files``, such as a
            manifest.

    Returns:
        The file, or the proof; None when nothing shows, or nobody vouches for the file.
    """
    path, proof = Path(path), Path(proof)
    if not path.is_file() or not proof.is_file():
        return None
    sealed = read_sealed(proof)
    if sealed is None:
        return proof
    name, files = os.path.relpath(path, proof.parent), sealed.get("files", {})
    held = {name: files[name]} if name in files else {}
    return None if damaged_file(proof.parent, held) is None else path


def file_crc32(path: str | Path, size: int | None = None) -> int:
    """The checksum of a file; any change of up to four neighbouring bytes changes it.

    Args:
        path: the file.
        size: of its first so many bytes alone.
    """
    checksum, left = 0, size
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK if left is None else min(_BLOCK, left)):
            checksum = zlib.crc32(block, checksum)
            left = None if left is None else left - len(block)
    return checksum


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(value: Any) -> str:
    """The SHA-256 of a JSON value in its canonical form: the same value, the same 64 digits."""
    return hashlib.sha256(_CANONICAL.encode(value).encode("utf-8")).hexdigest()
