"""The program in an answer, as models write them: a block of Markdown, a body, or bare code."""

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator

from tutelage.verifiers.text import spoken

LONGEST = 100_000
"""Characters of an answer that are looked at."""

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+#.-]*)[^\n]*$", re.MULTILINE)
_CODE_LINE = re.compile(r"(?:@|def |async def |class |import |from \S+ import )")


def program_of(answer: str, entry_point: str, before: str = "") -> str:
    """The program that an answer holds.

    A block of code that defines the function counts, the first such; without one, a block or an
    answer that defines nothing is the body of the function that the prompt begins. What follows the
    code is cut off where it no longer reads as Python. Nothing else is changed: a program is run as
    it was written.

    Args:
        answer: what the model wrote, thoughts included.
        entry_point: the function that is asked for.
        before: the prompt, where that is the beginning of a program: its imports and helpers are
            put in front of an answer that defines the function anew.

    Returns:
        Python, as far as there is any; what is no program stays as it is, and will not run.
    """
    text = spoken(answer)[:LONGEST].replace("\r\n", "\n")
    blocks = [block for block in _blocks(text) if block.strip()]
    for block in blocks:
        if _defines(block, entry_point) or _assigns(block, entry_point):
            return _with_helpers(before, entry_point, _readable(block))
    for block in blocks:
        if before and _continued(before, block):
            return _continued(before, block)
    for bare in (text, _from_first_code(text)):
        read = _readable(bare) if not blocks and _defines(bare, entry_point) else ""
        if _defines(read, entry_point) and _parsed(read):
            return _with_helpers(before, entry_point, read)
    continued = _continued(before, text) if before else ""
    return continued or "\n\n".join(blocks) or _readable(text)


def helpers_of(prompt: str, entry_point: str) -> str:
    """What a prompt defines besides the function that is asked for: imports and other functions."""
    tree = _parsed(prompt)
    if tree is None:
        return ""
    kept = [node for node in tree.body if getattr(node, "name", None) != entry_point]
    return "\n\n".join(ast.unparse(node) for node in kept)


def _blocks(text: str) -> Iterator[str]:
    """Blocks of code of a Markdown text; one that was cut off goes on to the end."""
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]) and not fence[2]:
            yield _dedented(text[opened.end() + 1 : fence.start()])
            opened = None
    if opened is not None:
        yield _dedented(text[opened.end() + 1 :])


def _dedented(block: str) -> str:
    """A block that stands in a list, without the list's indentation."""
    first = next((line for line in block.splitlines() if line.strip()), "")
    return textwrap.dedent(block) if _CODE_LINE.match(first.lstrip()) else block


def _defines(text: str, name: str) -> bool:
    return re.search(rf"^(?:async )?def {re.escape(name)}\b", text, re.MULTILINE) is not None


def _assigns(block: str, name: str) -> bool:
    """Whether a block gives the name a value, as in ``f = lambda n: ...``."""
    return (
        re.search(rf"^{re.escape(name)}[ \t]*(?::[^=\n]*)?=(?!=)", block, re.MULTILINE) is not None
    )


def _from_first_code(text: str) -> str:
    """A text from the first line that can only be code."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if _CODE_LINE.match(line):
            return "\n".join(lines[number:])
    return ""


def _with_helpers(before: str, entry_point: str, program: str) -> str:
    helpers = helpers_of(before, entry_point)
    future = "from __future__ import"  # must stay the first statement
    return f"{helpers}\n\n{program}" if helpers and future not in program else program


def _continued(before: str, body: str) -> str:
    """A prompt with the body that continues it, however that is indented; empty for none."""
    body = body.strip("\n")
    first, _, rest = body.partition("\n")
    alone = f"    {first.lstrip()}\n{rest}"  # the first line lost its indentation, or has too much
    whole = textwrap.indent(textwrap.dedent(body), "    ")
    end = "" if before.endswith("\n") else "\n"
    tried = [_readable(before + end + each, least=before) for each in (body, alone, whole)]
    return max(_longer(before, tried), key=len, default="")


def _longer(before: str, programs: Iterable[str]) -> Iterator[str]:
    """Programs that have a statement more than the prompt."""
    told = _statements(before)
    yield from (each for each in programs if _statements(each) > told)


def _statements(text: str) -> int:
    tree = _parsed(text)
    return 0 if tree is None else sum(isinstance(node, ast.stmt) for node in ast.walk(tree))


def _readable(text: str, least: str = "") -> str:
    """The longest beginning, in whole lines, that reads as Python; the text where none does.

    Args:
        text: a program, and perhaps something behind it.
        least: what it must be longer than.
    """
    lines = text.split("\n")
    shortest = max(1, least.count("\n"))
    while len(lines) >= shortest:
        tried = "\n".join(lines)
        error = _error(tried)
        if error is None:
            return tried
        # Nothing from the line of the error on can be the end of what reads.
        lines = lines[: min(len(lines), error) - 1]
    return text


def _error(text: str) -> int | None:
    """The line at which a text is no Python; None where it is."""
    try:
        ast.parse(text)
    except SyntaxError as error:
        return error.lineno or 1
    except (ValueError, RecursionError, MemoryError):
        return 1
    return None


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
