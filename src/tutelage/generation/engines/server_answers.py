"""What a server's JSON value says, when it says an answer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.errors import ServerError
from tutelage.generation.engine import Answer, Finish
from tutelage.generation.engines.server_calls import Passing

_STOP = {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls", "function_call"}
_CUT = {"length", "max_tokens", "model_length", "content_filter"}
"""What ended an answer in the words of servers; a filter cuts it, and the model did not end it."""


def read_answer(
    value: Any,
    *,
    in_chat: bool,
    limit: int,
    stop_strings: Sequence[str] = (),
    tokenizer: Any = None,
) -> Answer:
    """The answer in what a server sent.

    The number of tokens is the server's; where it gives none, the tokenizer's, or else the number
    of bytes. Token ids are not taken over: servers differ in whether they hold what ended them.

    Args:
        value: from JSON.
        in_chat: whether a conversation was asked.
        limit: most tokens that were asked for.
        stop_strings: the text ends before the first of these, even if the server left it on.
        tokenizer: the model's, where there is one.

    Raises:
        Passing: this is no answer to one prompt.
        ServerError: the server wrote more than it was asked for.
    """
    choice = _only_choice(value)
    text = _text(choice, in_chat)
    count = _counted(value)
    if count is not None and count > limit:
        raise ServerError(
            f"The server wrote {count} tokens where it was asked for {limit} at most: it ignores"
            " the limit, and its answers cannot be compared with others. Ask another server."
        )
    if count is None:
        count = min(limit, _own_count(text, tokenizer))
    finish = _finish(choice, count, limit)
    ends = [text.find(stop) for stop in stop_strings]
    if any(end >= 0 for end in ends):
        text, finish = text[: min(end for end in ends if end >= 0)], "stop"
    if finish == "length":
        text = text.rstrip("\N{REPLACEMENT CHARACTER}")  # half a character that the limit cut
    return Answer(text, count, finish, logprobs=_logprobs(choice.get("logprobs"), count))


def _only_choice(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Passing("what it sent is no answer")
    error = value.get("error")
    if error:
        said = error.get("message", error) if isinstance(error, dict) else error
        raise Passing(f"it says '{' '.join(str(said).split())[:200]}' instead of an answer")
    choices = value.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        number = len(choices) if isinstance(choices, list) else "no"
        raise Passing(f"it sent {number} answers to a prompt that has one")
    return choices[0]


def _text(choice: Mapping[str, Any], in_chat: bool) -> str:
    text = choice.get("text")
    if in_chat:
        message = choice.get("message")
        # The content of a turn without words is null.
        text = (message.get("content") or "") if isinstance(message, dict) else None
    if not isinstance(text, str):
        raise Passing("the answer that it sent has no text")
    # JSON may carry halves of characters, which no file takes.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _counted(value: Mapping[str, Any]) -> int | None:
    """Tokens of the answer as the server counts; None where it does not."""
    usage = value.get("usage")
    said = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return said if type(said) is int and said > 0 else None


def _own_count(text: str, tokenizer: Any) -> int:
    """Tokens of an answer as they can be counted here, with one that ends it."""
    if tokenizer is None:
        return len(text.encode("utf-8")) + 1
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) + 1


def _finish(choice: Mapping[str, Any], count: int, limit: int) -> Finish:
    said = str(choice.get("finish_reason"))
    if said in _CUT:
        return "length"
    if said in _STOP:
        return "stop"
    return "length" if count >= limit else "stop"


def _logprobs(found: Any, count: int) -> tuple[float, ...] | None:
    """One log-probability for each token, where the server gives just that."""
    if not isinstance(found, dict):
        return None
    values = found.get("token_logprobs")
    if not isinstance(values, list):
        rows = found.get("content")
        rows = rows if isinstance(rows, list) else []
        values = [row.get("logprob") if isinstance(row, dict) else None for row in rows]
    numbers = [v for v in values if isinstance(v, (int, float)) and math.isfinite(v) and v <= 0]
    whole = len(numbers) == len(values) == count
    return tuple(float(value) for value in numbers) if whole else None
