"""What the embedded tasks share: splits that are a property of the prompt, and tokenizers.

Which split a prompt belongs to depends on its text alone. Sets of any size and seed taken from two
splits are therefore disjoint: a model of ``"train"`` never saw a ``"test"`` prompt.
"""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tutelage.errors import ConfigError, DataError, unknown_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD_TOKEN, EOS_TOKEN, UNKNOWN_TOKEN = "<pad>", "<eos>", "<unk>"

_SPLIT_PERCENT = {"train": (0, 80), "validation": (80, 90), "test": (90, 100)}
# So many draws in a row that brought nothing new mean that (almost) all prompts are taken.
_MAX_MISSES = 10_000


class Drawing:
    """Which of the prompts that are drawn one after the other to take: new ones of one split.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        what: the prompts that are drawn, for the message when there are no more.
    """

    def __init__(self, split: str, what: str) -> None:
        self._split, self._what = split, what
        self._seen: set[str] = set()
        self._misses = 0

    def takes(self, prompt: str) -> bool:
        """Whether the prompt is of the split and was not taken before; if so, it is now.

        Raises:
            DataError: nothing new came in so many draws that hardly anything can be left.
        """
        low, high = _SPLIT_PERCENT[self._split]
        if prompt not in self._seen and low <= int.from_bytes(_digest(prompt), "big") % 100 < high:
            self._misses = 0
            self._seen.add(prompt)
            return True
        self._misses += 1
        if self._misses > _MAX_MISSES:
            raise DataError(
                f"The split '{self._split}' has only about {len(self._seen)} distinct prompts of"
                f" {self._what}, and more were asked for. Ask for fewer, or for a greater variety."
            )
        return False


def example_id(split: str, prompt: str) -> str:
    """The id of an example, made from its prompt."""
    return f"{split}-{_digest(prompt).hex()}"


def check_made(split: str, count: int, label_noise: float) -> None:
    """Raise a ``ConfigError`` unless these can be asked of an embedded task."""
    if split not in _SPLIT_PERCENT:
        raise unknown_name("split", split, _SPLIT_PERCENT)
    if count < 1:
        raise ConfigError(
            f"`count` is {count}, but a set needs at least one example. Ask for 1 or more."
        )
    if not 0.0 <= label_noise <= 1.0:
        raise ConfigError(
            f"`label_noise` is {label_noise}, but it is a share of the examples. Use 0 to 1."
        )


def piece_tokenizer(pieces: Iterable[str], pattern: str) -> "PreTrainedTokenizerFast":
    """A tokenizer with one token for each of some pieces, and padding, end and unknown ones.

    It adds nothing to a text by itself, and decoding gives back exactly what was encoded.

    Args:
        pieces: the texts that have a token.
        pattern: a regular expression that cuts a text into pieces, every character in one.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = [PAD_TOKEN, EOS_TOKEN, UNKNOWN_TOKEN, *pieces]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN_TOKEN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")  # type: ignore[assignment]
    tokenizer.decoder = decoders.Fuse()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD_TOKEN,
        eos_token=EOS_TOKEN,
        unk_token=UNKNOWN_TOKEN,
        padding_side="left",  # as generation needs it; training collates by itself
        clean_up_tokenization_spaces=False,
    )


def _digest(prompt: str) -> bytes:
    return hashlib.blake2b(prompt.encode("ascii"), digest_size=8).digest()
