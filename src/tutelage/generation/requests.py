"""What a model is given: prompts as tokens, alone or with what is to be scored after them."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tutelage.data.chat import request_chat
from tutelage.data.encode import tokenize_prompts
from tutelage.data.pieces import continuations, decode
from tutelage.errors import DataError
from tutelage.generation.engine import Chat, Prompt, check_conversation


def token_prompts(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase
) -> list[Sequence[int]]:
    """The tokens of each prompt.

    Raises:
        DataError: there are none, or a conversation cannot be written.
    """
    return [_tokens(number, prompt, tokenizer) for number, prompt in enumerate(prompts)]


def _tokens(number: int, prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> Sequence[int]:
    if isinstance(prompt, Chat):
        text = chat_text(number, prompt, tokenizer)
        tokens = tokenize_prompts([text], tokenizer, in_chat=True)[0]
    elif isinstance(prompt, str):
        tokens = tokenize_prompts([prompt], tokenizer, in_chat=False)[0]
    else:
        tokens = prompt
    if not len(tokens):
        raise DataError(
            f"Prompt {number} has no tokens, so there is nothing to continue. Give it a text,"
            " or use a template that adds some."
        )
    return tokens


def chat_text(number: int, prompt: Chat, tokenizer: PreTrainedTokenizerBase) -> str:
    """A conversation as the chat template writes it, with what opens the assistant's turn.

    Args:
        number: of the prompt, for messages.
        prompt: the conversation.
        tokenizer: with the chat template.

    Raises:
        DataError: there is no chat template, it refuses the conversation, or nothing is asked.
    """
    if not tokenizer.chat_template:
        raise DataError(
            f"Prompt {number} is a conversation, and the tokenizer of the model that is asked has"
            " no chat template to write it with. Ask a model that was tuned for chats, set"
            " `tokenizer.chat_template` and save it with the model, or ask in plain text."
        )
    check_conversation(number, prompt)
    return request_chat(prompt.messages, tokenizer, f"prompt {number}")


@dataclass(frozen=True)
class Pair:
    """A prompt and its continuation as one row.

    Attributes:
        tokens: all of it.
        start: where the continuation begins.
    """

    tokens: tuple[int, ...]
    start: int


def token_pairs(
    prompts: Sequence[Prompt], texts: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> list[Pair]:
    """Each prompt with its continuation, as tokens; see ``ScoringEngine``.

    Raises:
        DataError: one of them has no tokens, a conversation cannot be written, or the lists differ
            in length.
    """
    if len(prompts) != len(texts):
        raise DataError(
            f"{len(prompts)} prompts came with {len(texts)} continuations. Give one continuation"
            " for each prompt; repeat a prompt that has several."
        )
    pairs = []
    for number, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        if isinstance(prompt, str):
            pair = _text_pair(number, prompt, text, tokenizer)
        else:
            start = _tokens(number, prompt, tokenizer)
            before = (
                chat_text(number, prompt, tokenizer)
                if isinstance(prompt, Chat)
                else decode(prompt, tokenizer)
            )
            follows = continuations([before], [text], tokenizer)[0]
            pair = Pair((*start, *follows), len(start))
        if not text or pair.start >= len(pair.tokens):
            raise DataError(
                f"Continuation {number} has no tokens, so nothing of it can be scored. Give it a"
                " text."
            )
        pairs.append(pair)
    return pairs


def _text_pair(number: int, prompt: str, text: str, tokenizer: PreTrainedTokenizerBase) -> Pair:
    """A text and its continuation, read as one text and cut after the tokens of the first.

    Most tokenizers write a space as the beginning of the word after it, so spaces at the end of
    the first belong to the second. Where the last token of the first reaches over the border, the
    cut is after as many tokens as the first alone has, as lm-evaluation-harness cuts.
    """
    asked = prompt.rstrip() or prompt
    start = len(_tokens(number, asked, tokenizer))
    whole = tokenize_prompts([prompt + text], tokenizer, in_chat=False)[0]
    if text and start >= len(whole) > 1:
        start = len(whole) - 1  # both became one token; without it nothing would be scored
    return Pair(tuple(whole), start)
