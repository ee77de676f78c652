"""Token ids of texts and of their pieces: what stands before every text, and what follows one."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tutelage.errors import ModelError

_ANCHORS = ("=", "\n", ".")
"""Texts after which another one may be tokenized so that none of its tokens reaches back."""

_MANY = 16
"""Texts from which on the backend is asked directly."""


def token_ids(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The ids of each text, without the tokens that a tokenizer puts around a text."""
    if not texts:
        return []
    many = len(texts) >= _MANY and _is_plain(tokenizer)
    encoded: Mapping[str, Any] = tokenizer(
        texts[:1] if many else texts,
        add_special_tokens=False,
        return_attention_mask=False,
        verbose=False,
    )
    if not many:
        return encoded["input_ids"]
    # That call has told the backend not to cut and what special tokens are to it; asked without
    # transformers in between it takes two thirds of the time.
    backend: Any = tokenizer.backend_tokenizer
    rest = backend.encode_batch_fast(texts[1:], add_special_tokens=False)
    return [*encoded["input_ids"], *(one.ids for one in rest)]


def _is_plain(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether transformers hands texts to the backend as they are."""
    kind = type(tokenizer)
    return isinstance(tokenizer, PreTrainedTokenizerFast) and all(
        getattr(kind, name) is getattr(PreTrainedTokenizerFast, name)
        for name in ("__call__", "_encode_plus")
    )


def leading_ids(text: str, plain: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that the tokenizer puts before any text, found by what it puts before this one."""
    around: Any = tokenizer(text, verbose=False)["input_ids"]
    for length in range(len(around)):
        if around[length : length + len(plain)] == plain:
            return list(around[:length])
    return []


def spaces_beginnings(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text tokenized alone gets a space in front that it has not, as in SentencePiece."""
    alone, before, both = token_ids(["x", "=", "=x"], tokenizer)
    return both != before + alone


def continuations(
    prompts: Sequence[str], texts: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> list[list[int]]:
    """The ids of each text as it follows its prompt, whose own ids stay what they are.

    Most tokenizers give a text the same ids wherever it stands. Those that put a space before a
    text are shown prompt and text together; where a token would reach across the border, the text
    stands after a neutral character instead.
    """
    alone = token_ids(list(texts), tokenizer)
    if not spaces_beginnings(tokenizer):
        return alone
    before = token_ids(list(prompts), tokenizer)
    joined = token_ids([p + t for p, t in zip(prompts, texts, strict=True)], tokenizer)
    return [
        whole[len(start) :] if whole[: len(start)] == start else _after_anchor(text, own, tokenizer)
        for start, whole, text, own in zip(before, joined, texts, alone, strict=True)
    ]


def _after_anchor(text: str, alone: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    for anchor in _ANCHORS:
        start, whole = token_ids([anchor, anchor + text], tokenizer)
        if whole[: len(start)] == start:
            return whole[len(start) :]
    return alone


def continuation_text(
    prompt: Sequence[int], tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> str:
    """The text of tokens that follow a prompt, with the space that they may begin with.

    Args:
        prompt: ids of the prompt.
        tokens: ids of what follows it.
        tokenizer: one for which ``spaces_beginnings`` holds: decoding the tokens alone would lose
            the space.
    """
    before, whole = decode(prompt[-1:], tokenizer), decode([*prompt[-1:], *tokens], tokenizer)
    # The prompt's last token may be half a character.
    return whole[len(before) :] if whole.startswith(before) else decode(tokens, tokenizer)


def decode(tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of tokens, without special ones, and with its white space as it is."""
    text = tokenizer.decode(
        list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    assert isinstance(text, str), "one row of tokens decodes to one text"
    return text


def common_length(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many items two sequences have in common from their start."""
    if first[: len(second)] == second:
        return len(second)
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def control_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids of special tokens, such as those that end a turn."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(added | set(tokenizer.all_special_ids))


def end_of_text_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the end-of-sequence token.

    Raises:
        ModelError: there is none.
    """
    eos: Any = tokenizer.eos_token_id
    if eos is None:
        raise ModelError(
            "The tokenizer has no end-of-sequence token, so a student could not learn to stop. Set"
            ' one that it knows, for example `tokenizer.eos_token = "</s>"`, and save it with the'
            " model."
        )
    return eos
