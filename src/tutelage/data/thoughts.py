"""Thoughts that reasoning models write before an answer, between ``<think>`` and ``</think>``."""

import re
from collections.abc import Mapping
from typing import Any

BEGIN, END = "<think>", "</think>"
FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Keys of a turn that hold its thoughts."""

_BEGINS = re.compile(rf"^\s*{BEGIN}")


def lacks_thoughts(content: str, extra: Mapping[str, Any], written: str) -> bool:
    """Whether a turn has thoughts that are not in what was written of it.

    Args:
        content: what the turn says.
        extra: its other keys.
        written: what a chat template made of it.
    """
    thoughts = "".join(str(extra[name]) for name in FIELDS if extra.get(name))
    if not thoughts:
        thoughts = content.rpartition(END)[0]
    thoughts = _BEGINS.sub("", thoughts).strip()
    return bool(thoughts) and thoughts not in written


def unclosed(content: str, before: str = "") -> bool:
    """Whether a text breaks off inside its thoughts.

    Args:
        content: the text.
        before: what stands before it, which may open its thoughts.
    """
    open_before = before.rstrip().endswith(BEGIN)
    last = content.rpartition(BEGIN)
    return (open_before or bool(last[1])) and END not in last[2]


def after_opening(content: str, opened: str) -> str:
    """A text with thoughts as it follows what opens it, which may be the beginning of them."""
    if not opened.rstrip().endswith(BEGIN):
        return content
    rest = _BEGINS.sub("", content)
    return rest.lstrip("\n") if opened.endswith("\n") else rest
