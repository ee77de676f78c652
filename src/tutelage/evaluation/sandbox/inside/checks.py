"""The process of the checks: it calls the program from afar, compares, and says whether it passed.

The checks are those of the benchmark, run as they are. Every name in them that they do not define
themselves stands for something of the program, which is in another process: calling it sends plain
arguments there and makes a plain value of the reply. The program never sees the checks.
"""

import ast
import builtins
import contextlib
import os
import random
import sys
from collections.abc import Iterable
from typing import Any

from .program import read_all
from .wire import NotPlainError, decode, encode, receive, send


class EndedError(BaseException):
    """The program's process is gone; no ``except Exception`` of the checks takes it for theirs."""


class NothingError(BaseException):
    """The program gave no plain value: ``args[0]`` says what there was instead."""


class RaisedError(BaseException):
    """The program raised what is no exception of Python's own that a check could expect."""


class Far:
    """The program, as far as the checks see it.

    Args:
        calls: where calls go.
        replies: where replies come from.
    """

    def __init__(self, calls: int, replies: int) -> None:
        self._calls, self._replies = calls, replies
        self.raised: BaseException | None = None
        self.broken: BaseException | None = None

    def ask(self, question: dict[str, Any], *, objects: bool = True) -> Any:
        """The plain value that the program's process replies with.

        Args:
            question: a call, or what is read or set of an object.
            objects: whether the reply may stand for an object there.
        """
        try:
            return self._value(self._exchanged(question), objects)
        except (EndedError, NothingError) as error:
            self.broken = error
            raise

    def _exchanged(self, question: dict[str, Any]) -> Any:
        try:
            send(self._calls, question)
            return receive(self._replies)
        except (EOFError, OSError):
            raise EndedError from None
        except NotPlainError as error:
            raise NothingError(f"an answer that is {error}") from None

    def _value(self, reply: Any, objects: bool) -> Any:
        """What a reply says; it may be any JSON at all."""
        if not isinstance(reply, dict) or len(reply) != 1:
            raise NothingError("an answer that is no message")
        ((kind, content),) = reply.items()
        if kind == "raised":
            self.raised = _exception(content)
            if isinstance(self.raised, RaisedError):
                self.broken = self.raised
            raise self.raised
        if kind == "missing":
            raise NothingError(f"no function '{str(content)[:80]}'")
        if kind != "value":
            raise NothingError(str(content)[:200])
        try:
            return decode(content, (lambda number: Thing(self, number)) if objects else None)
        except (NotPlainError, RecursionError) as error:
            raise NothingError(f"an answer that is {error}") from None

    def function(self, name: str, *, objects: bool) -> Any:
        """A function of the program.

        Args:
            name: its name there.
            objects: whether it may give something that is not plain.
        """

        def call(*arguments: Any, **options: Any) -> Any:
            question = {
                "name": name,
                "arguments": [encode(each, _number) for each in arguments],
                "options": {key: encode(each, _number) for key, each in options.items()},
                "objects": objects,
            }
            return self.ask(question, objects=objects)

        call.__name__ = call.__qualname__ = name
        return call


class Thing:
    """An object in the program's process, which checks build there and hand to a function.

    It equals nothing but itself, whatever its class there says.
    """

    def __init__(self, far: Far, number: int) -> None:
        object.__setattr__(self, "_far", far)
        object.__setattr__(self, "_number", number)

    def __setattr__(self, name: str, value: Any) -> None:
        self._far.ask({"set": [self._number, name, encode(value, _number)]})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._far.ask({"get": [self._number, name]})


def _number(thing: Any) -> Any:
    if type(thing) is not Thing:
        raise NotPlainError(f"an object of the class {type(thing).__name__}")
    return {"object": object.__getattribute__(thing, "_number")}


def _exception(content: Any) -> BaseException:
    """An exception of Python's own, by name, so that checks can expect one."""
    name, text = content if isinstance(content, list) and len(content) == 2 else ("", "")
    kind = getattr(builtins, str(name), None)
    error: Any = RaisedError(f"{name}: {text}"[:300])
    if isinstance(kind, type) and issubclass(kind, Exception):
        with contextlib.suppress(TypeError):  # it may want more than a text
            error = kind(str(text))
    return error


def foreign_names(tree: ast.AST) -> set[str]:
    """Names that a program text uses and neither defines nor finds among Python's own."""
    used, own = set(), set(dir(builtins)) | {"__file__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else own).add(node.id)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            own.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            own |= {(each.asname or each.name).split(".")[0] for each in node.names}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            own.add(node.name)
    return used - own


def verdict(far: Far, text: str, functions: Iterable[str]) -> dict[str, Any]:
    """Whether all checks hold.

    Args:
        far: the program.
        text: the checks; they fail by raising.
        functions: names that stand for functions of the program, whatever else they mean.
    """
    functions = list(functions)
    try:
        tree = ast.parse(text)
        code = compile(tree, "<checks>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError) as error:
        return {"passed": False, "why": "broken checks", "detail": str(error)}
    names: dict[str, Any] = {"__name__": "checks"}
    for name in foreign_names(tree):
        # Some checks use a module that the program of the benchmark happened to import.
        known = name in sys.stdlib_module_names
        names[name] = __import__(name) if known else far.function(name, objects=True)
    names |= {name: far.function(name, objects=False) for name in functions}
    random.seed(0)
    failed: BaseException | None = None
    try:
        exec(code, names)
    except BaseException as error:
        failed = error
    # What broke stays broken, even where a check expects some exception and catches all.
    return _worded(far.broken or failed, far.raised)


def _worded(error: BaseException | None, raised: BaseException | None) -> dict[str, Any]:
    """A verdict from what the checks ended with, if not well."""
    if error is None:
        return {"passed": True, "why": "passed", "detail": ""}
    if isinstance(error, EndedError):
        return {"passed": False, "why": "ended", "detail": ""}
    if isinstance(error, NothingError):
        return {"passed": False, "why": "nothing", "detail": str(error)}
    detail = f"{type(error).__name__}: {str(error)[:300]}"
    if isinstance(error, RaisedError):
        detail = str(error)
    return {
        "passed": False,
        "why": "raised" if error is raised else "wrong value",
        "detail": detail,
    }


def judge(calls: int, replies: int, source: int, verdicts: int, functions: Iterable[str]) -> None:
    """Run the checks of a file and write the verdict.

    Args:
        calls: where calls go.
        replies: where replies come from.
        source: the file with the checks.
        verdicts: where the verdict goes.
        functions: names that stand for functions of the program.
    """
    send(verdicts, verdict(Far(calls, replies), read_all(source), functions))
    os.close(verdicts)
