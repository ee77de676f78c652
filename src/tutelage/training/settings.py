"""What a distillation is told beside its plan; a recipe knows it without what training needs."""

from dataclasses import dataclass
from typing import Literal

from tutelage.errors import ConfigError
from tutelage.generation.settings import GenerationSettings
from tutelage.settings import check_settings, count, setting


@dataclass(frozen=True)
class DistillSettings:
    """What a distillation adds to the arguments of a trainer.

    Attributes:
        divergence: name in ``DIVERGENCES``.
        target: name in ``TARGETS``.
        second_divergence: name in ``DIVERGENCES`` of the one that ``second_share`` is of.
        tokens: name in ``TOKEN_CHOICES`` of what chooses the tokens that ``token_share`` is of.
        ce_trust: which labels cross-entropy believes; see ``targets.vouched``.
        state_weight: of the distance between hidden states; see ``training.matched_states``.
        state_floor: directions of the teacher's states that vary less than this count less.
        tau2_scaling: multiply the divergence by the temperature squared, whichever it is.
        sampled: on on-policy steps, the one-sample estimate of reverse KL; see ``DistillLoss``.
        top_k: compare so many of the teacher's likeliest tokens, and all the others as one.
        tile_tokens: response tokens whose logits are in memory at once.
        padding_free: run a batch as one row without padding, where the model can.
        micro_batch_tokens: most tokens of the parts that micro-batches are cut into.
        keep_checkpoints: how many complete checkpoints stay.
        shard: what is cut over the processes, see ``models.shards``.

    Raises:
        ConfigError: a value out of its range.
    """

    divergence: str = setting("forward_kl", "How far the student is from its target.")
    target: str = setting("probability_mix", "What the student is pulled towards.")
    second_divergence: str | None = setting(
        None, "Another one that takes its place by `second_share`."
    )
    tokens: str | None = setting(
        None, "Which tokens are learned from by `token_share`; see `tutelage ls token_choices`."
    )
    ce_trust: Literal["all", "agreed", "probability"] = setting(
        "all",
        "Cross-entropy on all tokens, where the label is the teacher's likeliest token, or by the"
        " teacher's probability of the label.",
    )
    state_weight: float = setting(
        0.0,
        "Weight of the distance between the states before the heads: the teacher's, whitened,"
        " against the best linear map of the student's. 0: none.",
        ge=0,
        le=1_000_000,
    )
    state_floor: float = setting(
        0.01,
        "Directions of the teacher's states that vary less than this count less; the mean"
        " direction varies by 1.",
        gt=0,
        le=1_000_000,
    )
    tau2_scaling: bool = setting(True, "Multiply KD by the temperature squared.")
    sampled: bool = setting(
        False, "On-policy steps: compare at the tokens that were drawn alone, not at all tokens."
    )
    top_k: int | None = count(
        None, "Compare the teacher's k likeliest tokens and one tail bucket alone."
    )
    tile_tokens: int | None = count(
        None, "Tokens whose logits are in memory at once; None: 512 MB."
    )
    padding_free: bool | None = setting(
        None,
        "Run a batch as one row without padding, where the model can; none: on CPUs, and on GPUs in"
        " 16 bits.",
    )
    micro_batch_tokens: int | None = count(
        None, "Cut micro-batches further, into parts of so many tokens at most."
    )
    keep_checkpoints: int = count(2, "How many checkpoints stay.")
    shard: Literal["none", "student", "teacher", "both"] = setting(
        "none",
        "With several processes, whose weights are cut over them (FSDP2): the student's with"
        " gradients and optimizer, a live teacher's, or both.",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.sampled and self.second_divergence is not None:
            raise ConfigError(
                "sampled=True estimates reverse KL alone. Leave second_divergence out, or sampled."
            )
        if self.sampled and self.divergence != "reverse_kl":
            raise ConfigError(
                f"sampled=True estimates reverse KL, and the divergence is '{self.divergence}':"
                " other divergences are no expectation over the student's tokens. Set it to"
                " reverse_kl, or leave sampled out."
            )


def parts_of(shard: str, whose: Literal["student", "teacher"], processes: int) -> int:
    """Into how many parts a model is cut in training; 1: every process has all of it.

    Args:
        shard: what is cut, as ``DistillSettings`` says it.
        whose: which model.
        processes: how many share the training.
    """
    return processes if shard in (whose, "both") else 1


def why_not_weighed(
    clip: float, settings: GenerationSettings, *, kept: bool, mended: bool
) -> str | None:
    """Why answers that are learned from again cannot be weighed by how likely they are now.

    Args:
        clip: the greatest weight.
        settings: how the answers are drawn.
        kept: whether any answer is learned from again.
        mended: whether a teacher draws some of the tokens.

    Returns:
        What follows the name of the setting in a message; None where they can.
    """
    if not clip >= 1.0:
        return f"is the greatest weight, 1 or greater, and is {clip:g}."
    if not kept:
        return "weighs answers that are learned from again, and none is: set `reuse` or `adaptive`."
    if mended:
        return (
            "holds what the student would write now against what it drew, and with `teacher_top_k`"
            " the teacher draws some of the tokens. Leave one of the two out."
        )
    if settings.greedy:
        return (
            "is a ratio of probabilities of what was drawn, and with `sampling_temperature` 0"
            " nothing is drawn. Set it to 1, or leave `importance` out."
        )
    if settings.top_p < 1.0 or settings.top_k:
        return (
            "would miss what the student writes now and could not have been drawn before: `top_p`"
            " and `top_k` cut the distributions. Leave these two out, or `importance`."
        )
    return None
