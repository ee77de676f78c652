"""The reference of commands from the application: ``python -m tutelage.cli.reference``."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import typer

from tutelage.cli import app

_HEAD = """# Commands

`tutelage COMMAND --help` prints what stands here. Standard output is for results, standard error
for progress and messages. Exit codes: 0 done, 2 a mistake that you can mend (one message says what,
why, and what to do), 130 interrupted (143 by SIGTERM; finished parts are kept, and the same command
goes on from there), 1 anything else.

This page is written from the program by `python -m tutelage.cli.reference > docs/commands.md`.
"""

_VALUES = {str: "TEXT", int: "N", float: "NUMBER", Path: "PATH"}


def reference() -> str:
    """Every command with its arguments and options, as Markdown."""
    found = list(_commands(typer.main.get_command(app), "tutelage"))
    rows = [f"| [`{name}`](#{_anchor(name)}) | {_first_line(one)} |\n" for name, one in found]
    table = "\n| command | what it does |\n|---|---|\n" + "".join(rows)
    return _HEAD + table + "".join(_section(name, command) for name, command in found)


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All commands below a group, with the words that call them."""
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.commands[name]
        if command.hidden:
            continue
        if getattr(command, "commands", None):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _anchor(name: str) -> str:
    """What a heading is called in a link, on GitHub and on the site."""
    return name.replace(" ", "-")


def _first_line(command: Any) -> str:
    return _plain((command.help or "").strip().split("\n\n")[0])


def _section(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    usage = [name, *("[OPTIONS]" if options else "",), *map(_positional, arguments)]
    text = "\n\n".join(map(_plain, (command.help or "").strip().split("\n\n")))
    hints = _annotations(command)
    rows = [_row(one, hints.get(one.name)) for one in (*arguments, *options)]
    return (
        f"\n## {name}\n\n{text}\n\n```text\n{' '.join(filter(None, usage))}\n```\n\n"
        f"| argument or option | default | meaning |\n|---|---|---|\n{''.join(rows)}"
    )


def _positional(argument: Any) -> str:
    """An argument in the line that shows how to call the command."""
    word = argument.name.upper() + ("..." if argument.nargs == -1 or argument.multiple else "")
    return word if argument.required else f"[{word}]"


def _annotations(command: Any) -> dict[str, Any]:
    """The types that the command's function says its parameters have."""
    callback = getattr(command.callback, "__wrapped__", command.callback)
    return get_type_hints(callback)


def _row(parameter: Any, annotation: Any) -> str:
    default = "required" if parameter.required else ""
    if parameter.param_type_name == "argument":
        name = f"`{parameter.name.upper()}`"
    else:
        value = "" if parameter.is_flag else f" {_value(annotation)}"
        name = ", ".join(f"`{word}{value}`" for word in parameter.opts)
    is_value = parameter.default is not None and not isinstance(parameter.default, bool)
    if is_value and not callable(parameter.default):
        default = f"`{parameter.default}`"
    text = _plain(parameter.help or "")
    if parameter.multiple and "repeatable" not in text:
        text += " May be given several times."
    return f"| {name} | {default} | {text} |\n"


def _value(annotation: Any) -> str:
    """The word that stands for a value of a type."""
    kinds = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) in (Union, types.UnionType, list) and kinds:
        return _value(kinds[0])
    return _VALUES.get(annotation, "VALUE")


def _plain(text: str) -> str:
    """Help text on one line, with what would break a table kept apart."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
