"""Solved problems in front of a question, for models that are not tuned to be asked."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.errors import ConfigError


@dataclass(frozen=True)
class Shot:
    """A solved problem.

    Attributes:
        id: of its row, so that no question is asked with its own solution.
        asked: the problem as it is written in a prompt, up to where its solution begins.
        solution: what follows, with what stands between the two.
    """

    id: str
    asked: str
    solution: str

    @property
    def text(self) -> str:
        """Problem and solution."""
        return self.asked + self.solution


def drawn_shots(shots: Sequence[Shot], count: int, seed: int, where: str) -> list[Shot]:
    """Some solved problems, the same in any order of the file, and one to spare.

    Args:
        shots: all there are.
        count: how many a prompt has.
        seed: of the draw.
        where: the file, for messages.

    Raises:
        ConfigError: there are not that many.
    """
    if len(shots) < count:
        raise ConfigError(
            f"'{where}' has {len(shots)} solved problems, and {count} are to stand in front of each"
            f" question. Ask for fewer, as in shots={len(shots)}, or give a larger file."
        )
    in_order = sorted(shots, key=lambda shot: shot.id)
    return random.Random(seed).sample(in_order, min(count + 1, len(in_order)))


def before(question: str, shots: Sequence[Shot], count: int, *, without: str = "") -> str:
    """A prompt: solved problems, then the question.

    Args:
        question: how it is asked.
        shots: what :func:`drawn_shots` gave.
        count: how many of them.
        without: the id of the question itself, whose solution must not be among them.
    """
    used = [shot for shot in shots if shot.id != without and shot.asked != question][:count]
    return "\n\n".join([*(shot.text for shot in used), question])


def examples_file(data: str, examples: str, count: int, suite: str) -> str:
    """The file with solved problems.

    Args:
        data: the file that is asked, beside which one called ``train`` is looked for.
        examples: the file that was named; empty for none.
        count: how many problems are wanted.
        suite: for messages.

    Returns:
        A path; empty when no problem is wanted.

    Raises:
        ConfigError: there is none.
    """
    if examples or not count:
        return examples
    path = Path(data).expanduser()
    for name in ("test", "dev", "validation"):
        beside = path.with_name(path.name.replace(name, "train"))
        if name in path.name and beside.is_file():
            return str(beside)
    raise ConfigError(
        f"The suite '{suite}' puts {count} solved problems in front of each question, and no file"
        f" has them. Name one, such as the training set ({suite}.examples=train.jsonl); or ask"
        f" without ({suite}.shots=0); or ask as a conversation, which needs none"
        f" ({suite}.prompt=chat)."
    )
