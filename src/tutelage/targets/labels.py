"""How far a teacher vouches for a label of the data."""

from typing import Literal

import torch
from torch import Tensor


def vouched(
    teacher_logp: Tensor,
    labels: Tensor,
    *,
    how: Literal["agreed", "probability"],
    kept: Tensor | None = None,
) -> Tensor:
    r"""Weight of each label, in [0, 1]: labels that the teacher doubts teach less.

    With y the label, :math:`1[p_y = \max_v p_v]` where ``how`` is ``"agreed"``, and :math:`p_y`
    where it is ``"probability"``.

    Args:
        teacher_logp: log p at temperature 1, shape ``[r, V]``; of named tokens ``[r, K + 1]``, with
            the mass of all others last.
        labels: tokens of the data, shape ``[r]``.
        how: which of the two.
        kept: the named tokens, shape ``[r, K]``; a label that is not among them has weight 0.

    Returns:
        Shape ``[r]``; no gradient flows into it.
    """
    where = labels.unsqueeze(-1)
    if kept is None:
        of_label = teacher_logp.gather(-1, where).squeeze(-1)
    else:
        # The tail is no token: it is never the likeliest.
        teacher_logp = teacher_logp[..., :-1]
        of_label = teacher_logp.masked_fill(kept != where, -torch.inf).amax(-1)
    if how == "agreed":
        return (of_label >= teacher_logp.amax(-1)).to(teacher_logp.dtype).detach()
    return of_label.exp().detach()
