"""Draws of next tokens from private random streams, one for each row of a batch.

A row's stream follows from its seed and its prompt, and its n-th token takes the n-th number of it.
So neither the neighbours of a row, nor its place among them, nor padding has a part in a draw.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tutelage.generation.settings import GenerationSettings

# Shape suffixes: B batch, L length of the longest answer, V vocabulary.


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


class Draw(LogitsProcessor):
    """Leaves one token to choose in each row: the one that the row's stream draws.

    It comes after everything that shapes the distribution. A token is found where the running sum
    of the probabilities, in float64, passes the number of the stream.

    Args:
        uniforms_BL: what each row draws with, token by token, float64.
        width: tokens of a row before the first one that is drawn.
    """

    def __init__(self, uniforms_BL: Tensor, width: int) -> None:
        self.uniforms_BL = uniforms_BL
        self.width = width

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores that are minus infinity but for the token drawn; same shape."""
        place = input_ids.shape[1] - self.width
        sums_BV = scores.softmax(-1).cumsum(-1, dtype=torch.float64)
        wanted_B1 = self.uniforms_BL[:, place, None] * sums_BV[:, -1:]
        # The first sum that is larger: the sum at a token of probability 0 is that before it.
        drawn_B1 = torch.searchsorted(sums_BV, wanted_B1, right=True)
        drawn_B1.clamp_max_(scores.shape[1] - 1)  # sums of NaN are passed by nothing
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn_B1, 0.0)


def processors(
    settings: GenerationSettings, uniforms_BL: Tensor | None, width: int
) -> LogitsProcessorList:
    """What shapes the distribution of the next token and draws from it, for greedy ``generate``.

    Args:
        settings: temperature, top-p, top-k.
        uniforms_BL: see ``Draw``; None to take the likeliest token.
        width: see ``Draw``.
    """
    if uniforms_BL is None:
        return LogitsProcessorList()
    shaping: list[LogitsProcessor] = []
    if settings.sampling_temperature != 1.0:
        shaping.append(TemperatureLogitsWarper(float(settings.sampling_temperature)))
    if settings.top_k:
        shaping.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1.0:
        shaping.append(TopPLogitsWarper(float(settings.top_p)))
    return LogitsProcessorList([*shaping, Draw(uniforms_BL, width)])
