"""Examples as tokens: which ids a model reads, and which of them it learns to write."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from tutelage.data.chat import (
    Conversation,
    as_dicts,
    chat_messages,
    chat_template_of,
    write_chat,
)
from tutelage.data.collate import IGNORED
from tutelage.data.ending import TurnEnd, check_turn_end, turn_end
from tutelage.data.format import Rendered
from tutelage.data.openings import Opening
from tutelage.data.pieces import (
    common_length,
    continuations,
    control_ids,
    end_of_text_id,
    leading_ids,
    token_ids,
)
from tutelage.types import Example

_ENDLESS = "ends of turns before the last (the chat template has no token for them)"
_GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class Tokens:
    """One example as tokens.

    Attributes:
        input_ids: prompt, answer and what ends it.
        labels: the token's id where it is learned, -100 elsewhere.
        num_prompt_tokens: tokens before the last answer.
        prompt: the text before the last answer.
        completion: the last answer as text.
        opening: see ``Conversation``; None outside of chats.
        reopened: see ``Conversation``.
        unclosed: see ``Conversation``.
        not_learned: parts that stand in the data and are not learned, counted by kind.
    """

    input_ids: list[int]
    labels: list[int]
    num_prompt_tokens: int
    prompt: str
    completion: str
    opening: Opening | None = None
    reopened: bool = False
    unclosed: bool = False
    not_learned: Counter[str] = field(default_factory=Counter)


def encode_texts(
    examples: Sequence[Example], rendered: Sequence[Rendered], tokenizer: PreTrainedTokenizerBase
) -> list[Tokens]:
    """Prompt and completion one after another, then the end-of-sequence token."""
    if not examples:
        return []
    prompts = [row.prompt for row in rendered]
    completions = continuations(prompts, [row.completion for row in rendered], tokenizer)
    starts = tokenize_prompts(prompts, tokenizer, in_chat=False)
    end = end_of_text_id(tokenizer)
    tokens = []
    for example, row, start, completion in zip(
        examples, rendered, starts, completions, strict=True
    ):
        answer = [*completion, end]
        learned = not example.messages or example.messages[-1].learned
        labels = answer if learned else [IGNORED] * len(answer)
        tokens.append(
            Tokens(
                start + answer,
                [IGNORED] * len(start) + labels,
                len(start),
                row.prompt,
                row.completion,
                not_learned=Counter() if learned else Counter({"turns of weight 0": 1}),
            )
        )
    return tokens


def tokenize_prompts(
    prompts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, in_chat: bool
) -> list[list[int]]:
    """What a model is given of each prompt: the ids that ``tokenize_examples`` begins with.

    Args:
        prompts: the texts before the answers, as ``render`` gives them.
        tokenizer: the tokenizer of the model that is to answer.
        in_chat: whether a chat template wrote them, which then wrote the leading tokens, too.
    """
    if not prompts:
        return []
    ids = token_ids(list(prompts), tokenizer)
    before = [] if in_chat else leading_ids(prompts[0], ids[0], tokenizer)
    return [before + row for row in ids]


def encode_chats(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    system: str | None,
    openings: Sequence[Opening] = (),
) -> list[Tokens]:
    """Conversations in the tokenizer's chat format, with every turn of the assistant labelled."""
    if not examples:
        return []
    conversations = [write_chat(example, system, tokenizer, openings) for example in examples]
    end = turn_end(tokenizer)
    check_turn_end(end, tokenizer)
    cuts = [_cuts(conversation, end) for conversation in conversations]
    ids = iter(token_ids(list(itertools.chain(*cuts)), tokenizer))
    encoder = _Encoder(tokenizer, end, control_ids(tokenizer), system)
    return [
        encoder.encode(example, conversation, list(itertools.islice(ids, len(texts))))
        for example, conversation, texts in zip(examples, conversations, cuts, strict=True)
    ]


def _close(conversation: Conversation, place: int, end: TurnEnd) -> int:
    """Where the content of an answer ends, in characters.

    Where no token ends a turn, the white space after it does, and belongs to what is learned.
    """
    close = conversation.answers[place].end
    if end.token is None:
        rest = conversation.text[close:]
        close += len(rest) - len(rest.lstrip())
    return close


def _cuts(conversation: Conversation, end: TurnEnd) -> list[str]:
    """The whole conversation, then all of it up to each answer and up to each answer's end.

    An empty text stands for an end that need not be looked for: the token that ends the turn is
    the first of its kind after the answer's start.
    """
    text, answers = conversation.text, conversation.answers
    bounds = [*(answer.start for answer in answers[1:]), len(text)]
    closes = []
    for place, (answer, bound) in enumerate(zip(answers, bounds, strict=True)):
        plain = (
            end.token is not None
            and end.name not in text[answer.start : answer.end]
            and end.name in text[answer.end : bound]
        )
        closes.append("" if plain else text[: _close(conversation, place, end)])
    return [text, *(text[: answer.start] for answer in answers), *closes]


