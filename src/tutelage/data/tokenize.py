"""From text to token ids, with a label at every token that the student learns to write.

The ids of a prompt are always those that the tokenizer gives to the prompt alone, because that is
what a model is given when it answers. Training data are never cut: an example that is too long is
left out and counted. Data that a model is tested on are never left out: prompts that are too long
are cut or kept, and counted.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import datasets
from transformers import PreTrainedTokenizerBase

from tutelage.data.ahead import one_ahead
from tutelage.data.collate import IGNORED
from tutelage.data.encode import Tokens, encode_chats, encode_texts
from tutelage.data.format import render, template_name
from tutelage.data.lengths import NUM_RESPONSE_TOKENS, NUM_TOKENS
from tutelage.data.loaded import LoadedExamples
from tutelage.data.openings import Opening
from tutelage.data.pieces import control_ids
from tutelage.data.tables import RowTables
from tutelage.errors import DataError
from tutelage.types import Example, check_unique

LongPrompts = Literal["drop", "cut", "keep"]
"""What becomes of prompts that are too long; see ``tokenize_examples``."""

_CHUNK = 1000  # examples tokenized at once, between two reports of progress
_NAMED_IDS = 5  # how many ids a summary names for each reason


@dataclass(frozen=True)
class TokenizedSplit:
    """Examples as tokens, and what became of each.

    Attributes:
        dataset: one row for each example that was kept, in order, with the columns ``id``,
            ``input_ids``, ``labels`` (the token's id where it is learned, -100 elsewhere),
            ``num_prompt_tokens`` (a model that continues ``input_ids[:num_prompt_tokens]`` writes
            the last answer), ``num_tokens`` (of prompt and answer), ``num_response_tokens`` (that
            are learned; the first token of a row is predicted by nothing), ``prompt`` and
            ``completion`` (texts), ``references`` and ``group``.
        summary: plain values for a log: ``loaded``, ``kept``, ``dropped`` (count by reason),
            ``dropped_ids`` (the first ids by reason), ``duplicates``, ``cut`` (count of prompts and
            answers that were cut), ``not_learned`` (turns and thoughts that the data hold and
            nobody learns, by reason), ``openings`` (how prompts differ from the chat template's
            generation prompt, with the count of rows), ``opening`` (the most frequent one, as the
            fields of ``Opening``; empty outside of chats), ``reopened`` (prompts opened as was
            asked, and not as the template opens their own answers), ``prompt_tokens``,
            ``response_tokens``, ``total_tokens``, ``max_total_tokens``, ``template``, ``groups``.
        openings: of the answers in chats, the most frequent first.
    """

    dataset: datasets.Dataset
    summary: dict[str, Any]
    openings: tuple[Opening, ...] = ()


def tokenize_examples(
    examples: LoadedExamples | Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    *,
    template: str = "auto",
    system: str | None = None,
    max_length: int = 512,
    max_prompt_length: int = 256,
    long_prompts: LongPrompts = "drop",
    openings: Sequence[Opening] = (),
    progress: Callable[[int, int], None] | None = None,
    folder: str | Path | None = None,
) -> TokenizedSplit:
    """Render and tokenize examples, and label what the student learns to write.

    Without a chat template an example is its prompt (after a beginning-of-sequence token if the
    tokenizer sets one), the completion and the end-of-sequence token; the last two are labelled.
    With a chat template every turn of the assistant is labelled where it stands in the finished
    conversation, the token that ends it included, but nothing after that token. Turns and thoughts
    that the template drops, and turns of weight 0, are not learned, and counted. Thoughts of the
    last answer are always learned: where the template drops them, after its generation prompt.

    An example is dropped when no token of an answer but special ones is left to learn
    (``"no_response_tokens"``), when its answer breaks off inside its thoughts and the chat template
    knows of thoughts (``"thoughts_without_end"``), when its prompt has more than
    ``max_prompt_length`` tokens (``"prompt_too_long"``), or when it has more than ``max_length`` in
    all (``"too_long"``). With ``long_prompts`` at ``"cut"`` or ``"keep"``, as a test set needs it,
    nothing is dropped.

    Args:
        examples: what ``load_examples`` returned, or examples of your own.
        tokenizer: the tokenizer of teacher and student.
        template: ``auto``, ``plain``, ``alpaca``, ``chat``, or a string with ``{field}``
            placeholders.
        system: a system text for every example.
        max_length: most tokens of prompt and answer together.
        max_prompt_length: most tokens before the last answer.
        long_prompts: ``drop`` leaves examples out that are too long, as training wants it. ``cut``
            takes the last ``max_prompt_length`` tokens of a prompt (after its beginning-of-sequence
            token), ``keep`` all of it; both keep every example, with its answer cut at
            ``max_length``: a model is only asked the prompt, and the answer is compared as text.
        openings: how answers in chats may be opened, the preferred one first: those of the training
            data, for data that a model is tested on. A prompt with another one gets the first, and
            its answer no label, because it belongs to the other.
        progress: called with the number of examples done and the number of all.
        folder: where rows are kept that are too many for memory, in a file without a name that goes
            with them; by default where the system has such files.

    Returns:
        The data set and its summary.

    Raises:
        ConfigError: an unknown template or placeholder.
        DataError: no example is left, ids repeat, or the chat template refuses a conversation.
        ModelError: there is no token to end an answer with.
    """
    loaded = examples if isinstance(examples, LoadedExamples) else LoadedExamples(tuple(examples))
    check_unique(loaded.ids)
    bos: Any = tokenizer.bos_token_id
    limits = (max_length, max_prompt_length, long_prompts)
    tally = _Tally(*limits, bos, control_ids(tokenizer), RowTables(folder))
    total, done = len(loaded.examples), 0
    encode = functools.partial(
        _encode, template=template, tokenizer=tokenizer, system=system, openings=openings
    )
    chunks = (loaded.examples[start : start + _CHUNK] for start in range(0, total, _CHUNK))
    for chunk in one_ahead(encode, chunks):
        for row in chunk:
            tally.add(*row)
        done += len(chunk)
        if progress is not None:
            progress(done, total)
    if not tally.kept:
        raise _nothing_left(tally, total)
    return TokenizedSplit(tally.rows.dataset(), tally.summary(loaded), tally.usual_openings)


def _encode(
    examples: Sequence[Example],
    *,
    template: str,
    tokenizer: PreTrainedTokenizerBase,
    system: str | None,
    openings: Sequence[Opening],
) -> list[tuple[Example, str, Tokens]]:
    """Some examples with the names of their templates and their tokens, in order."""
    chunk = tuple(examples)
    names = [template_name(example, template, tokenizer) for example in chunk]
    texts = [i for i, name in enumerate(names) if name != "chat"]
    chats = [i for i, name in enumerate(names) if name == "chat"]
    rendered = [render(chunk[i], template, tokenizer, system) for i in texts]
    in_text = encode_texts([chunk[i] for i in texts], rendered, tokenizer)
    in_chat = encode_chats([chunk[i] for i in chats], tokenizer, system, openings)
    tokens = dict(zip([*texts, *chats], [*in_text, *in_chat], strict=True))
    return [(example, names[i], tokens[i]) for i, example in enumerate(chunk)]


@dataclass
class _Tally:
    """The rows that were kept, and the counts of the summary."""

    max_length: int
    max_prompt_length: int
    long_prompts: LongPrompts
    bos: int | None
    control_ids: frozenset[int]
    rows: RowTables
    kept: int = 0
    prompt_tokens: int = 0
    response_tokens: int = 0
    total_tokens: int = 0
    max_total_tokens: int = 0
    groups: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    templates: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    not_learned: Counter[str] = field(default_factory=Counter)
    openings: Counter[Opening] = field(default_factory=Counter)
    reopened: int = 0

    def add(self, example: Example, template: str, tokens: Tokens) -> None:
        """Keep the example, or note why it is dropped."""
        self.templates[template] += 1
        if self.long_prompts != "drop":
            tokens = self._fitted(tokens)
        labelled = [label for label in tokens.labels if label != IGNORED]
        reason = self._fault(tokens, labelled) if self.long_prompts == "drop" else None
        if reason is not None:
            self.dropped[reason] += 1
            if len(self.dropped_ids[reason]) < _NAMED_IDS:
                self.dropped_ids[reason].append(example.id)
            return
        self.not_learned.update(tokens.not_learned)
        self.reopened += tokens.reopened
        if tokens.opening is not None:
            self.openings[tokens.opening] += 1
        row = {
            "id": example.id,
            "input_ids": tokens.input_ids,
            "labels": tokens.labels,
            "num_prompt_tokens": tokens.num_prompt_tokens,
            NUM_TOKENS: len(tokens.input_ids),
            NUM_RESPONSE_TOKENS: len(tokens.labels[1:]) - tokens.labels[1:].count(IGNORED),
            "prompt": tokens.prompt,
            "completion": tokens.completion,
            "references": list(example.references or (tokens.completion,)),
            "group": example.group,
        }
        self.rows.add(row)
        self.kept += 1
        self.prompt_tokens += tokens.num_prompt_tokens
        self.response_tokens += row[NUM_RESPONSE_TOKENS]
        self.total_tokens += row[NUM_TOKENS]
        self.max_total_tokens = max(self.max_total_tokens, row[NUM_TOKENS])
        self.groups[example.group] += 1

    def _fault(self, tokens: Tokens, labelled: list[int]) -> str | None:
        """Why an example is dropped; None when it is kept."""
        if self.control_ids.issuperset(labelled):
            return "no_response_tokens"
        if tokens.unclosed:
            return "thoughts_without_end"
        if tokens.num_prompt_tokens > self.max_prompt_length:
            return "prompt_too_long"
        return "too_long" if len(tokens.input_ids) > self.max_length else None

    def _fitted(self, tokens: Tokens) -> Tokens:
        """An example to be tested on, its prompt cut on the left and its answer on the right."""
        ids, labels, length = tokens.input_ids, tokens.labels, tokens.num_prompt_tokens
        if self.long_prompts == "cut" and length > self.max_prompt_length:
            first = 1 if ids[0] == self.bos and self.max_prompt_length > 1 else 0
            rest = length - self.max_prompt_length + first
            ids, labels = ids[:first] + ids[rest:], labels[:first] + labels[rest:]
            length = self.max_prompt_length
            self.cut["prompts"] += 1
        total = max(self.max_length, length)
        if len(ids) > total:
            ids, labels = ids[:total], labels[:total]
            self.cut["answers"] += 1
        return replace(tokens, input_ids=ids, labels=labels, num_prompt_tokens=length)

    @property
    def usual_openings(self) -> tuple[Opening, ...]:
        """The openings that other prompts may have, the most frequent first."""
        return tuple(opening for opening, _ in self.openings.most_common() if opening.usual)

    def summary(self, loaded: LoadedExamples) -> dict[str, Any]:
        usual = self.usual_openings
        openings: Counter[str] = Counter()
        for opening, rows in self.openings.items():
            openings.update({opening.words: rows} if opening.words else {})
        return {
            "loaded": len(loaded.examples),
            "kept": self.kept,
            "dropped": dict(self.dropped),
            "dropped_ids": dict(self.dropped_ids),
            "duplicates": {
                "left_out": loaded.num_left_out,
                "kept": len(loaded.duplicates) - loaded.num_left_out,
                "ids": [duplicate.id for duplicate in loaded.duplicates[:_NAMED_IDS]],
            },
            "cut": dict(self.cut),
            "not_learned": dict(self.not_learned),
            "openings": dict(openings),
            "opening": asdict(usual[0]) if usual else {},
            "reopened": self.reopened,
            "prompt_tokens": self.prompt_tokens,
            "response_tokens": self.response_tokens,
            "total_tokens": self.total_tokens,
            "max_total_tokens": self.max_total_tokens,
            "template": " + ".join(self.templates),
            "groups": dict(sorted(self.groups.items())),
        }


def _nothing_left(tally: _Tally, total: int) -> DataError:
    if not total:
        return DataError("There are no examples to tokenize. Give at least one.")
    reasons = ", ".join(f"{count} {reason}" for reason, count in tally.dropped.items())
    return DataError(
        f"No response tokens left: all {total} examples were dropped ({reasons}). The limits are"
        f" max_length {tally.max_length} and max_prompt_length {tally.max_prompt_length}. Raise"
        " them for examples that are too long; for 'no_response_tokens' see whether the template"
        " writes the answer and the tokenizer knows its characters."
    )
