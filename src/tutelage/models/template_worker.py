"""The process in which a chat template is tried; it imports nothing of Tutelage.

A chat template is a program that comes with a model. Jinja's sandbox keeps it from files, from the
network and from Python's insides, but not from computing without end or filling the memory, inside
C code that no signal interrupts (``10 ** (10 ** 9)``, ``'x' * 10 ** 11``). So it is tried where
there are limits on memory and on processor time. The environment is that of transformers, without
its import, which takes longer than all else.
"""

import datetime
import json
import resource
import sys
from typing import Any

MEMORY = 1 << 29
"""Bytes of address space."""
LONGEST = 1 << 20
"""Characters that a few words may become."""


def environment() -> Any:
    """Jinja as transformers sets it up for chat templates."""
    import jinja2
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """Passes over the marks around what a model writes."""

        tags = {"generation"}  # noqa: RUF012 - so jinja2 declares it

        def parse(self, parser: Any) -> Any:
            """The statements between the marks."""
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        options: dict[str, Any] = {"indent": indent, "separators": separators}
        return json.dumps(value, ensure_ascii=ensure_ascii, sort_keys=sort_keys, **options)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda format: datetime.datetime.now().strftime(format)
    return made


def longest(template: str, conversations: list[dict[str, Any]]) -> int:
    """Characters of the longest text that a template makes; any error but of memory is an end."""
    made = 0
    try:
        compiled = environment().from_string(template)
    except MemoryError:
        raise
    except Exception:
        return made
    for variables in conversations:
        try:
            made = max(made, len(compiled.render(**variables)))
        except MemoryError:
            raise
        except Exception:  # said where examples are rendered
            continue
    return made


def main() -> None:
    """Read seconds, template and conversations as JSON; write ``ended``, ``memory`` or ``long``."""
    asked = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (asked["seconds"], asked["seconds"]))
    try:
        length = longest(asked["template"], asked["conversations"])
    except MemoryError:
        print("memory")
        return
    print("long" if length > LONGEST else "ended")


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file, whose names are nobody's packages
    main()
