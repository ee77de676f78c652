"""Why a part is made anew, in words: which of its inputs differ from those of the one there."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

_WORDS = {
    "available": "the answers that there are to learn from",
    "base": "the model that it is made from",
    "columns": "a column of the data",
    "data": "the rows of the data",
    "difficulty": "the difficulty of the examples",
    "draws": "how Tutelage draws answers",
    "examples": "the examples of the data",
    "kept": "what is kept of the data",
    "model": "the model",
    "pairs": "the written answers",
    "plan": "the plan",
    "rounded_step": "which steps bfloat16 rounds away",
    "source": "the model that it is cut from",
    "sources": "the data files",
    "student": "the student before training",
    "teacher": "the teacher",
    "teachers": "the teachers",
    "tokenizer": "the tokenizer",
    "total_steps": "the main arm's number of updates",
    "version": "how Tutelage makes it",
    "validation": "what validation measures",
}
_SETTINGS = {"data", "difficulty", "validation"}
"""Keys that hold settings in one part and a fingerprint in another."""

_SHOWN = 3
_ABSENT = object()


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between the inputs of a part, each as a few words.

    Args:
        old: the inputs that a part was made from.
        new: the inputs that are wanted.
    """
    return list(dict.fromkeys(_differences(old, new, "")))


def reason(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between the inputs of a part, in a sentence's end."""
    found = changes(old, new)
    if not found:
        return "this version of Tutelage makes it in another way, or it is damaged"
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    for key in sorted({*old, *new}):
        before, after = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if before == after:
            continue
        where = f"{path}.{key}" if path else key
        both = isinstance(before, Mapping) and isinstance(after, Mapping)
        if not path and key in _WORDS and not (key in _SETTINGS and both):
            yield f"{_WORDS[key]} changed"
        elif path and key in ("data", "files"):
            yield f"{_WORDS.get(path, path)} changed"
        elif both:
            yield from _differences(before, after, where)
        else:
            yield f"{where} is {_shown(after)} (was {_shown(before)})"


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "not there"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
