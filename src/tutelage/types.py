"""The values that travel between the parts: all frozen, none with behaviour beyond reading itself.

``Example`` -> ``DifficultyProfile`` -> ``Plan`` (a tuple of ``Stage`` and of steps) ->
``Evaluation``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import DataError
from tutelage.ids import Ids

LARGEST_SCORE = 1e100
"""Of a difficulty: sums and squares of numbers below it stay finite."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: who speaks.
        content: the text; may be empty where a turn is a call alone.
        extra: what else the turn has (``tool_calls``, ``reasoning_content``...), handed to the chat
            template as it is.
        learned: whether a turn of the assistant is learned; a ``weight`` of 0 in the file says no.
    """

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    learned: bool = True


@dataclass(frozen=True)
class Example:
    """One training or evaluation example, as the user's file gave it.

    Attributes:
        id: unique within its split; kept from the file, or made from the content.
        fields: the columns that a template may name, for example ``{"instruction": ..., "input":
            ...}``.
        completion: the answer to learn, without template or end-of-sequence token.
        references: accepted answers for evaluation; ``(completion,)`` unless the file has several.
        messages: the whole conversation when the file has one, ending with the assistant's turn.
        group: a label by which results are reported (a level, a task); empty when there is none.
        tools: the functions that the conversation may call, handed to the chat template.
        columns: further columns of the file that were asked for, as text; no template names them.
        system: a system text in place of the one that all examples get, empty for none; None where
            its source names none.
    """

    id: str
    fields: Mapping[str, str]
    completion: str
    references: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    group: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    system: str | None = None

    def system_or(self, general: str | None) -> str | None:
        """The system text that it gets where all get ``general``; None or empty for none."""
        return general if self.system is None else self.system


@dataclass(frozen=True)
class DifficultyProfile:
    r"""One score per example id, higher = harder, with its running mean (CPD section 3.1).

    With examples sorted by ``(score, id)`` the running mean is
    :math:`\bar L(k) = \frac1k \sum_{j \le k} L_{s_j}`, accumulated in float64.

    Attributes:
        ids: example ids in the order of the data set; any sequence of strings will do.
        scores: float64, shape ``[N]``, in the unit of the measure (nats per token for
            cross-entropy).
        measure: the name of the difficulty, for example ``"student_loss"``.

    Raises:
        DataError: no example, ids that repeat, lengths that differ, or a score that is not finite.

    References:
        Zhang and Liu, Calibrated Progressive Distillation, Findings of ACL 2026.
    """

    ids: Ids
    scores: NDArray[np.float64]
    measure: str

    def __init__(
        self, ids: Sequence[str], scores: NDArray[np.float64], measure: str = "student_loss"
    ) -> None:
        scores = np.asarray(scores, dtype=np.float64)
        scores.setflags(write=False)
        object.__setattr__(self, "ids", Ids.of(ids))
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "measure", measure)
        if not self.ids:
            raise DataError(
                "A difficulty profile needs at least one example; there is none. Give some."
            )
        if scores.shape != (len(self.ids),):
            raise DataError(
                f"{len(self.ids)} ids came with scores of shape {scores.shape}."
                " Give one score for each id."
            )
        check_unique(self.ids)
        bad = np.flatnonzero(~(np.abs(scores) < LARGEST_SCORE))
        if bad.size:
            first = int(bad[0])
            raise DataError(
                f"The difficulty of example '{self.ids[first]}' is {scores[first]}"
                f" ({bad.size} such in all), and a difficulty is a number below"
                f" {LARGEST_SCORE:g}. Remove these examples or mend the measure."
            )

    @classmethod
    def level(cls, ids: Sequence[str]) -> "DifficultyProfile":
        """Examples of which none is harder than another: for plans without an order."""
        return cls(ids, np.zeros(len(ids)), "none")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def order(self) -> NDArray[np.integer]:
        """Positions from easiest to hardest, shape ``[N]``; ties are broken by id."""
        order = self.ids.order_by(self.scores)
        order.setflags(write=False)
        return order

    @cached_property
    def sorted_scores(self) -> NDArray[np.float64]:
        """Scores from easiest to hardest, shape ``[N]``."""
        return self.scores[self.order]

    @cached_property
    def running_mean(self) -> NDArray[np.float64]:
        """Mean difficulty of the k easiest examples for k = 1..N, shape ``[N]``; never falls."""
        means = np.cumsum(self.sorted_scores)
        means /= np.arange(1, len(self) + 1)
        # Rounding may lower a mean by one ulp among ties; the definition says that it never falls.
        return np.maximum.accumulate(means, out=means)


@dataclass(frozen=True)
class Stage:
    """A span of optimizer steps with one subset and one teacher.

    Attributes:
        stage: number, from 1.
        num_examples: size of the subset.
        mean_difficulty: mean score of the subset, in the unit of the profile.
        target_difficulty: the mean that the curriculum aimed at; None when it aims at none.
        passes: how often the subset is visited, as asked; may be fractional.
        steps: optimizer steps.
        student_share: share of the student in the target; mean over the steps of the stage.
        distill_temperature: softens teacher and student; mean over the steps of the stage.
        ce_weight: weight of cross-entropy in the loss; mean over the steps of the stage.
        second_share: share of the second divergence; mean over the steps of the stage.
        token_share: share of the tokens that is learned from; mean over the steps of the stage.
        teacher: names of the teachers, empty when no step of the stage has anything from one.
    """

    stage: int
    num_examples: int
    mean_difficulty: float
    target_difficulty: float | None
    passes: float
    steps: int
    student_share: float
    distill_temperature: float
    ce_weight: float
    second_share: float
    token_share: float
    teacher: str

    def as_dict(self) -> dict[str, Any]:
        """The stage as plain values, in the order of its fields."""
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """For every optimizer step: its examples, its stage and its scheduled values.

    The trainer carries it out and decides nothing. Shapes: M visits, S steps.

    Attributes:
        ids: all example ids, in the order of the profile.
        visits: positions in ``ids`` in the order of training, shape ``[M]``, int32 where that will
            do.
        offsets: step s uses ``visits[offsets[s]:offsets[s + 1]]``, shape ``[S + 1]``, int64.
        step_stage: number of the stage of each step, from 1, shape ``[S]``, int64.
        student_share: share of the student in the target, shape ``[S]``.
        distill_temperature: softens teacher and student, shape ``[S]``.
        ce_weight: weight of cross-entropy; distillation has the rest, shape ``[S]``.
        second_share: share of the second divergence in distillation, shape ``[S]``.
        token_share: share of each answer's tokens that is learned from, shape ``[S]``.
        lr_factor: learning rate as a part of its peak, shape ``[S]``.
        on_policy: whether a step trains on answers that the student writes itself, shape ``[S]``.
        restarts: steps (from 0) that begin with a new optimizer, shape ``[R]``, int64.
        teachers: names of the teachers from weak to strong.
        visit_teacher: index in ``teachers`` for each visit, shape ``[M]``, the smallest unsigned
            type that will do. Where a step takes logits from a teacher, all its visits have the
            same one.
        visit_weight: how much each visit counts in the loss of its step, shape ``[M]``; empty where
            all count alike. Only the ratios within a step matter.
        stages: the stages in order.
        batch_size: examples of a full step, over all processes.
        curriculum: name of the curriculum.
        seed: what the shuffling was drawn from.
        baseline_steps: steps of the plain shuffled run that this plan is compared with.
        baseline_epochs: passes of that plain run over the data.
        baseline_lr_mean: mean of its learning-rate factor.
    """

    ids: Ids
    visits: NDArray[np.integer]
    offsets: NDArray[np.int64]
    step_stage: NDArray[np.int64]
    student_share: NDArray[np.float64]
    distill_temperature: NDArray[np.float64]
    ce_weight: NDArray[np.float64]
    second_share: NDArray[np.float64]
    token_share: NDArray[np.float64]
    lr_factor: NDArray[np.float64]
    on_policy: NDArray[np.bool_]
    restarts: NDArray[np.int64]
    teachers: tuple[str, ...]
    visit_teacher: NDArray[np.integer]
    visit_weight: NDArray[np.float64]
    stages: tuple[Stage, ...]
    batch_size: int
    curriculum: str
    seed: int
    baseline_steps: int
    baseline_epochs: float
    baseline_lr_mean: float

    @property
    def total_steps(self) -> int:
        """Number of optimizer steps."""
        return len(self.step_stage)

    @property
    def num_examples(self) -> int:
        """Number of examples in the data, visited or not."""
        return len(self.ids)

    def positions(self, step: int) -> NDArray[np.integer]:
        """Positions in ``ids`` of the examples of a step (from 0)."""
        return self.visits[self.offsets[step] : self.offsets[step + 1]]

    def weights_of(self, step: int) -> dict[str, float]:
        """How much each example of a step (from 0) counts; empty where all count alike."""
        if not len(self.visit_weight):
            return {}
        span = slice(self.offsets[step], self.offsets[step + 1])
        weights = self.visit_weight[span].tolist()
        return dict(zip((self.ids[i] for i in self.visits[span]), weights, strict=True))

    def stage_of(self, step: int) -> Stage:
        """The stage that a step (from 0) belongs to."""
        return self.stages[int(self.step_stage[step]) - 1]

    def teacher_of(self, step: int) -> str:
        """The teacher whose logits a step (from 0) takes, if it takes any."""
        return self.teachers[int(self.visit_teacher[self.offsets[step]])]

    @property
    def takes_logits(self) -> NDArray[np.bool_]:
        """Whether each step takes logits from a teacher, shape ``[S]``.

        With the student's share at 1 its target is the student itself.
        """
        return (self.ce_weight < 1.0) & (self.student_share < 1.0)

    def has_teacher_signal(self) -> bool:
        """Whether any step takes logits from a teacher."""
        return bool(self.takes_logits.any())


@dataclass(frozen=True)
class Score:
    """One metric of an evaluation.

    Attributes:
        mean: mean over seeds of the mean over examples.
        seeds: the mean over examples for each sampling seed (one entry when greedy).
        interval: 95 % interval of the mean, by bootstrap over examples.
        groups: mean by group label; empty when examples have no group.
    """

    mean: float
    seeds: tuple[float, ...]
    interval: tuple[float, float]
    groups: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What a model scored on one data set.

    Attributes:
        num_examples: how many prompts were answered (once for each seed).
        scores: metric name to its score; every metric is better when higher unless its name says
            so.
        answers: the generated text by example id, of the first seed.
        truncated: share of answers that hit the length limit instead of ending by themselves.
    """

    num_examples: int
    scores: Mapping[str, Score]
    answers: Mapping[str, str]
    truncated: float = 0.0


