"""Choosing next tokens: the likeliest, or one that a row's private stream of numbers draws.

A row's stream follows from its seed and its prompt, and its n-th token takes the n-th number of it.
So neither the neighbours of a row, nor its place among them, nor padding has a part in a draw.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    LogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tutelage.generation.settings import GenerationSettings
from tutelage.models.finite import check_numbers

# Shape suffixes: B batch, L length of the longest answer, V vocabulary.

Choose = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""``(logits_BV, streams_BL, places_B)`` to the next token of each row, and a note of it, if any:
its log-probability, or more numbers, of shape ``[B, ...]``."""


def private_stream(seed: int, prompt: Sequence[int], count: int) -> NDArray[np.float64]:
    """The first numbers of the stream of a row, uniform in [0, 1) in steps of 2^-53.

    Args:
        seed: any whole number.
        prompt: tokens of the prompt.
        count: how many; a longer stream begins with a shorter one.
    """
    name = f"{seed}:{','.join(str(int(token)) for token in prompt)}"
    key = hashlib.blake2b(name.encode(), digest_size=16).digest()
    # The raw numbers of a bit generator are the same in all versions of numpy.
    raw = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(count)
    return np.asarray(raw >> np.uint64(11), dtype=np.float64) * 2.0**-53


def drawn(scores_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """The token that a number draws in each row, shape ``[B]``.

    It is found where the running sum of the probabilities, in float64, passes the number.

    Args:
        scores_BV: logits of the distributions.
        uniforms_B: the numbers, from [0, 1).
    """
    sums_BV = scores_BV.softmax(-1).cumsum(-1, dtype=torch.float64)
    wanted_B1 = uniforms_B.unsqueeze(1) * sums_BV[:, -1:]
    # The first sum that is larger: the sum at a token of probability 0 is that before it.
    token_B1 = torch.searchsorted(sums_BV, wanted_B1, right=True)
    return token_B1.squeeze(1).clamp_max_(scores_BV.shape[1] - 1)  # sums of NaN pass nothing


class Chooser:
    """Chooses the next token of each row.

    Args:
        settings: temperature, top-p, top-k, and whether log-probabilities are wanted.
        vocab_size: number of real tokens; logits beyond them stand for none.
    """

    def __init__(self, settings: GenerationSettings, vocab_size: int) -> None:
        self._greedy, self._wanted = settings.greedy, settings.logprobs
        self._vocab_size = vocab_size
        self._highest: Tensor | None = None
        self._shaping: list[LogitsProcessor] = []
        if settings.greedy:
            return
        if settings.sampling_temperature != 1.0:
            self._shaping.append(TemperatureLogitsWarper(float(settings.sampling_temperature)))
        if settings.top_k:
            self._shaping.append(TopKLogitsWarper(settings.top_k))
        if settings.top_p < 1.0:
            self._shaping.append(TopPLogitsWarper(float(settings.top_p)))

    def __call__(
        self, logits_BV: Tensor, streams_BL: Tensor, places_B: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The token of each row and, where it is wanted, its log-probability.

        The log-probability is the model's own, of all tokens at temperature 1, in nats.

        Args:
            logits_BV: of the next token, as the model gives them.
            streams_BL: what each row draws with; read by nothing that is greedy.
            places_B: the number of its stream that each row has come to.
        """
        logits_BV = logits_BV[:, : self._vocab_size].float()
        # A sum on the device, asked at the end: looking at every step would wait for it.
        highest = logits_BV.amax(-1).sum()
        self._highest = highest if self._highest is None else self._highest + highest
        if self._greedy:
            token_B = logits_BV.argmax(-1)
        else:
            scores_BV: Any = logits_BV
            for shape in self._shaping:
                scores_BV = shape(None, scores_BV)  # type: ignore[arg-type]
            token_B = drawn(scores_BV, streams_BL.gather(1, places_B.unsqueeze(1)).squeeze(1))
        if not self._wanted:
            return token_B, None
        chosen_B = logits_BV.gather(1, token_B.unsqueeze(1)).squeeze(1)
        return token_B, chosen_B - logits_BV.logsumexp(-1)

    def check(self) -> None:
        """Make sure that all logits so far were numbers.

        Raises:
            ModelError: some were not, and what was chosen of them means nothing.
        """
        if self._highest is not None:
            check_numbers(self._highest)


def watched(choose: Choose, tell: Callable[[Tensor], None]) -> Choose:
    """The same choices, with somebody told of each before the next one is made.

    Args:
        choose: chooses.
        tell: gets the tokens of all rows, shape ``[B]``.
    """

    def chosen(
        logits_BV: Tensor, streams_BL: Tensor, places_B: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        token_B, note_B = choose(logits_BV, streams_BL, places_B)
        tell(token_B)
        return token_B, note_B

    return chosen