@dataclass(frozen=True)
class _Encoder:
    """Labels conversations.

    Attributes:
        tokenizer: the tokenizer.
        end: how its chat template ends a turn.
        control: ids of its special tokens.
        system: the system text that the conversations got.
    """

    tokenizer: PreTrainedTokenizerBase
    end: TurnEnd
    control: frozenset[int]
    system: str | None

    def encode(
        self, example: Example, conversation: Conversation, cut_ids: list[list[int]]
    ) -> Tokens:
        """One conversation, from the ids of its cuts."""
        ids, starts, ends, whole = self._places(conversation, cut_ids)
        mask = self._mask(example) if whole and not conversation.by_hand else None
        labels = [IGNORED] * len(ids)
        not_learned = Counter({"turns that the template drops": conversation.turns_lost})
        bounds = [*starts[1:], len(ids)]
        last_is_learned, stop = False, len(ids)
        for place, answer in enumerate(conversation.answers):
            stop = self._stop(ids, max(starts[place], ends[place]), bounds[place])
            span = range(starts[place], stop)
            not_learned["thoughts that the template drops"] += answer.thoughts_lost
            if not answer.learned:
                not_learned["turns of weight 0"] += not conversation.reopened
            elif answer.empty and self._is_blank(ids[span.start : span.stop]):
                not_learned["turns that the template drops"] += 1
            else:
                chosen = span if mask is None else self._masked(ids, mask, span)
                for i in chosen:
                    labels[i] = ids[i]
                last_is_learned = place == len(starts) - 1 and bool(chosen)
                endless = self.end.token is None and ids[stop - 1] not in self.control
                not_learned[_ENDLESS] += endless and bool(chosen) and not last_is_learned
        if last_is_learned and ids[stop - 1] not in self.control | {self.end.token}:
            # The template ends the last turn with no token that a model could stop at.
            last = self.end.token
            last = end_of_text_id(self.tokenizer) if last is None else last
            ids, labels = [*ids[:stop], last], [*labels[:stop], last]
        return Tokens(
            ids,
            labels,
            starts[-1],
            conversation.prompt,
            example.completion or conversation.answer.strip(),
            conversation.opening,
            conversation.reopened,
            conversation.unclosed,
            +not_learned,
        )

    def _places(
        self, conversation: Conversation, cut_ids: list[list[int]]
    ) -> tuple[list[int], list[int], list[int], bool]:
        """The conversation's ids, where answers start and end, and whether no start splits a token.

        Where a token would reach across a start (an answer that begins with a line break after a
        prompt that ends with one), the pieces are tokenized apart, as they are when a model
        answers.
        """
        ids, *parts = cut_ids
        count = len(conversation.answers)
        starts, ends = parts[:count], parts[count:]
        if all(ids[: len(part)] == part for part in starts):
            return (
                ids,
                [len(part) for part in starts],
                [common_length(ids, part) for part in ends],
                True,
            )
        text = conversation.text
        borders = [answer.start for answer in conversation.answers]
        pieces = [text[a:b] for a, b in itertools.pairwise([*borders, len(text)])]
        apart = continuations([text[:a] for a in borders], pieces, self.tokenizer)
        heads = [
            piece[: _close(conversation, place, self.end) - borders[place]]
            for place, piece in enumerate(pieces)
        ]
        lengths = [
            common_length(*pair)
            for pair in zip(
                apart,
                continuations([text[:a] for a in borders], heads, self.tokenizer),
                strict=True,
            )
        ]
        before = list(itertools.accumulate(map(len, apart), initial=len(starts[0])))[:-1]
        return (
            list(itertools.chain(starts[0], *apart)),
            before,
            [a + b for a, b in zip(before, lengths, strict=True)],
            False,
        )

    def _stop(self, ids: list[int], end: int, bound: int) -> int:
        """The position after what a model writes of a turn, its end included."""
        if self.end.token is None or self.end.token not in ids[end:bound]:
            return end
        return ids.index(self.end.token, end, bound) + 1

    def _is_blank(self, ids: list[int]) -> bool:
        """Whether tokens say nothing: special ones and white space alone."""
        rest = [i for i in ids if i not in self.control and i != self.end.token]
        return not str(self.tokenizer.decode(rest)).strip()

    def _mask(self, example: Example) -> list[int] | None:
        """Where the chat template marks the assistant's text; None when it marks nothing."""
        source = chat_template_of(self.tokenizer, tools=bool(example.tools))
        if not _GENERATION_MARK.search(source):
            return None
        encoded: Any = self.tokenizer.apply_chat_template(
            as_dicts(chat_messages(example, self.system)),
            tools=[dict(tool) for tool in example.tools] or None,  # type: ignore[arg-type]
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        return encoded["assistant_masks"]

    def _masked(self, ids: list[int], mask: list[int], span: range) -> list[int]:
        """The marked positions of a turn, and its end where the marks leave that outside."""
        chosen = [i for i in span if mask[i]]
        if chosen and ids[span.stop - 1] == self.end.token:
            between = ids[chosen[-1] + 1 : span.stop - 1]
            if not between or not str(self.tokenizer.decode(between)).strip():
                chosen += range(chosen[-1] + 1, span.stop)
        return chosen
