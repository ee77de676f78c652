"""``written_out`` for a compiler: its passes over the vocabulary in a few kernels.

On a GPU every operation on a block reads and writes all of it, so the loss takes as long as there
are operations; ``torch.compile`` makes a few kernels of them. It takes some seconds once, which is
much for a short training, so ``pays`` says where it is done. With ``TORCH_COMPILE_DISABLE=1`` it
never is.
"""

import functools
import importlib.util
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tutelage.numerics import LOG_FLOOR

# Shape suffixes: r tokens of a block, V vocabulary.

LOG = logging.getLogger(__name__)

FEWEST_STEPS = 300
"""Steps of a training for which compiling is worth its seconds."""

FEWEST_TOKENS = 8192
"""Likewise the size of the vocabulary."""


def pays(device: torch.device, steps: int, vocab_size: int) -> bool:
    """Whether a training is worth compiling for, where that can be done.

    Args:
        device: where the loss is computed.
        steps: of the training.
        vocab_size: number of tokens.
    """
    worth = steps >= FEWEST_STEPS and vocab_size >= FEWEST_TOKENS
    return worth and device.type == "cuda" and importlib.util.find_spec("triton") is not None


def loss_and_gradient(
    logits_rV: Tensor,
    targets_r: Tensor,
    teacher_rV: Tensor,
    weights: tuple[Tensor, Tensor],
    temperatures: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Cross-entropy, forward KL to the teacher, and where both agree; the gradient for the logits.

    Args:
        logits_rV: the student's own, float32; overwritten by the gradient of the weighed sum.
        targets_r: the response tokens.
        teacher_rV: logits of the teacher, or its log-probabilities; read alone.
        weights: of cross-entropy, and of the difference of both distributions in the gradient:
            that of distillation, with its scale, divided by the student's temperature.
        temperatures: of the student and of the teacher; None for 1.

    Returns:
        Sums in float64, shape ``[3]``: cross-entropy, KL (neither of them weighed or scaled) and
        agreeing tokens.
    """
    label_weight, weight = weights
    is_label_rV = torch.arange(logits_rV.shape[1], device=logits_rV.device) == targets_r[:, None]
    logq_rV = logits_rV - logits_rV.logsumexp(-1, keepdim=True)
    soft_rV, teacher = logq_rV, teacher_rV
    if temperatures is not None:
        soft_rV = logits_rV / temperatures[0]
        soft_rV = soft_rV - soft_rV.logsumexp(-1, keepdim=True)
        teacher = teacher_rV / temperatures[1]
    logp_rV = (teacher - teacher.logsumexp(-1, keepdim=True)).clamp_min(LOG_FLOOR)
    p_rV = logp_rV.exp()
    ce_r = -logq_rV.gather(-1, targets_r[:, None]).squeeze(-1)
    kd_r = (p_rV * (logp_rV - soft_rV.clamp_min(LOG_FLOOR))).sum(-1)
    likeliest_rV = teacher_rV == teacher_rV.amax(-1, keepdim=True)
    wanted_r = logits_rV.masked_fill(~likeliest_rV, -torch.inf).amax(-1)
    agreed_r = wanted_r >= logits_rV.amax(-1)
    gradient_rV = weight * (soft_rV.exp() - p_rV)
    gradient_rV = gradient_rV + label_weight * (logq_rV.exp() - is_label_rV.to(logq_rV.dtype))
    sums = torch.stack([one.sum(dtype=torch.float64) for one in (ce_r, kd_r, agreed_r)])
    logits_rV.copy_(gradient_rV)
    return sums


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(loss_and_gradient)


def fused(
    logits_rV: Tensor,
    targets_r: Tensor,
    teacher_rV: Tensor,
    *,
    ce_weight: float,
    temperature: float,
    teacher_temperature: float,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """What ``written_out`` gives, the gradient in the memory of the logits; None: no compiler.

    Args:
        logits_rV: the student's own logits, float32.
        targets_r: the response tokens.
        teacher_rV: what the teacher's softmax is of.
        ce_weight: weight of cross-entropy.
        temperature: of the student.
        teacher_temperature: that ``teacher_rV`` is still to be divided by.
        scale: what distillation is multiplied by.
    """
    # A single row is a case of its own to a compiler, and there is nothing to be gained.
    if _failed or len(logits_rV) < 2:
        return None

    # Numbers would be part of the code, and a schedule's next one would compile it anew.
    def number(value: float) -> Tensor:
        return torch.full((), value, device=logits_rV.device)

    weights = (number(ce_weight), number((1.0 - ce_weight) * scale / temperature))
    plain = temperature == teacher_temperature == 1.0
    temperatures = None if plain else (number(temperature), number(teacher_temperature))
    for tensor in (logits_rV, targets_r, teacher_rV):
        torch._dynamo.maybe_mark_dynamic(tensor, 0)
    try:
        ce, kd, agreed = _compiled()(logits_rV, targets_r, teacher_rV, weights, temperatures)
    except Exception as error:
        # Whatever a compiler may lack on somebody's machine, the loss can do without it.
        _failed.append(error)
        LOG.warning(
            "The loss could not be compiled (%s: %s), so it runs operation by operation, which"
            " takes longer.",
            type(error).__name__,
            str(error).strip().partition("\n")[0],
        )
        return None
    return ce, scale * kd, agreed, logits_rV


_failed: list[Any] = []
"""Why compiling was given up, if it was."""
