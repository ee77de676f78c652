"""Plain values between two processes: length, then JSON, with tags for what JSON does not have.

The receiver makes every value itself, of Python's own types, so that nothing of the sender's but
plain values ever reaches a comparison: no class, no method, no subclass.
"""

import builtins
import collections
import decimal
import fractions
import json
import os
import re
import struct
from collections.abc import Callable, Iterable
from typing import Any

LARGEST = 16 << 20
"""Bytes of one message."""

DEEPEST = 100
"""How far values may nest."""

_EXACT = 1 << 53


class NotPlainError(ValueError):
    """A value that is none of Python's plain ones, or a message that is none."""


def read_exactly(handle: int, size: int) -> bytes:
    """So many bytes; EOFError when the other side is gone."""
    parts = []
    while size:
        part = os.read(handle, min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def receive(handle: int, largest: int = LARGEST) -> Any:
    """The next message.

    Raises:
        EOFError: the other side is gone.
        NotPlainError: it is too large, or no JSON.
    """
    (size,) = struct.unpack(">I", read_exactly(handle, 4))
    if size > largest:
        raise NotPlainError("too large")
    try:
        return json.loads(read_exactly(handle, size))
    except (ValueError, RecursionError) as error:
        raise NotPlainError("no message") from error


def send(handle: int, message: Any, largest: int = LARGEST) -> None:
    """Write a message.

    Raises:
        NotPlainError: it is too large.
    """
    content = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(content) > largest:
        raise NotPlainError("too large")
    left = memoryview(struct.pack(">I", len(content)) + content)
    while left:
        left = left[os.write(handle, left) :]


def encode(value: Any, other: Callable[[Any], Any] | None = None, depth: int = 0) -> Any:
    """A value as JSON.

    Subclasses of plain types (named tuples, counters, enumerations of numbers) are sent as what
    they hold, and generators as what they give.

    Args:
        value: what to send.
        other: makes something of what is not plain; without, NotPlainError is raised.
        depth: how deep in a value this one is.
    """
    if depth > DEEPEST:
        raise NotPlainError("nested too deeply")
    if value is None or value is True or value is False:
        return value
    for kind, write in _WRITERS.items():
        if isinstance(value, kind):
            return write(value, lambda part: encode(part, other, depth + 1))
    if value is Ellipsis:
        return {"ellipsis": 0}
    if type(value) is type and getattr(builtins, value.__name__, None) is value:
        return {"type": value.__name__}
    if hasattr(type(value), "__next__"):
        values: Any = value
        return {"iterator": [encode(part, other, depth + 1) for part in values]}
    if other is None:
        raise NotPlainError(f"an object of the class {type(value).__name__}")
    return other(value)


def _whole(value: int) -> Any:
    return int(value) if -_EXACT < value < _EXACT else {"int": hex(value)}


def _list(values: Iterable[Any], each: Callable[[Any], Any]) -> list[Any]:
    return [each(part) for part in values]


# Subclasses are read by the methods of the plain type, as far as there are such.
_WRITERS: dict[Any, Callable[[Any, Callable[[Any], Any]], Any]] = {
    str: lambda v, each: str.__str__(v),
    int: lambda v, each: _whole(v),
    float: lambda v, each: {"float": float.hex(v)},
    list: lambda v, each: _list(list.__iter__(v), each),
    tuple: lambda v, each: {"tuple": _list(tuple.__iter__(v), each)},
    dict: lambda v, each: {"dict": [[each(key), each(part)] for key, part in dict.items(v)]},
    set: lambda v, each: {"set": _list(set.__iter__(v), each)},
    frozenset: lambda v, each: {"frozenset": _list(frozenset.__iter__(v), each)},
    complex: lambda v, each: {"complex": [v.real.hex(), v.imag.hex()]},
    bytes: lambda v, each: {"bytes": bytes.hex(v)},
    bytearray: lambda v, each: {"bytearray": bytearray.hex(v)},
    range: lambda v, each: {"range": [each(v.start), each(v.stop), each(v.step)]},
    collections.deque: lambda v, each: {"deque": _list(v, each)},
    fractions.Fraction: lambda v, each: {
        "fraction": [each(int(v.numerator)), each(int(v.denominator))]
    },
    decimal.Decimal: lambda v, each: {"decimal": str(v)},
    re.Match: lambda v, each: {"match": v.group()},
    type({}.keys()): lambda v, each: {"set": _list(v, each)},
    type({}.values()): lambda v, each: {"iterator": _list(v, each)},
    type({}.items()): lambda v, each: {"set": _list(v, each)},
}


def decode(message: Any, other: Callable[[int], Any] | None = None, depth: int = 0) -> Any:
    """The value that a message stands for, made of Python's own types.

    Args:
        message: as :func:`encode` made it, or anything else.
        other: gives the object of a number, for what is not plain.
        depth: how deep in a value this one is.

    Raises:
        NotPlainError: it stands for nothing.
    """
    if depth > DEEPEST:
        raise NotPlainError("nested too deeply")
    if message is None or isinstance(message, (str, bool, int)):
        return message
    if isinstance(message, list):
        return [decode(part, other, depth + 1) for part in message]
    if not isinstance(message, dict) or len(message) != 1:
        raise NotPlainError("no value")
    ((tag, content),) = message.items()
    if tag == "object" and other is not None:
        return other(content)
    if tag not in _READERS:
        raise NotPlainError("no value")
    try:
        return _READERS[tag](content, lambda part: decode(part, other, depth + 1))
    except NotPlainError:
        raise
    except (TypeError, ValueError, ArithmeticError, AttributeError, IndexError) as error:
        raise NotPlainError("no value") from error


class Match:
    """What a regular expression found: true, equal to nothing else, and without methods."""

    def __init__(self, text: Any, each: Any = None) -> None:
        self.text = str(text)


def _type(name: Any, each: Any) -> type:
    kind = getattr(builtins, name)
    if not isinstance(kind, type):
        raise NotPlainError("no value")
    return kind


_READERS: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "int": lambda v, each: int(v, 16),
    "float": lambda v, each: float.fromhex(v),
    "tuple": lambda v, each: tuple(_list(v, each)),
    "dict": lambda v, each: {each(key): each(value) for key, value in v},
    "set": lambda v, each: set(_list(v, each)),
    "frozenset": lambda v, each: frozenset(_list(v, each)),
    "complex": lambda v, each: complex(float.fromhex(v[0]), float.fromhex(v[1])),
    "bytes": lambda v, each: bytes.fromhex(v),
    "bytearray": lambda v, each: bytearray.fromhex(v),
    "range": lambda v, each: range(*_list(v, each)),
    "deque": lambda v, each: collections.deque(_list(v, each)),
    "fraction": lambda v, each: fractions.Fraction(*_list(v, each)),
    "decimal": lambda v, each: decimal.Decimal(v),
    "iterator": lambda v, each: iter(_list(v, each)),
    "ellipsis": lambda v, each: ...,
    "match": Match,
    "type": _type,
}
