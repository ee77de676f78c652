"""YAML in which every value knows its file and line.

Scalars follow the core schema of YAML 1.2: ``1e-4`` is a number, ``no`` and ``2024-01-01`` are
text. Only plain values can come out of a file; tags that ask for anything else are refused.
"""

import functools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tutelage.errors import ConfigError, first_line

_TAG = "tag:yaml.org,2002:"
_CORE_SCHEMA = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)

_MOST_LETTERS = 200_000
_MOST_VALUES = 20_000
_DEEPEST = 40
"""A recipe is a page of text; what goes beyond these was made to be in the way, or by mistake."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without the surprises of YAML 1.1 (``no``, ``1:30``, ``012``)."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the attribute belongs to PyYAML


for _name, _pattern, _first in _CORE_SCHEMA:
    _Loader.add_implicit_resolver(
        _TAG + _name, re.compile(f"^(?:{_pattern})$"), ["" if c == "\0" else c for c in _first]
    )


@dataclass(frozen=True)
class Node:
    """A value with the place that it came from.

    Attributes:
        value: a scalar, a list of nodes, or a mapping from key to node.
        origin: ``"file.yaml:12"``, ``"--set"``, or what else made it.
        folder: the folder of its file, to which paths are relative; None when there is no file.
    """

    value: Any
    origin: str
    folder: Path | None = None

    @property
    def plain(self) -> Any:
        """The value without origins."""
        if isinstance(self.value, dict):
            return {key: child.plain for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain for child in self.value]
        return self.value

    def get(self, path: str) -> "Node | None":
        """The node at a dotted path below this one, or None."""
        node = self
        for key in path.split("."):
            if not isinstance(node.value, dict) or key not in node.value:
                return None
            node = node.value[key]
        return node

    def without(self, *keys: str) -> "Node":
        """This mapping without some of its keys."""
        kept = {key: child for key, child in self.value.items() if key not in keys}
        return Node(kept, self.origin, self.folder)

    def put(self, path: str, node: "Node") -> "Node":
        """A copy of this tree of mappings with ``node`` at a dotted path."""
        key, _, rest = path.partition(".")
        children = dict(self.value) if isinstance(self.value, dict) else {}
        below = children.get(key, Node({}, node.origin, node.folder))
        children[key] = below.put(rest, node) if rest else node
        return Node(children, self.origin, self.folder)

    def leaves(self, prefix: str = "") -> Iterator[tuple[str, "Node"]]:
        """Dotted path and node of everything that is not a filled mapping."""
        if isinstance(self.value, dict) and self.value:
            for key, child in self.value.items():
                yield from child.leaves(f"{prefix}.{key}" if prefix else key)
        else:
            yield prefix, self


def from_value(value: Any, origin: str, folder: Path | None = None, depth: int = 0) -> Node:
    """Plain values as a tree whose every part has the same origin.

    Raises:
        ConfigError: values are nested too deeply, or a text holds what none may.
    """
    if depth > _DEEPEST:
        raise _too_deep(origin)
    if isinstance(value, Mapping):
        children = {
            checked(str(key), origin): from_value(child, origin, folder, depth + 1)
            for key, child in value.items()
        }
        return Node(children, origin, folder)
    if isinstance(value, (list, tuple)):
        items = [from_value(child, origin, folder, depth + 1) for child in value]
        return Node(items, origin, folder)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return Node(checked(value, origin), origin, folder)


def checked(value: Any, origin: str) -> Any:
    """A value as it is, unless it is one that no file, path or message can hold.

    Raises:
        ConfigError: a text with a NUL or half of a character, or a number of hundreds of digits.
    """
    if isinstance(value, int) and value.bit_length() > 1024:
        raise ConfigError(f"{origin}: a number is too long. Write a smaller one.")
    if isinstance(value, str):
        if "\0" in value:
            raise ConfigError(f"{origin}: a text holds a NUL character. Remove it.")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"{origin}: a text holds \\u{ord(value[error.start]):04x}, which is half of a"
                " character or a byte that is not UTF-8. Write the whole character."
            ) from None
    return value


def _too_deep(origin: str) -> ConfigError:
    return ConfigError(
        f"{origin}: lists or mappings are nested more than {_DEEPEST} deep. No recipe needs that:"
        " look for brackets that are not closed."
    )


@functools.lru_cache(maxsize=256)  # recipes extend the same few files; nobody changes a Node
def parse(text: str, label: str, folder: Path | None = None, *, lines: bool = True) -> Node:
    """Parse YAML text.

    Args:
        text: one YAML document; an empty one is null.
        label: what the text is called in origins and messages, usually its file name.
        folder: the folder to which paths in it are relative.
        lines: add line numbers to origins.

    Raises:
        ConfigError: the text is not YAML, a key occurs twice in a mapping, or a tag asks for
            something that is not a plain value.
    """
    if len(text) > _MOST_LETTERS:
        raise ConfigError(
            f"{label}: {len(text):,} letters are too many for a recipe ({_MOST_LETTERS:,} at most)."
            " Is it a data file?"
        )
    try:
        root = yaml.compose(text, Loader=_Loader)
    except RecursionError:
        raise _too_deep(label) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{label}:{mark.line + 1}" if mark and lines else label
        hint = " Indent with spaces, not tabs." if "\\t" in (error.problem or "") else ""
        raise ConfigError(
            f"{where}: this is not valid YAML: {error.problem or error.context}.{hint}"
            " Look for a missing colon, quote or bracket, or wrong indentation, here or just above."
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{label}: this is not a text file in YAML: {first_line(error)}."
        ) from error
    if root is None:
        return Node(None, label, folder)
    return _Builder(label, folder, lines).build(root, ())


@dataclass
class _Builder:
    """Turns PyYAML's nodes, which know their lines, into ours."""

    label: str
    folder: Path | None
    lines: bool
    built: int = 0

    def build(self, node: yaml.Node, above: tuple[yaml.Node, ...], line: int | None = None) -> Node:
        origin = self._origin(node if line is None else line)
        if node in above:
            raise ConfigError(f"{origin}: this alias contains itself. Write the value out instead.")
        above = (*above, node)
        self.built += 1
        if self.built > _MOST_VALUES:
            raise ConfigError(
                f"{origin}: more than {_MOST_VALUES:,} values, with all aliases written out. No"
                " recipe needs that: remove aliases that repeat each other."
            )
        if len(above) > _DEEPEST:
            raise _too_deep(origin)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in (_TAG + "map", _TAG + "seq"):
            raise _forbidden_tag(node, origin)
        if isinstance(node, yaml.MappingNode):
            return Node(self._mapping(node, above), origin, self.folder)
        if isinstance(node, yaml.SequenceNode):
            items = [self.build(child, above) for child in node.value]
            return Node(items, origin, self.folder)
        return Node(_scalar(node, origin), origin, self.folder)

    def _mapping(self, node: yaml.MappingNode, above: tuple[yaml.Node, ...]) -> dict[str, Node]:
        children: dict[str, Node] = {}
        for key_node, value_node in node.value:
            origin = self._origin(key_node)
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or not isinstance(
                _scalar(key_node, origin), str
            ):
                raise ConfigError(f"{origin}: a key must be text. Put it in quotes.")
            if key in children:
                raise ConfigError(
                    f"{origin}: the key '{key[:60]}' occurs twice in one mapping (first at"
                    f" {children[key].origin}), and only one of the two can count. Remove one."
                )
            children[key] = self.build(value_node, above, key_node.start_mark.line)
        return children

    def _origin(self, place: yaml.Node | int) -> str:
        if not self.lines:
            return self.label
        line = place if isinstance(place, int) else place.start_mark.line
        return f"{self.label}:{line + 1}"


def _scalar(node: yaml.Node, origin: str) -> Any:
    kind, text = node.tag.removeprefix(_TAG), node.value
    try:
        if kind == "null":
            return None
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if kind == "int":
            return checked(int(text, 10), origin)
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if kind == "str":
            return checked(text, origin)
    except ConfigError:
        raise
    except (KeyError, ValueError):
        if kind == "int" and len(text) > 1000:
            raise ConfigError(f"{origin}: a number is too long. Write a smaller one.") from None
        raise ConfigError(f"{origin}: '{text[:60]}' does not fit its tag !!{kind}.") from None
    raise _forbidden_tag(node, origin)


def _forbidden_tag(node: yaml.Node, origin: str) -> ConfigError:
    return ConfigError(
        f"{origin}: the tag '{node.tag}' is not allowed: a recipe holds plain values only."
        " Remove the tag."
    )
