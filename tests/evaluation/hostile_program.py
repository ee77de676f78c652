"""What attacks have in common: what they do in words, what contains them, what becomes of them.

``f(3)`` is to be the SECRET, which no program knows. Where an attack works, ``f`` gives what it
got, and the outcome is another one than ``why`` says.
"""

import textwrap
from dataclasses import dataclass

SECRET = "SECRET-9241"
CHECKS = f"assert f(3) == '{SECRET}'"
REFUSED = "raised (PermissionError|OSError|BlockingIOError|FileNotFoundError)"
SYSTEM_CALLS = "filter of system calls"


@dataclass(frozen=True)
class Hostile:
    """A program that attacks.

    Attributes:
        name: what it is called.
        does: in words.
        by: what contains it.
        program: its text; ``{outside}`` is a file outside, ``{port}`` an open port.
        why: a pattern of the outcome.
        limits: other limits than the usual ones.
        slow: whether it takes a second or more.
    """

    name: str
    does: str
    by: str
    program: str
    why: str
    limits: tuple[tuple[str, float], ...] = ()
    slow: bool = False

    def text(self, outside, port):
        """The program, with places to attack."""
        return self.program.replace("{outside}", str(outside)).replace("{port}", str(port))


ALL: list[Hostile] = []


def hostile(name, does, by, program, why=REFUSED, *, slow=False, **limits):
    """Add a program."""
    ALL.append(Hostile(name, does, by, textwrap.dedent(program), why, tuple(limits.items()), slow))
