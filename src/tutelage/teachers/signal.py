"""What the loss needs of a teacher, whether it runs beside the student or was stored before."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor

# Shape suffixes: B batch, T tokens, N response tokens, n tokens of a tile, r tokens of a block,
# H hidden, V vocabulary, K kept tokens.


class TeacherTile(Protocol):
    """What a teacher predicts for the tokens of one tile; the costly part of it is already done."""

    @property
    def kept_nK(self) -> Tensor | None:
        """Which tokens the teacher tells apart, int64 of shape ``[n, K]``; None for all of them.

        Tokens of a row differ from each other, and all those that are not named are one outcome.
        """
        ...

    def log_probs(self, rows: slice, temperature: float) -> Tensor:
        """Float32 log-probabilities of some rows of the tile; called once for every few rows.

        Several threads may ask at the same time, each for its own rows. What is given is new
        memory: the loss writes over it.

        Args:
            rows: which rows of the tile.
            temperature: divides the logits before the softmax.

        Returns:
            Shape ``[r, V]`` over the real vocabulary; ``[r, K + 1]`` when ``kept_nK`` is given, in
            its order, with the mass of all other tokens last.
        """
        ...


class TeacherSignal(Protocol):
    """A teacher as two functions: what it knows of a batch, and what tiles of that predict."""

    def encode(
        self, ids: Sequence[str], input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> Tensor:
        """A row for each response token, in reading order, from which ``tiles`` predicts it.

        Hidden states, shape ``[N, H]``; of stored top-k tokens their bytes.

        Args:
            ids: example ids of the rows.
            input_ids: shape ``[B, T]``.
            attention_mask: shape ``[B, T]``.
            labels: shape ``[B, T]``, -100 outside of response tokens.
        """
        ...

    def tiles(self, hidden_NH: Tensor, tile_tokens: int) -> Iterator[TeacherTile]:
        """What the states predict, so many of them at a time; no gradient flows into it.

        A tile may be used until the next one is asked for: its memory is then used again. What
        serves all tiles (a head in another type, buffers) lives as long as the iterator.

        Args:
            hidden_NH: what ``encode`` gave.
            tile_tokens: rows of a tile; the last one may have fewer.
        """
        ...
