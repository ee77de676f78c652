"""Turns of a conversation in a row: role, content, and what else the chat template may write."""

import json
from collections.abc import Mapping
from typing import Any

from tutelage.data.row import Row, wrong_type
from tutelage.errors import DataError
from tutelage.types import Message

ROLES = ("system", "developer", "user", "assistant", "tool")
_SHARE_GPT = {"human": "user", "gpt": "assistant", "observation": "tool"}
"""Roles in conversations whose turns have ``from`` and ``value``, by their names there."""


def read_turns(row: Row, column: str) -> tuple[Message, ...]:
    """The turns in a column that holds a conversation.

    Every key of a turn but ``role``, ``content`` and ``weight`` is kept for the chat template. The
    content may be missing where there are ``tool_calls``.

    Raises:
        DataError: a turn lacks its role or content, or has a role or a weight that is unknown.
    """
    value = row.columns[column]
    if not isinstance(value, list):
        raise wrong_type(row, column, value, 'a list of {"role", "content"} objects')
    return tuple(_turn(row, column, number, turn) for number, turn in enumerate(value, start=1))


def _turn(row: Row, column: str, number: int, turn: Any) -> Message:
    # Tables give every turn every key, and None where the turn has none.
    keys = dict(turn) if isinstance(turn, Mapping) else {}
    extra = {key: value for key, value in keys.items() if value is not None}
    if "from" in extra and "role" not in extra:
        extra = _from_share_gpt(extra)
    role, content = extra.pop("role", None), extra.pop("content", None)
    if content is None and extra.get("tool_calls"):
        content = ""
    if not isinstance(role, str) or not isinstance(content, str):
        raise DataError(
            f"{row.where}: message {number} of the column '{column}' needs a text under 'role'"
            f' and a text under \'content\', such as {{"role": "user", "content": "Hello"}};'
            f" it is {str(turn)[:60]!r}. Convert it."
        )
    if role not in ROLES:
        raise DataError(
            f"{row.where}: message {number} of the column '{column}' has the role '{role}'."
            f" Known roles: {', '.join(ROLES)}. Rename it."
        )
    weight = extra.pop("weight", 1)
    if isinstance(weight, str) or weight not in (0, 1):
        raise DataError(
            f"{row.where}: message {number} of the column '{column}' has the weight {weight!r}."
            " A turn is learned (1) or not (0); other weights are not known. Choose one of these."
        )
    return Message(role, content, extra, bool(weight))


def _from_share_gpt(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A turn with ``from``, ``value`` and perhaps ``loss`` under the names that are usual now."""
    names = {"from": "role", "value": "content", "loss": "weight"}
    renamed = {names.get(key, key): value for key, value in turn.items()}
    if isinstance(renamed["role"], str):
        renamed["role"] = _SHARE_GPT.get(renamed["role"], renamed["role"])
    return renamed


def read_tools(row: Row) -> tuple[Mapping[str, Any], ...]:
    """The functions that a conversation may call: a list of descriptions, or JSON text of one.

    Raises:
        DataError: it is no such list.
    """
    value = row.columns.get("tools")
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{row.where}: the column 'tools' is a text, but no valid JSON: {error}. Mend it or"
                " remove the column."
            ) from error
    if not value:
        return ()
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise wrong_type(row, "tools", value, "a list of objects, one for each function,")
    return tuple(dict(tool) for tool in value)


def turn_content(turn: Message) -> list[Any]:
    """What makes two turns the same, as plain values."""
    content: list[Any] = [turn.role, turn.content]
    if turn.extra or not turn.learned:
        content.append({**turn.extra, "weight": int(turn.learned)})
    return content