def check_unique(ids: Sequence[str]) -> None:
    """Raise a ``DataError`` that names the ids which occur more than once."""
    repeated = Ids.of(ids).repeats()
    if repeated:
        raise DataError(
            f"{len(repeated)} example ids repeat, for example '{repeated[0]}'. Ids must be unique:"
            " rename them, or leave the id column out and ids are made from the content."
        )


@dataclass(frozen=True)
class Ledger:
    """What one arm spends if it is alone: what it shares with others it pays in full.

    Attributes:
        updates: optimizer steps.
        student_tokens: tokens that the student reads in them, those of its own answers too.
        flops: floating-point operations by what they are for: training, teacher, generation,
            difficulty, texts. Parameters x tokens x 2 for a forward pass and three times that for
            a step; attention over long contexts is left out.
        seconds: of this machine, by stage; empty before the arm is trained.
    """

    updates: int
    student_tokens: int
    flops: dict[str, float]
    seconds: dict[str, float]

    def amount(self, currency: str) -> float:
        """The total in ``updates``, ``student_tokens``, ``flops`` or ``seconds``."""
        value = getattr(self, currency)
        return float(sum(value.values()) if isinstance(value, dict) else value)

    def as_dict(self) -> dict[str, Any]:
        """The ledger as plain values."""
        return asdict(self)
