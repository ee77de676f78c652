"""Where answers end: at stop tokens, at stop strings, or at the limit of their length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tutelage.data.ending import stop_ids
from tutelage.data.pieces import continuation_text, decode, spaces_beginnings
from tutelage.generation.engine import Answer

# Shape suffixes: B batch, T tokens.

_HALF = "\N{REPLACEMENT CHARACTER}"
"""What a character becomes whose bytes a length limit cut in two."""

LOOK_EVERY = 8
"""Tokens between two looks for stop strings: decoding takes a while, and so do tokens too many."""


@dataclass(frozen=True)
class Stops:
    """What ends an answer of one model, and how the tokens of an answer are read.

    Attributes:
        tokens: ids that end an answer.
        strings: texts that end it.
        tokenizer: reads it.
        spaced: whether reading it needs the prompt, for the space that it may begin with.
    """

    tokens: tuple[int, ...]
    strings: tuple[str, ...]
    tokenizer: PreTrainedTokenizerBase
    spaced: bool

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, model: Any, strings: Sequence[str] = ()
    ) -> "Stops":
        """What ends the answers of a model.

        Args:
            tokenizer: its tokenizer.
            model: the model; see ``stop_ids``.
            strings: stop strings. Those that are a special token are never read as text, so they
                count as stop tokens.
        """
        special = {str(token): i for i, token in tokenizer.added_tokens_decoder.items()}
        named = {special[string] for string in strings if string in special}
        tokens = sorted({*stop_ids(tokenizer, model), *named})
        return cls(tuple(tokens), tuple(strings), tokenizer, spaces_beginnings(tokenizer))

    def read(self, prompt: Sequence[int], tokens: Sequence[int]) -> Answer:
        """The answer in a row of new tokens, which is cut at the row's own limit.

        Args:
            prompt: tokens of the prompt.
            tokens: those that follow it; beyond the end of the answer they may be any.
        """
        end = next((place for place, token in enumerate(tokens) if token in self.tokens), None)
        body = tokens[:end]
        text = self._text(prompt, body)
        if self._first(text) is not None:
            return self._cut(prompt, body)
        if end is None:
            return Answer(text.rstrip(_HALF), len(tokens), "length", tuple(tokens))
        return Answer(text, end + 1, "stop", tuple(tokens[: end + 1]))

    def _text(self, prompt: Sequence[int], tokens: Sequence[int]) -> str:
        if self.spaced:
            return continuation_text(prompt, tokens, self.tokenizer)
        return decode(tokens, self.tokenizer)

    def _first(self, text: str) -> int | None:
        """Where the first stop string begins; None where there is none."""
        places = [place for string in self.strings if (place := text.find(string)) >= 0]
        return min(places, default=None)

    def _cut(self, prompt: Sequence[int], tokens: Sequence[int]) -> Answer:
        """The answer that ends with the token that completes the first stop string."""
        low, high = 1, len(tokens)  # of the fewest tokens that hold one
        while low < high:
            middle = (low + high) // 2
            if self._first(self._text(prompt, tokens[:middle])) is None:
                low = middle + 1
            else:
                high = middle
        text = self._text(prompt, tokens[:high])
        return Answer(text[: self._first(text)], high, "stop", tuple(tokens[:high]))

    def with_token(self, new_BT: Tensor) -> Tensor:
        """Which rows of new tokens hold a stop token, shape ``[B]``."""
        stops = torch.tensor(self.tokens, dtype=torch.long, device=new_BT.device)
        return torch.isin(new_BT, stops).any(dim=1)

    def with_string(self, new_BT: Tensor) -> Tensor:
        """Which rows of new tokens hold a stop string, shape ``[B]``."""
        if not self.strings:
            return new_BT.new_zeros(len(new_BT), dtype=torch.bool)
        found = [self.hold(row) for row in new_BT.tolist()]
        return torch.tensor(found, dtype=torch.bool, device=new_BT.device)

    def hold(self, tokens: Sequence[int]) -> bool:
        """Whether new tokens of a row hold a stop string."""
        return self._first(decode(tokens, self.tokenizer)) is not None

    @property
    def longest(self) -> int:
        """Most tokens that a stop string may take: one for each of its bytes."""
        return max((len(string.encode()) for string in self.strings), default=0)
