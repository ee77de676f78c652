"""What students wrote while they learned, kept on disk with what the teacher says of it.

A file holds the rollouts that one process wrote at one step: tokens, and for each token that the
student wrote the row from which the teacher's signal predicts it (its last hidden state) and, where
it is asked for, how likely the student that wrote it was to write it. So a
rollout can be learned from again: the teacher need not run, nothing is generated, and the student's
distributions are computed anew, by the student as it is then. Only the text is stale.
"""

import json
import logging
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tutelage.files import atomic_write_bytes, remove_directory

LOG = logging.getLogger(__name__)

ROLLOUTS = "rollouts"
"""What their folder is called, beside the checkpoints."""

Place = tuple[int, int]
"""Step, and number of the visit within it: they name a rollout."""

_OF_TOKENS = ("states", "logprobs")
"""What may be kept for each token of an answer."""


@dataclass(frozen=True)
class Rollout:
    """One answer of the student as a row to learn from.

    Attributes:
        id: of the example whose prompt was answered.
        step: the optimizer step (from 0) before which it was written.
        place: number of the visit within that step.
        prompt: tokens that were given.
        tokens: tokens that the student wrote, with what ended them.
        truncated: whether the length limit ended it.
        logprobs: of each token under the student that wrote it, at the temperature it was drawn
            with, in nats, shape ``[n]``; None where not known.
        states: what the teacher's signal encodes each token to, shape ``[n, H]``; None where the
            teacher was not asked yet.
        kept: how many of its tokens are the student's own, where its teacher mends them; None
            where all are. Not kept.
        weights: how much each token counts in the step that learns from it, shape ``[n]``; None
            where all count alike. Of that step alone, and not kept.
    """

    id: str
    step: int
    place: int
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    truncated: bool = False
    logprobs: Tensor | None = None
    states: Tensor | None = None
    kept: int | None = None
    weights: Tensor | None = None


class RolloutStore:
    """A folder of rollouts; several processes may write, each its own files.

    Args:
        folder: made when it is not there.
        process: number of this process.
    """

    def __init__(self, folder: str | Path, process: int = 0) -> None:
        self.folder = Path(folder)
        self.process = process

    def write(self, step: int, rollouts: Sequence[Rollout]) -> None:
        """Write what this process wrote at a step; the file is there wholly or not at all.

        Raises:
            RunFolderError: the disk is full.
        """
        if not rollouts:
            return
        prompts = [len(one.prompt) for one in rollouts]
        answers = [len(one.tokens) for one in rollouts]
        tensors = {
            "tokens": torch.tensor(
                [token for one in rollouts for token in (*one.prompt, *one.tokens)],
                dtype=torch.int32,
            ),
            "lengths": torch.tensor([prompts, answers], dtype=torch.int32),
            "places": torch.tensor([one.place for one in rollouts], dtype=torch.int64),
            "truncated": torch.tensor([one.truncated for one in rollouts]),
        }
        for name in _OF_TOKENS:
            rows = [getattr(one, name) for one in rollouts]
            if all(row is not None for row in rows):
                tensors[name] = torch.cat(rows).cpu().contiguous()
        about = {
            "ids": json.dumps([one.id for one in rollouts]),
            "step": str(step),
            "crc32": json.dumps(_checksums(tensors)),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(self._file(step, self.process), save(tensors, metadata=about))

    def read(self, wanted: Iterable[Place]) -> dict[Place, Rollout]:
        """Rollouts by place; those that are not there, or damaged, are left out.

        Args:
            wanted: their places.
        """
        by_step: dict[int, set[Place]] = {}
        for place in wanted:
            by_step.setdefault(place[0], set()).add(place)
        found: dict[Place, Rollout] = {}
        for step, places in by_step.items():
            for file in sorted(self.folder.glob(f"step-{step:08d}-*.safetensors")):
                if places - found.keys():
                    found |= _read(file, step, places)
        return found

    def forget(self, steps: Iterable[int]) -> None:
        """Remove what all processes wrote at some steps; they may all do so."""
        for step in steps:
            for file in self.folder.glob(f"step-{step:08d}-*.safetensors"):
                file.unlink(missing_ok=True)

    @property
    def steps(self) -> list[int]:
        """The steps at which what is there was written."""
        files = self.folder.glob("step-*.safetensors")
        return sorted({int(file.name.split("-")[1]) for file in files})

    def clear(self) -> None:
        """Remove everything, of all processes."""
        remove_directory(self.folder)

    def _file(self, step: int, process: int) -> Path:
        return self.folder / f"step-{step:08d}-{process:04d}.safetensors"


def _checksums(tensors: dict[str, Tensor]) -> dict[str, int]:
    return {name: zlib.crc32(_bytes(tensor)) for name, tensor in tensors.items()}


def _bytes(tensor: Tensor) -> Any:
    """The memory of a tensor on the CPU, for whoever reads buffers."""
    return tensor.contiguous().view(torch.uint8).numpy()


def _read(file: Path, step: int, places: set[Place]) -> dict[Place, Rollout]:
    """The wanted rollouts of a file; none of one that is not as it was written."""
    try:
        with safe_open(str(file), framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            about: dict[str, Any] = opened.metadata() or {}
        if _checksums(tensors) != json.loads(about["crc32"]):
            raise ValueError("its content does not match its checksums")
        return dict(_rows(tensors, json.loads(about["ids"]), step, places))
    except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
        LOG.warning("'%s' is damaged (%s): what was written there is written anew", file, error)
        return {}


def _rows(
    tensors: dict[str, Tensor], ids: Sequence[str], step: int, places: set[Place]
) -> Iterable[tuple[Place, Rollout]]:
    prompts, answers = tensors["lengths"].tolist()
    of_tokens: dict[str, Any] = {name: tensors[name] for name in _OF_TOKENS if name in tensors}
    tokens, start, first = tensors["tokens"].tolist(), 0, 0
    truncated = tensors["truncated"].tolist()
    for number, place in enumerate(tensors["places"].tolist()):
        middle = start + prompts[number]
        end, last = middle + answers[number], first + answers[number]
        if (step, place) in places:
            yield (
                (step, place),
                Rollout(
                    ids[number],
                    step,
                    place,
                    tuple(tokens[start:middle]),
                    tuple(tokens[middle:end]),
                    bool(truncated[number]),
                    **{name: rows[first:last] for name, rows in of_tokens.items()},
                ),
            )
        start, first = end, last
