"""The process of the program: it runs what a model wrote, and answers calls with plain values.

Whatever the program does to this process, what leaves it are bytes on a pipe, which the checks read
as plain values: the most that a program can forge here is a value that it might have returned.
"""

import os
import random
import sys
import types
from collections.abc import Mapping
from typing import Any

from .wire import NotPlainError, decode, encode, receive, send

NAME = "program"
"""The module that the program is; not ``__main__``: what it does as a script is not asked for."""


def read_all(handle: int) -> str:
    """A file from its start."""
    parts = []
    os.lseek(handle, 0, os.SEEK_SET)
    while part := os.read(handle, 1 << 20):
        parts.append(part)
    os.close(handle)
    return b"".join(parts).decode("utf-8", "surrogatepass")


def serve(calls: int, replies: int, source: int) -> None:
    """Run the program, then answer every call until there are no more.

    Args:
        calls: where calls come from.
        replies: where replies go.
        source: the file with the program.
    """
    module = types.ModuleType(NAME)
    sys.modules[NAME] = module
    random.seed(0)
    problem: dict[str, Any] | None = None
    try:
        exec(compile(read_all(source), "<program>", "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        problem = _raised(error)
    objects: list[Any] = []
    while True:
        try:
            call = receive(calls)
        except EOFError:
            return
        reply = problem or _answered(module.__dict__, call, objects)
        try:
            send(replies, reply)
        except NotPlainError as error:
            send(replies, {"not plain": str(error)})
        except MemoryError as error:
            send(replies, _raised(error))


def _answered(names: Mapping[str, Any], call: Mapping[str, Any], objects: list[Any]) -> Any:
    """What a call gives, or why it gives nothing."""

    def kept(value: Any) -> Any:
        objects.append(value)
        return {"object": len(objects) - 1}

    def value_of(message: Any) -> Any:
        return decode(message, objects.__getitem__)

    try:
        if "set" in call:
            owner, name, value = call["set"]
            return {"value": setattr(objects[owner], name, value_of(value))}
        if "get" in call:
            owner, name = call["get"]
            return {"value": encode(getattr(objects[owner], name), kept)}
        if call["name"] not in names:
            return {"missing": call["name"]}
        arguments = [value_of(each) for each in call["arguments"]]
        options = {name: value_of(each) for name, each in call["options"].items()}
        result = names[call["name"]](*arguments, **options)
        return {"value": encode(result, kept if call["objects"] else None)}
    except NotPlainError as error:
        return {"not plain": str(error)}
    except BaseException as error:
        return _raised(error)


def _raised(error: BaseException) -> dict[str, Any]:
    try:
        return {"raised": [type(error).__name__, str(error)[:500]]}
    except BaseException:
        return {"raised": ["Exception", ""]}
