"""What a model says about a few texts, so that a saved model can be compared with its original."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage.errors import ModelError
from tutelage.files import atomic_write_json, read_json
from tutelage.models.forward import own_forward

RECORD = "check.json"
_ROWS = 4
_TOKENS = 128
_TOLERANCE = {True: (1e-3, 1e-3), False: (5e-2, 2e-2)}
"""Nats for each token that are rounding: so many, and so much of the loss; by whether it is of 32
bits or more. Adapters that are merged into 16 bits are rounded there."""


@dataclass(frozen=True)
class Behaviour:
    """How likely a model finds the next tokens of some texts.

    Attributes:
        texts: token ids of each.
        logp: natural logarithm of the probability of every token but the first, all in a row.
        exact: whether the weights have 32 bits or more.
    """

    texts: tuple[tuple[int, ...], ...]
    logp: tuple[float, ...]
    exact: bool

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        return -sum(self.logp) / max(len(self.logp), 1)

    def write(self, folder: Path) -> None:
        """Write it beside a model; not where a number is NaN, which is no behaviour."""
        if not all(map(math.isfinite, self.logp)):
            return
        atomic_write_json(
            folder / RECORD, {"texts": self.texts, "logp": self.logp, "exact": self.exact}
        )


def read_behaviour(folder: Path) -> Behaviour | None:
    """What ``Behaviour.write`` wrote, or None."""
    if not (folder / RECORD).is_file():
        return None
    value = read_json(folder / RECORD)
    return Behaviour(tuple(map(tuple, value["texts"])), tuple(value["logp"]), value["exact"])


def some_texts(rows: Any) -> tuple[tuple[int, ...], ...]:
    """The beginnings of a few tokenized examples, as ``behaviour`` takes them."""
    first = rows.select(range(min(_ROWS, len(rows))))["input_ids"]
    return tuple(tuple(ids[:_TOKENS]) for ids in first if len(ids) > 1)


@torch.no_grad()
def behaviour(model: Any, texts: Sequence[Sequence[int]]) -> Behaviour:
    """How likely a model finds some texts, in its own precision and without dropout.

    Args:
        model: a causal language model, possibly with adapters; left as it was.
        texts: token ids, at least two each.
    """
    weight = next(model.parameters())
    was_training = model.training
    model.eval()
    found: list[float] = []
    try:
        for ids in texts:
            row = torch.tensor([list(ids)], device=weight.device)
            with own_forward(model), torch.autocast(weight.device.type, enabled=False):
                output = model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False)
            logits = output.logits[0, :-1]
            logp = torch.log_softmax(logits.double() if logits.itemsize > 4 else logits.float(), -1)
            found += logp.gather(-1, row[0, 1:, None])[:, 0].tolist()
    finally:
        model.train(was_training)
    return Behaviour(tuple(map(tuple, texts)), tuple(found), weight.dtype.itemsize >= 4)


def check_saved(load: Callable[[], Any], before: Behaviour, what: str) -> None:
    """Load a model again and compare it with the one that was saved.

    Args:
        load: gives the saved model.
        before: of the model that was saved.
        what: names it, for the message.

    Raises:
        ModelError: they differ by more than rounding.
    """
    after = behaviour(load(), before.texts)
    share = sum(abs(a - b) for a, b in zip(after.logp, before.logp, strict=True))
    share /= max(len(before.logp), 1)
    floor, slope = _TOLERANCE[before.exact and after.exact]
    if not share <= floor + slope * abs(before.loss):
        raise ModelError(
            f"{what} is not the model that was trained: loaded again, its loss on"
            f" {len(before.texts)} examples is {after.loss:.4g} nats, and it was"
            f" {before.loss:.4g} before saving (a token differs by {share:.2g} on average). It was"
            " not kept; the checkpoints are. The model's architecture does not survive saving:"
            " please report it."
        )
