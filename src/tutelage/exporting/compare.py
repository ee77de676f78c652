"""The logits of an exported model against those of the student that it was made from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor

from tutelage.errors import ModelError, RunFolderError
from tutelage.exporting.described import Compared
from tutelage.models.forward import own_forward

# Shape suffixes: T tokens, V vocabulary.

ROWS, TOKENS = 4, 64
"""So many rows, and so many of the tokens of each; their logits are kept in memory."""


def some_rows(folder: Path) -> list[list[int]]:
    """The first rows of the run's test data, or of what there is, as token ids.

    Raises:
        RunFolderError: the run's data are not there any more.
    """
    for split in ("test", "validation", "train"):
        place = folder / "data" / split
        if place.is_dir():
            rows: Any = datasets.load_from_disk(str(place))
            taken = rows.select(range(min(ROWS, len(rows))))["input_ids"]
            return [list(ids)[:TOKENS] for ids in taken if len(ids) > 1]
    raise RunFolderError(
        f"'{folder / 'data'}' holds no rows, so an exported model could not be compared with the"
        " student. Give the run's own command again, which mends it."
    )


@torch.no_grad()
def logits_of(model: Any, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """The logits of every position of each row, shape ``[T, V]``, on the CPU and in float32.

    The model reads in its own precision, one row at a time.
    """
    weight = next(model.parameters())
    found = []
    for ids in rows:
        row = torch.tensor([list(ids)], device=weight.device)
        with own_forward(model), torch.autocast(weight.device.type, enabled=False):
            output = model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False)
        found.append(output.logits[0].float().cpu())
    return found


def compared(before: Sequence[Tensor], after: Sequence[Tensor]) -> Compared:
    """Hold two lists of logits against each other.

    Raises:
        ModelError: a logit is not finite, or they are of other shapes.
    """
    for one, other in zip(before, after, strict=True):
        if one.shape != other.shape:
            raise ModelError(
                f"The exported model gives logits of shape {tuple(other.shape)} where the student"
                f" gives {tuple(one.shape)}. It was not kept. Its architecture does not survive"
                " saving: please report it."
            )
        if not other.isfinite().all():
            raise ModelError(
                "The exported model gives logits that are not finite, which the type of its weights"
                " cannot hold. It was not kept. Choose --dtype bfloat16 or float32."
            )
    tokens = sum(len(one) for one in before)
    pairs = list(zip(before, after, strict=True))
    same = sum(int((one.argmax(-1) == other.argmax(-1)).sum()) for one, other in pairs)
    return Compared(
        rows=len(before),
        tokens=tokens,
        largest=max((float((one - other).abs().max()) for one, other in pairs), default=0.0),
        agreement=same / max(tokens, 1),
        identical=all(torch.equal(one, other) for one, other in pairs),
    )


def check_finite(model: Any, dtype: str) -> None:
    """Refuse weights that are not finite.

    Raises:
        ModelError: with the first of them.
    """
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise ModelError(
                f"The weight '{name}' is not finite in {dtype}, so the model would answer nothing."
                " Nothing was written. Choose --dtype bfloat16 or float32; if it is float32"
                " already, the training itself went wrong (see its report)."
            )
