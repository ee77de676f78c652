"""The gate before a tokenizer is loaded: what its tokenizer.json would do, read from the file.

A tokenizer is a small program in a file. What it says may make a text longer with every step (forty
steps that double it fill any memory), and it runs in code that no signal interrupts; so its steps
are looked at before one is taken.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.errors import ModelError
from tutelage.models.headers import read_bytes

FILE = "tokenizer.json"
_MOST_GROWTH = 100
"""A text may become so many times as long; those in use make one character of one, or three."""
_MOST_AROUND = 64
"""Tokens that may be put around a text."""
_LISTS = ("normalizers", "decoders", "pretokenizers", "processors")
"""Under which names steps hold others."""


def check_tokenizer_file(folder: Path) -> None:
    """Refuse a tokenizer.json that would make endless texts, or other tokens each time.

    What is wrong with it otherwise is said when it is loaded.

    Args:
        folder: where it is, or is not.

    Raises:
        ModelError: says what is wrong.
    """
    if not (folder / FILE).is_file():
        return
    try:
        found = json.loads(read_bytes(folder, FILE))
    except (ValueError, RecursionError):
        return
    if not isinstance(found, dict):
        raise ModelError(f"'{folder / FILE}' holds no JSON object. Download it again.")
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        growth = 1
        for step in _steps(found.get(part)):
            # A step writes its content in the place of one character, or before the text.
            growth *= max([1, *(len(text) for text in _written(step))])
            if growth > _MOST_GROWTH:
                raise ModelError(
                    f"The {part} in '{folder / FILE}' makes a text more than {_MOST_GROWTH} times"
                    " as long. Take the tokenizer files from the model's source again."
                )
    for step in _steps(found.get("post_processor")):
        if _around(step) > _MOST_AROUND:
            raise ModelError(
                f"The post_processor in '{folder / FILE}' puts more than {_MOST_AROUND} tokens"
                " around every text. Take the tokenizer files from the model's source again."
            )
    model = found.get("model")
    if isinstance(model, dict) and model.get("dropout"):
        raise ModelError(
            f"The tokenizer in '{folder / FILE}' cuts words at random (model.dropout is"
            f" {model['dropout']!r}), so a text would have other tokens each time. Set it to null."
        )


def _steps(part: Any) -> Iterator[Mapping[str, Any]]:
    """The steps of a part of a tokenizer, those inside of others too."""
    waiting = [part]
    while waiting:
        step = waiting.pop()
        if not isinstance(step, dict):
            continue
        yield step
        for name in _LISTS:
            if isinstance(step.get(name), list):
                waiting += step[name]


def _written(step: Mapping[str, Any]) -> Iterator[str]:
    """What a step writes into a text."""
    for name in ("content", "prepend", "append", "replacement", "prefix"):
        if isinstance(step.get(name), str):
            yield step[name]


def _around(step: Mapping[str, Any]) -> int:
    """How many tokens a step of a post-processor adds, or how many pieces it puts together."""
    pieces = [step.get(name) for name in ("single", "pair")]
    special = step.get("special_tokens")
    named = special.values() if isinstance(special, dict) else ()
    ids = [one.get("ids") for one in named if isinstance(one, dict)]
    return max((len(one) for one in (*pieces, *ids) if isinstance(one, list)), default=0)
