r"""How much a token of an older answer counts for the student as it is now.

A loss on the student's own answers is an expectation over the prefixes that it writes. An answer
that is learned from again has prefixes of an earlier student; the divergence after each of them is
exact and new, but they come as often as that student wrote them. The weight of a token puts that
right: what the student now writes more often than before counts more.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.generation.engines.local import asking
from tutelage.generation.likelihood import token_log_probs
from tutelage.generation.requests import Pair
from tutelage.models.head import causal_lm
from tutelage.training.own_answers import OwnAnswers
from tutelage.training.rollouts import Rollout

# Shape suffixes: n tokens of an answer.


def prefix_weights(now_n: Tensor, then_n: Tensor, clip: float, *, through: bool = False) -> Tensor:
    r"""The weight of each token of an answer, a constant of the loss.

    .. math:: w_t = \min\Big(c, \prod_{s<t} \frac{\pi_{now}(x_s)}{\pi_{then}(x_s)}\Big)

    Without the clip the sum of w_t f(x_1 ... x_{t-1}) over the tokens of answers of the student
    then has the expectation of the sum of f over those of the student now. With it the weights
    are bounded, and prefixes that became much likelier count for less than they should.

    Args:
        now_n: log-probabilities of the tokens under the student now.
        then_n: under the one that drew them, at the same temperature.
        clip: c, the greatest weight.
        through: with the token itself (s <= t), for a loss that looks at the drawn token too.

    Returns:
        Float64, shape ``[n]``.
    """
    ratios_n = now_n.double() - then_n.double()
    if not through:
        ratios_n = torch.cat([ratios_n.new_zeros(1), ratios_n[:-1]])[: len(ratios_n)]
    return ratios_n.cumsum(0).exp().clamp_max(clip)


@torch.no_grad()
def drawn_log_probs(model: nn.Module, rollouts: Sequence[Rollout], own: OwnAnswers) -> list[Tensor]:
    """Log-probability of each token of some answers under a student, as it would draw them.

    That is without dropout, at the temperature of the sampling and over the tokenizer's tokens. An
    answer is scored in this way when it is written and when it is learned from again, so that the
    ratio of the two holds what the student learned, and not that reading a text at once rounds
    otherwise than writing it token by token.

    Args:
        model: the student; it is left as it was.
        rollouts: the answers.
        own: how they are drawn.
    """
    inner: Any = causal_lm(model)
    pairs = [Pair((*one.prompt, *one.tokens), len(one.prompt)) for one in rollouts]
    with asking(inner, own.settings):
        return token_log_probs(
            inner,
            pairs,
            temperature=own.settings.sampling_temperature,
            vocab_size=len(own.tokenizer),
            pad_token_id=0,
            batch_tokens=own.settings.batch_tokens,
        )


def with_mean_one(
    batches: Sequence[dict[str, Any]],
    over_processes: Callable[[Tensor], Tensor],
    device: torch.device,
) -> list[dict[str, Any]]:
    r"""Micro-batches of a step whose weights are divided by their mean over the whole step.

    The loss of a step on new answers is the sum of a divergence over their tokens, divided by the
    number of these. Both are sums over prefixes, and both are weighted: the weighted sum of the
    divergence is divided by the sum of the weights. So the step estimates what a step on new
    answers would have, also where these would be longer or shorter than the old ones, and
    clipping does not shrink it as a lower learning rate would. The price is a bias that falls with
    the number of answers, as of any such ratio; dividing by the number of tokens has none, but is
    right only for answers that are as long as before.

    Args:
        batches: of this process, each with ``weights``: a tensor for each row.
        over_processes: gives the sum of a tensor over all processes.
        device: where they add up.
    """
    rows = [weights for batch in batches for weights in batch["weights"]]
    mine = [sum(float(one.sum()) for one in rows), float(sum(map(len, rows)))]
    total, count = over_processes(torch.tensor(mine, dtype=torch.float64, device=device)).tolist()
    factor = count / total if total else 1.0
    return [
        {**batch, "weights": [(one * factor).float() for one in batch["weights"]]}
        for batch in batches
    ]
