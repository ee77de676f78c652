"""The process in which mathematical answers are compared; it imports nothing of Tutelage.

Reads lines of JSON ``[answer, [reference, ...]]`` and writes ``true`` or ``false`` for each. A text
may ask for a computation that never ends or that fills the memory, inside C code that no signal
interrupts: so the process has a limit on memory and one on the processor time of each question, and
whoever asked starts another when it is gone.
"""

import contextlib
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from typing import Any

SECONDS = 3.0
"""Processor time for a question, so that a busy machine changes no answer."""

MEMORY = 4 << 30
"""Bytes of address space."""

RELATIVE = 1e-5
"""Two numbers that differ by more are different, however small both are."""

_DOTS = re.compile(r"\\(?:ldots|dots|cdots|dotsc)|\.\.\.|\u2026")
_PERCENT = re.compile(r"\\?%")
_CONSTANT = re.compile(r"\\(?:mathrm|text|operatorname)\{\s*([ei\u03c0])\s*\}")
_DELIMITED = re.compile(r"(?<!\\)\$|\\\(|\\\[|\\boxed|\\begin\{")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_COMMAND = re.compile(r"\\(?:begin|end)\s*\{[a-z*]*\}|\\[a-zA-Z]+")
_WORD = re.compile(r"[a-zA-Z]{2}")
# The base of a numeral, which the parser leaves out: 2516_8, 1A_{16}.
_BASE = re.compile(r"[0-9][A-F]*\s*_\s*(?:\{\s*([0-9]+)\s*\}|([0-9]))")
_JOINED = re.compile(r"[\s$,;]*(?:and|or|\\text\{\s*(?:and|or)\s*\})?[\s$,;]*")
_LEAD = re.compile(r".*(?:####|answer\s*(?:is|:|=)|=>|\u21d2)\s*:?", re.IGNORECASE)


# "#### 42", as in GSM8K; "#### 2. Compute the sum" and "#### The sum" are headings of Markdown.
_MARKED = re.compile(r"####[ \t]*(?![0-9]+[.):]\s)([-+$\\({\[]*[0-9\\][^\n]*)")


class OutOfTimeError(BaseException):
    """Not an ``Exception``: those are caught inside of what is interrupted."""


def _interrupt(*_: Any) -> None:
    raise OutOfTimeError


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer; end the process where it cannot be interrupted."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    import resource

    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 2, hard))
    # Again and again: the first may be swallowed by somebody's cleaning up.
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def plain(text: str) -> str:
    """Notations that the parser reads wrongly, written another way."""
    return _CONSTANT.sub(r"\1 ", text).replace("\u2212", "-")


def final(text: str) -> str:
    """The part of an undelimited text that is its answer."""
    lines = [line for line in text.splitlines() if line.strip()]
    return _LEAD.sub("", lines[-1]).strip().rstrip(".") if lines else ""


def boxed(text: str) -> str:
    """The last boxed expression, with those before it that it is joined to; or the whole text."""
    spans = [(found.start(), _end_of_box(text, found.end())) for found in _BOX.finditer(text)]
    if not spans:
        return text
    start, end = spans[-1]
    for before, closed in reversed(spans[:-1]):
        if _JOINED.fullmatch(text[closed:start]) is None:
            break
        start = before
    return text[start:end]


def _end_of_box(text: str, start: int) -> int:
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return place + 1
    return len(text)


def parse(text: str) -> list[Any]:
    """What math-verify reads in a text, without its own limit on time, which needs a thread."""
    import math_verify

    no_limit: Any = None  # it takes None for no limit, and does not say so
    return math_verify.parse(text, parsing_timeout=no_limit)


def parsed(text: str, *, bare: bool) -> list[Any]:
    """What a text says: an expression and its source; empty when there is none.

    Args:
        text: an answer or a reference.
        bare: a text without delimiters is one expression; otherwise only if it looks like one.
    """
    text = boxed(plain(text))
    bare = bare or wordless(text)
    marked = list(_MARKED.finditer(text))
    if marked and not _BOX.search(text):  # dollars before it would be taken for delimiters
        text = marked[-1][1]
    end = final(text)
    if bare and re.fullmatch(r"\s*\\begin\{[a-z]*matrix\}.*", text, re.DOTALL):
        found = parse(f"${text.strip()}$")
        if len(found) > 1:
            return found
    if not _DELIMITED.search(text) and (bare or re.search(r"[\\^_=]|[0-9]\s*[a-zA-Z]\b", end)):
        found = parse(f"${end}$")
        if len(found) > 1:
            return found
    if bare and "####" in text:
        text = end
    return parse(text)


def wordless(text: str) -> bool:
    """Whether a text is one line without a word, so that all of it is the expression."""
    line = text.strip()
    return "\n" not in line and not _WORD.search(_COMMAND.sub(" ", line))


def broken(found: list[Any]) -> bool:
    """Whether the parser cut an expression in two, or cannot mean what is meant."""
    source = found[-1] if found and isinstance(found[-1], str) else ""
    return source.count("{") != source.count("}")


def numbers_differ(one: Any, other: Any) -> bool:
    """Whether two numbers are apart by more than rounding, relative to their size."""
    from sympy import Expr, N

    if not all(isinstance(each, Expr) and each.is_number for each in (one, other)):
        return False
    one, other = one.doit(), other.doit()  # a percentage is parsed as a product that is not made
    gap, size = abs(N(one - other, 30)), max(abs(N(one, 30)), abs(N(other, 30)))
    return bool(gap > RELATIVE * size)


def base_of(text: str) -> str:
    """The base in which a text writes its last numeral that names one; empty for none."""
    found = _BASE.findall(boxed(plain(text)))
    return "".join(found[-1]).lstrip("0") if found else ""


def same(answer: str, reference: str) -> bool:
    """Whether an answer means what a reference means."""
    if _DOTS.search(final(reference)):  # a pattern that goes on: there is no expression of it
        return "".join(final(plain(answer)).split()) == "".join(final(plain(reference)).split())
    bases = [base_of(answer), base_of(reference)]
    if all(bases) and bases[0] != bases[1]:
        return False
    if same_parsed(parsed(answer, bare=False), parsed(reference, bare=True)):
        return True
    # A percentage is what it says, with its sign or without: 10\% is 0.1 and 10.
    if bool(_PERCENT.search(boxed(answer))) == bool(_PERCENT.search(boxed(reference))):
        return False
    answer, reference = (_PERCENT.sub("", text) for text in (answer, reference))
    return same_parsed(parsed(answer, bare=False), parsed(reference, bare=True))


def same_parsed(given: list[Any], wanted: list[Any]) -> bool:
    """Whether two parsed texts mean the same."""
    from math_verify import verify

    if not given or not wanted:
        return False
    if broken(given) or broken(wanted):
        return bool(given[-1] == wanted[-1])
    if numbers_differ(given[0], wanted[0]):
        return False
    return bool(verify(wanted, given, timeout_seconds=None))


def solves(answer: str, references: list[str]) -> bool:
    """Whether an answer is one of the references, as far as that can be found out in time."""
    for reference in references:
        try:
            with limited(SECONDS):
                if same(answer, reference):
                    return True
        except (OutOfTimeError, Exception):
            continue
    return False


def main() -> None:
    """Answer questions until there are no more."""
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if hasattr(signal, "SIGPROF"):
        signal.signal(signal.SIGPROF, _interrupt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import math_verify  # noqa: F401

    # What is printed on the way must not be taken for an answer.
    replies, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(solves(*json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file, whose names are nobody's packages
    main()
