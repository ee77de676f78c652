"""What a store holds, and what must agree before anything in it is used."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from tutelage.errors import ConfigError, StoreError
from tutelage.files import atomic_write_json
from tutelage.proofs import fingerprint

MANIFEST = "manifest.json"
FORMAT = 1
"""Raised when the meaning of the files changes."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

HIDDEN, TOP_K, TARGET = "hidden", "top_k", "target"
"""Tensors of a shard: states; likeliest tokens; log-probability of the data's own token."""


@dataclass(frozen=True)
class StoreSpec:
    """Whose signal is stored, and how.

    Attributes:
        kind: ``"hidden"``: last hidden states, exact for every divergence and temperature;
            ``"topk"``: the likeliest tokens and the mass of the others.
        teacher: what identifies the teacher's weights, as plain values.
        tokenizer: fingerprint of its tokenizer.
        vocab_size: number of real tokens.
        dtype: type of the stored states and of the head, ``"float32"`` or ``"bfloat16"``; for top-k
            the type that the teacher computed in.
        top_k: how many tokens are kept; None for hidden states.

    Raises:
        ConfigError: as many tokens are to be kept as there are, or none.
    """

    kind: Literal["hidden", "topk"]
    teacher: Mapping[str, Any]
    tokenizer: str
    vocab_size: int
    dtype: str
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None and not 1 <= self.top_k < self.vocab_size:
            raise ConfigError(
                f"{self.top_k:,} tokens are to be kept of a vocabulary of {self.vocab_size:,}."
                " Choose at least 1 and fewer than there are (teacher.top_k), or keep hidden"
                " states, which give all of them (teacher.signal: hidden)."
            )

    @property
    def key(self) -> str:
        """A short name for a folder: equal specifications have equal names."""
        return fingerprint({"format": FORMAT, **asdict(self)})[:16]


_WORDS = {
    "kind": "holds another kind of signal",
    "teacher": "was made from another teacher",
    "tokenizer": "was made with another tokenizer",
    "vocab_size": "was made for another vocabulary size",
    "dtype": "was computed in another type of numbers",
    "top_k": "keeps another number of tokens",
}


def write_manifest(folder: Path, spec: StoreSpec, **details: Any) -> None:
    """Write what the store is; called once, before its first shard."""
    atomic_write_json(folder / MANIFEST, {"format": FORMAT, **asdict(spec), **details})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a store.

    Raises:
        StoreError: there is none, or it is of another version.
    """
    path = folder / MANIFEST
    return parsed_manifest(path.read_bytes() if path.is_file() else None, folder)


def parsed_manifest(content: bytes | None, place: Path | str) -> dict[str, Any]:
    """A manifest from what is in its file.

    Args:
        content: of the file; None where there is none.
        place: folder or address of the store.

    Raises:
        StoreError: there is none, or it is of another version.
    """
    if content is None:
        raise StoreError(
            f"'{place}' is no teacher store: it has no {MANIFEST}. Make one with `tutelage cache`."
        )
    try:
        manifest = json.loads(content)
    except ValueError:
        raise StoreError(
            f"The manifest of the teacher store '{place}' cannot be read. Delete the folder; it is"
            " made again."
        ) from None
    if manifest.get("format") != FORMAT:
        raise StoreError(
            f"The teacher store '{place}' has format {manifest.get('format')}, and this version of"
            f" Tutelage reads {FORMAT}. Delete the folder; it is made again."
        )
    return manifest


def check_spec(folder: Path | str, manifest: Mapping[str, Any], wanted: StoreSpec) -> None:
    """Refuse a store that is not what is wanted.

    Args:
        folder: its folder, or its address.
        manifest: what it says of itself.
        wanted: what it must hold.

    Raises:
        StoreError: teacher, tokenizer, vocabulary, type or kind differ; the message names which.
    """
    for field, expected in asdict(wanted).items():
        found = manifest.get(field)
        if found == expected:
            continue
        values = f" ({found}, not {expected})" if not isinstance(expected, Mapping) else ""
        raise StoreError(
            f"The teacher store '{folder}' {_WORDS[field]}{values}, so what it says would be"
            " wrong here. Name another folder for this teacher, or delete that one."
        )


def check_same(
    folder: Path, manifest: Mapping[str, Any], first: Path, expected: Mapping[str, Any]
) -> None:
    """Refuse folders that are to be read as one store and hold different things.

    Args:
        folder: one of them.
        manifest: its manifest.
        first: the first of them.
        expected: the manifest of that.

    Raises:
        StoreError: what they hold differs; the message names how.
    """
    if word := difference(manifest, expected):
        raise StoreError(
            f"The teacher store '{folder}' {word} than '{first}', so they cannot be read as one"
            " (teacher.store). Name folders that were filled by the same teacher, in the same"
            " type of numbers."
        )


def difference(manifest: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """How what one store holds differs from what another does; empty where it does not."""
    words = {**_WORDS, "transform": _OTHER_HEAD, "head_crc32": _OTHER_HEAD}
    found = (word for field, word in words.items() if manifest.get(field) != expected.get(field))
    return next(found, "")


_OTHER_HEAD = "has another output head"
