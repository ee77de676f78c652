"""What several answers to one question are worth."""

import numpy as np

from tutelage.errors import DataError


def pass_at_k(num_right: int, num_answers: int, k: int) -> float:
    r"""The chance that at least one of ``k`` answers is right, without bias.

    .. math:: 1 - \binom{n - c}{k} \Big/ \binom{n}{k} = 1 - \prod_{i=n-c+1}^{n} (1 - k / i)

    It is what drawing k of the n answers without replacement gives; :math:`1 - (1 - c/n)^k` is too
    low.

    Args:
        num_right: c, right ones among the answers.
        num_answers: n, answers that were generated.
        k: of so many answers one has to be right.

    Raises:
        DataError: k is not between 1 and n, or c not between 0 and n.

    References:
        Chen et al., Evaluating Large Language Models Trained on Code, 2021, arXiv:2107.03374.
    """
    if not 1 <= k <= num_answers or not 0 <= num_right <= num_answers:
        raise DataError(
            f"pass@{k} needs at least {max(k, 1)} answers to a question and no more right ones than"
            f" answers, got {num_answers} of which {num_right} are right. Ask with more seeds, or"
            " for a smaller k."
        )
    if num_answers - num_right < k:
        return 1.0
    factors = 1.0 - k / np.arange(num_answers - num_right + 1, num_answers + 1)
    return float(1.0 - np.prod(factors))
