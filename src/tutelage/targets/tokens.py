"""Which tokens are learned from: scores, of which the highest are taken. Pure.

A score function takes log-probabilities of the student, shape ``[r, V]``, those of the teacher
(None where it is not asked) and which tokens the teacher names, as ``vouched`` does; it gives shape
``[r]``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.components import Component
from tutelage.numerics import expectation


def student_entropy(
    student_logp: Tensor, teacher_logp: Tensor | None, kept: Tensor | None
) -> Tensor:
    r"""Entropy of the student, :math:`-\sum_v q_v \log q_v`: where it does not know what follows.

    Args:
        student_logp: log q.
        teacher_logp: not used.
        kept: not used.

    Returns:
        Nats, shape ``[r]``.
    """
    return -expectation(student_logp, student_logp)


def confident_errors(
    student_logp: Tensor, teacher_logp: Tensor | None, kept: Tensor | None
) -> Tensor:
    r"""How much more the student believes its likeliest token than the teacher does.

    .. math:: q_{v^*} - p_{v^*}, \quad v^* = \arg\max_v q_v

    Near 1 where it is sure and wrong; near 0 where it is right, or sure of nothing.

    Args:
        student_logp: log q.
        teacher_logp: log p; of named tokens with the mass of all others last.
        kept: the named tokens, shape ``[r, K]``; another has p = 0.

    Returns:
        Shape ``[r]``, between -1 and 1.
    """
    assert teacher_logp is not None, "its row says that it needs the teacher"
    best_logp, best = student_logp.max(-1)
    where = best.unsqueeze(-1)
    if kept is None:
        p = teacher_logp.gather(-1, where).squeeze(-1).exp()
    else:
        p = (teacher_logp[..., :-1].exp() * (kept == where)).sum(-1)
    return best_logp.exp() - p


@dataclass(frozen=True)
class TokenChoice(Component):
    """A score of tokens.

    Attributes:
        needs_teacher: whether the teacher is asked about every token, and not about those that are
            chosen alone.
    """

    needs_teacher: bool = False


TOKEN_CHOICES: dict[str, TokenChoice] = {
    "student_entropy": TokenChoice(
        student_entropy,
        "tokens at which the student is least sure of what follows",
        "Tavor et al. 2026, arXiv:2602.01395",
    ),
    "confident_errors": TokenChoice(
        confident_errors,
        "tokens at which the student is sure, and the teacher of something else",
        "after Xu et al. 2026, arXiv:2604.14084",
        needs_teacher=True,
    ),
}
"""Choices of the tokens that are learned from; `tutelage ls token_choices` prints them."""


def kept_counts(counts_B: Tensor, share: float) -> Tensor:
    """How many tokens of each row are learned from: a share of them, rounded up.

    Args:
        counts_B: tokens of each row.
        share: in (0, 1].

    Returns:
        Shape ``[B]``; at least 1 where a row has any.
    """
    return torch.ceil(counts_B.double() * share - 1e-9).long().clamp_min(1).minimum(counts_B)


def highest(scores_N: Tensor, counts_B: Tensor, share: float) -> Tensor:
    """Places of the tokens with the highest scores in each row, in reading order.

    A row is an answer: so what is chosen does not depend on how a step is cut up. Of equal scores
    the earlier token is taken.

    Args:
        scores_N: of the tokens of all rows, one row after another.
        counts_B: tokens of each row.
        share: of them that is taken; see ``kept_counts``.
    """
    row_N = torch.arange(len(counts_B), device=counts_B.device).repeat_interleave(counts_B)
    order = scores_N.argsort(descending=True, stable=True)
    order = order[row_N[order].argsort(stable=True)]
    starts = counts_B.cumsum(0) - counts_B
    rank = torch.arange(len(order), device=order.device) - starts[row_N]
    return order[rank < kept_counts(counts_B, share)[row_N]].sort().values
