"""The fingerprint of a plan, made piece by piece: the text that it is taken of is never whole."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tutelage.curriculum.options import AS_IF_NOT_THERE, LOSS_VALUES
from tutelage.ids import Ids
from tutelage.types import Plan

PARTS = (
    "ids",
    "visits",
    "offsets",
    "step_stage",
    *LOSS_VALUES,
    "lr_factor",
    "on_policy",
    "restarts",
    "teachers",
    "visit_teacher",
    "visit_weight",
)
"""What makes two plans train in different ways when it differs."""

_PIECE = 1 << 20
_ESCAPED = np.zeros(256, dtype=bool)
_ESCAPED[[*range(32), ord('"'), ord("\\")]] = True


def plan_fingerprint(plan: Plan) -> str:
    """64 digits that are the same for two plans exactly when they train the same way.

    They are those of ``proofs.fingerprint`` for an object of ``PARTS``, without what does nothing.
    """
    digest = hashlib.sha256()
    for number, name in enumerate(sorted(parts_of(plan))):
        digest.update(f"{',' if number else '{'}{json.dumps(name)}:[".encode())
        values = getattr(plan, name)
        for start in range(0, len(values), _PIECE):
            digest.update(b"," if start else b"")
            for text in _elements(values[start : start + _PIECE]):
                digest.update(text)
        digest.update(b"]")
    digest.update(b"}")
    return digest.hexdigest()


def parts_of(plan: Plan) -> list[str]:
    """``PARTS`` without the values that do nothing at any step of a plan."""
    quiet = {
        name for name, value in AS_IF_NOT_THERE.items() if (getattr(plan, name) == value).all()
    }
    if not len(plan.visit_weight):
        quiet.add("visit_weight")
    return [name for name in PARTS if name not in quiet]


def _elements(values: Any) -> Iterator[bytes | pa.Buffer]:
    """The elements of a list as canonical JSON, without the brackets."""
    if isinstance(values, Ids):
        joined = _join(values.text, '","')
        if not _ESCAPED[np.frombuffer(_join(values.text, ""), dtype=np.uint8)].any():
            yield from (b'"', joined, b'"')
            return
    if isinstance(values, np.ndarray) and values.dtype.kind in "iub":
        # Arrow writes whole numbers and truth as JSON does, but not fractions.
        yield _join(pa.array(values).cast(pa.large_string()), ",")
        return
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    yield json.dumps(plain, separators=(",", ":"), ensure_ascii=False)[1:-1].encode()


def _join(text: pa.LargeStringArray, separator: str) -> pa.Buffer:
    """All strings in one."""
    whole = pa.ListArray.from_arrays(pa.array([0, len(text)], pa.int32()), text)
    joined = pc.call_function("binary_join", [whole, pa.scalar(separator, text.type)])
    return joined[0].as_buffer()
