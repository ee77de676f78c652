"""A configuration of another tool as the text of a recipe, with where each line came from.

Nothing is dropped in silence: what has no counterpart stands at the end, each with the reason.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tutelage.errors import ConfigError, unknown_name
from tutelage.importing.rows import Row, Tool
from tutelage.importing.tables import DEFAULTS, TOOLS
from tutelage.importing.values import HOW, Context, NoCounterpartError, trains_adapters
from tutelage.printing import printable

_SECTIONS = (
    "extends", "name", "student", "teacher", "data", "curriculum", "loss", "on_policy", "training",
    "seed", "seeds", "output",
)  # fmt: skip
_LONGEST = 60


def convert(tool: str, file: Path) -> str:
    """The recipe that a configuration amounts to.

    Args:
        tool: a name in ``TOOLS``.
        file: the configuration, in YAML.

    Raises:
        ConfigError: an unknown tool, or no configuration.
    """
    if tool not in TOOLS:
        raise unknown_name("tool", tool, TOOLS)
    given = _flat(_read(file), TOOLS[tool])
    mode = _mode(tool, given)
    defaults = {
        key: value for key, value in DEFAULTS[mode].items() if not _stands_in(given, key, mode)
    }
    context = Context({**defaults, **given}, mode)
    lines: dict[str, tuple[Any, str]] = {"extends": (_extends(mode), f"what {mode} does")}
    lost: list[str] = []
    rows = {row.key: row for row in TOOLS[tool].rows}
    for key, value in context.given.items():
        origin = f"{key}: {_short(value)}"
        if key in defaults:
            origin += f", {TOOLS[tool].title}'s default"
        _take(key, value, rows.get(key), context, origin, lines, lost)
    return printable("\n".join(_text(file, TOOLS[tool], lines, lost)) + "\n")


def _take(
    key: str,
    value: Any,
    row: Row | None,
    context: Context,
    origin: str,
    lines: dict[str, tuple[Any, str]],
    lost: list[str],
) -> None:
    """Put one setting where it belongs."""
    if value is None:
        return  # as good as not there
    if row is None:
        lost.append(f"{origin}  -  not known to this converter")
        return
    if not row.to and row.how == "same":
        lost.append(f"{origin}  -  {row.note}")
        return
    if key.startswith("lora_") and not trains_adapters(context):
        lost.append(f"{origin}  -  the file trains no adapters")
        return
    try:
        found = HOW[row.how](value, row, context)
    except NoCounterpartError as error:
        lost.append(f"{origin}  -  {error}")
        return
    except (TypeError, ValueError, KeyError, AttributeError):
        lost.append(f"{origin}  -  not a value that this converter can read")
        return
    more = found.pop("?", None)
    if more is not None:
        lost.append(f"{key}  -  {more}")
    for ours, mine in found.items():
        note = f"; {row.note}" if row.note else ""
        lines[ours] = (mine, f"{origin}{note}")


def _stands_in(given: Mapping[str, Any], key: str, mode: str) -> bool:
    """Whether a file says something that takes the place of a default."""
    twins = {"num_train_epochs": "max_steps", "temperature": "", "gradient_accumulation_steps": ""}
    section, _, last = key.rpartition(".")
    twin = twins.get(last, "")
    named = [key, *([f"{section}.{twin}" if section else twin] if twin else [])]
    return any(given.get(name) is not None and given.get(name) != -1 for name in named)


def _read(file: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"'{file}' cannot be read: {os.strerror(error.errno or 0)}. Correct the path."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{file}' is no YAML: {error}. Mend it first.") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"'{file}' holds no settings. Give a configuration with `key: value`.")
    return value


def _flat(value: Mapping[str, Any], tool: Tool, before: str = "") -> dict[str, Any]:
    """Settings by dotted key, as deep as the tool's table goes."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{before}{' '.join(key.split())}"  # a key must not end its comment
        deeper = any(row.key.startswith(f"{name}.") for row in tool.rows)
        if isinstance(inner, dict) and deeper:
            found.update(_flat(inner, tool, f"{name}."))
        else:
            found[name] = inner
    return found


def _mode(tool: str, given: Mapping[str, Any]) -> str:
    """The trainer that a file of TRL is for, which it does not name itself."""
    if tool == "axolotl" and given.get("kd_trainer"):
        return "axolotl kd"
    if tool != "trl":
        return tool
    if "lmbda" in given or "seq_kd" in given or "max_new_tokens" in given:
        return "trl gkd"
    return "trl distillation" if "teacher_model_name_or_path" in given else "trl sft"


def _extends(mode: str) -> str:
    """The recipe to begin with."""
    return {
        "trl gkd": "gkd",
        "trl distillation": "on_policy",
        "distillkit": "kld",
        "axolotl kd": "kld",
    }.get(mode, "sft")


def _short(value: Any) -> str:
    text = " ".join(yaml.safe_dump(value, default_flow_style=True, width=10**9).split())
    text = text.removesuffix(" ...")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _text(
    file: Path, tool: Tool, lines: Mapping[str, tuple[Any, str]], lost: list[str]
) -> Iterator[str]:
    """The recipe, line by line."""
    yield f"# From {tool.title}'s {file.name}. See docs/coming_from.md for what differs."
    for section in _SECTIONS:
        named = {key: line for key, line in lines.items() if key.partition(".")[0] == section}
        if not named:
            continue
        if section in named:
            value, origin = named[section]
            yield f"{section}: {_value(value)}  # {origin}"
        else:
            yield f"{section}:"
            yield from _section({k.partition(".")[2]: v for k, v in named.items()}, "  ")
    if "student.model" not in lines:
        yield "# student: {model: ...}  # the file names none"
    if lost:
        yield ""
        yield "# Without a counterpart here:"
        yield from (f"#   {one}" for one in lost)


def _section(named: Mapping[str, tuple[Any, str]], indent: str) -> Iterator[str]:
    """The settings of a section, those of one deeper section together."""
    for key in dict.fromkeys(name.partition(".")[0] for name in named):
        if key in named:
            value, origin = named[key]
            yield f"{indent}{key}: {_value(value)}  # {origin}"
            continue
        yield f"{indent}{key}:"
        deeper = {n.partition(".")[2]: v for n, v in named.items() if n.partition(".")[0] == key}
        yield from _section(deeper, indent + "  ")


def _value(value: Any) -> str:
    """A value on one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True)
    return text.strip().removesuffix("...").strip()
