"""Where an answer ends: the tokens of a tokenizer and its chat template that stop a model.

The end of a turn need not be the tokenizer's end-of-sequence token: base models of the Qwen family
end a text with one and a turn of a chat with another. So the end of a turn is looked for in what
the chat template writes, and everything that generates or saves a model asks here.
"""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from tutelage.data.pieces import token_ids
from tutelage.errors import ModelError

MARK = "\ue000\ue001\ue000"
"""Stands for an answer where a template is tried out; no text has these private characters."""


@dataclass(frozen=True)
class TurnEnd:
    """How a chat template ends a turn of the assistant.

    Attributes:
        token: the id of the token at which a model can be stopped; None when there is none.
        text: what the template writes after an answer, the token included.
        name: the token as text; empty when there is none.
        lead: the white space that the template writes between its generation prompt and an answer.
    """

    token: int | None
    text: str
    name: str = ""
    lead: str = ""


def turn_end(tokenizer: PreTrainedTokenizerBase) -> TurnEnd:
    """What the tokenizer's chat template writes after an answer."""
    if not tokenizer.chat_template:
        return TurnEnd(None, "")
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": MARK}]
    try:
        text: Any = tokenizer.apply_chat_template(turns, tokenize=False)
        opened: Any = tokenizer.apply_chat_template(
            turns[:1], tokenize=False, add_generation_prompt=True
        )
    except Exception:  # what is wrong with a template is said where conversations are written
        return TurnEnd(None, "")
    written, _, after = text.rpartition(MARK)
    if not written:
        return TurnEnd(None, "")
    added = tokenizer.added_tokens_decoder
    # Some tokenizers have runs of white space as added tokens; they end nothing.
    ends = (i for i in token_ids([after], tokenizer)[0] if i in added and str(added[i]).strip())
    token = next(ends, None)
    between = written.removeprefix(opened)
    lead = between if between.isspace() else ""
    return TurnEnd(token, after, "" if token is None else str(added[token]), lead)


def ends_alike(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> bool:
    """Whether the token that ends a turn in the student's chats ends an answer of the teacher, too.

    Then what the student learns as an end is one for both, whatever ends their texts.
    """
    token = turn_end(student).token
    return token is not None and token in (teacher.eos_token_id, turn_end(teacher).token)


def stop_ids(tokenizer: PreTrainedTokenizerBase, model: Any = None) -> list[int]:
    """Every token that ends an answer: the tokenizer's, its chat template's and the model's own.

    Args:
        tokenizer: the tokenizer, with its chat template if it has one.
        model: a model whose generation defaults may name further ones.

    Returns:
        Ids in rising order; empty when nothing ends an answer.
    """
    own: Any = None if model is None else model.generation_config.eos_token_id
    own = [] if own is None else [own] if isinstance(own, int) else list(own)
    return sorted({*own, tokenizer.eos_token_id, turn_end(tokenizer).token} - {None})  # type: ignore[arg-type,list-item]


def keep_stops(model: Any, tokenizer: PreTrainedTokenizerBase) -> Any:
    """Name every token that ends an answer in the model's generation defaults; return the model.

    They are saved with the model, so that ``generate`` and every server stop where evaluation does.
    """
    if getattr(model, "generation_config", None) is None:
        return model  # it generates nothing
    stops = stop_ids(tokenizer, model)
    if stops:
        model.generation_config.eos_token_id = stops if len(stops) > 1 else stops[0]
    return model


def ending_note(tokenizer: PreTrainedTokenizerBase) -> str:
    """A line for the user when turns do not end with the end-of-sequence token; else empty."""
    end = turn_end(tokenizer)
    if end.token is None or end.token == tokenizer.eos_token_id:
        return ""
    return (
        f"answers end with '{end.name}', as the chat template ends a"
        f" turn; the tokenizer's end of a text is '{tokenizer.eos_token}'. Both stop generation,"
        " and the saved student's generation_config names both."
    )


def check_turn_end(end: TurnEnd, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a template that ends turns with a text at which no model can be stopped.

    Raises:
        ModelError: the end of a turn is neither a token nor white space.
    """
    text = end.text.strip()
    if end.token is None and text:
        count = len(token_ids([text], tokenizer)[0])
        raise ModelError(
            f"The chat template ends a turn with '{text[:60]}', which is no special token of this"
            f" tokenizer but a text of {count} tokens, so no model could be stopped at it and it"
            " would become a part of every answer. Add it as a special token to the tokenizer and"
            " resize the embeddings of both models, end the turn with a token that the tokenizer"
            " has, or use the template 'plain'."
        )
