"""From text to token ids, with a label at every token that the student learns to write.

The ids of a prompt are always those that the tokenizer gives to the prompt alone, because that is
what a model is given when it answers. Nothing is cut: an example that is too long is left out and
counted.
"""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase

from tutelage.data.collate import IGNORED
from tutelage.data.format import (
    Rendered,
    chat_messages,
    render,
    render_chat,
    template_name,
)
from tutelage.data.load import LoadedExamples
from tutelage.errors import DataError, ModelError
from tutelage.types import Example, check_unique

_CHUNK = 1000  # examples tokenized at once, between two reports of progress
_NAMED_IDS = 5  # how many ids a summary names for each reason
_GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
_FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "input_ids": datasets.Sequence(datasets.Value("int32")),
        "labels": datasets.Sequence(datasets.Value("int32")),
        "num_prompt_tokens": datasets.Value("int32"),
        "prompt": datasets.Value("string"),
        "completion": datasets.Value("string"),
        "references": datasets.Sequence(datasets.Value("string")),
        "group": datasets.Value("string"),
    }
)


@dataclass(frozen=True)
class TokenizedSplit:
    """Examples as tokens, and what became of each.

    Attributes:
        dataset: one row for each example that was kept, in order, with the columns ``id``,
            ``input_ids``, ``labels`` (the token's id where it is learned, -100 elsewhere),
            ``num_prompt_tokens`` (a model that continues ``input_ids[:num_prompt_tokens]`` writes
            the last answer), ``prompt`` and ``completion`` (texts), ``references`` and ``group``.
        summary: plain values for a log: ``loaded``, ``kept``, ``dropped`` (count by reason),
            ``dropped_ids`` (the first ids by reason), ``duplicates``, ``prompt_tokens``,
            ``response_tokens``, ``total_tokens``, ``max_total_tokens``, ``template``, ``groups``.
    """

    dataset: datasets.Dataset
    summary: dict[str, Any]


@dataclass(frozen=True)
class _Tokens:
    """One example as tokens."""

    input_ids: list[int]
    labels: list[int]
    num_prompt_tokens: int


def tokenize_examples(
    examples: LoadedExamples | Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    *,
    template: str = "auto",
    system: str | None = None,
    max_length: int = 512,
    max_prompt_length: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> TokenizedSplit:
    """Render and tokenize examples, and label what the student learns to write.

    Without a chat template an example is its prompt (after a beginning-of-sequence token if the
    tokenizer sets one), the completion and the end-of-sequence token; the last two are labelled.
    With a chat template every turn of the assistant is labelled, the token that ends it included,
    but not the white space that the template writes after that token. An example is dropped when no
    token of an answer but special ones is left to learn (``"no_response_tokens"``), when its prompt
    has more than ``max_prompt_length`` tokens (``"prompt_too_long"``), or when it has more than
    ``max_length`` in all (``"too_long"``).

    Args:
        examples: what ``load_examples`` returned, or examples of your own.
        tokenizer: the tokenizer of teacher and student.
        template: ``auto``, ``plain``, ``alpaca``, ``chat``, or a string with ``{field}``
            placeholders.
        system: a system text for every example.
        max_length: most tokens of prompt and answer together.
        max_prompt_length: most tokens before the last answer.
        progress: called with the number of examples done and the number of all.

    Returns:
        The data set and its summary.

    Raises:
        ConfigError: an unknown template or placeholder.
        DataError: no example is left, ids repeat, or the chat template rewrites earlier turns.
        ModelError: the tokenizer has no end-of-sequence token where one is needed.
    """
    loaded = examples if isinstance(examples, LoadedExamples) else LoadedExamples(tuple(examples))
    check_unique([example.id for example in loaded.examples])
    tally = _Tally(max_length, max_prompt_length, _control_ids(tokenizer))
    total = len(loaded.examples)
    for start in range(0, total, _CHUNK):
        chunk = loaded.examples[start : start + _CHUNK]
        names = [template_name(example, template, tokenizer) for example in chunk]
        rendered = [render(example, template, tokenizer, system) for example in chunk]
        tokens = _tokenize_chunk(chunk, names, rendered, tokenizer, system)
        for row in zip(chunk, names, rendered, tokens, strict=True):
            tally.add(*row)
        if progress is not None:
            progress(start + len(chunk), total)
    if not tally.kept:
        raise _nothing_left(tally, total)
    dataset = datasets.Dataset.from_dict(tally.columns, features=_FEATURES)
    return TokenizedSplit(dataset, tally.summary(loaded))


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
    ids = _ids(list(prompts), tokenizer)
    before = [] if in_chat else _leading_ids(prompts[0], ids[0], tokenizer)
    return [before + row for row in ids]


@dataclass
class _Tally:
    """The rows that were kept, as columns, and the counts of the summary."""

    max_length: int
    max_prompt_length: int
    control_ids: frozenset[int]
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _FEATURES})
    dropped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    templates: Counter[str] = field(default_factory=Counter)
    response_tokens: int = 0

    @property
    def kept(self) -> int:
        return len(self.columns["id"])

    def add(self, example: Example, template: str, rendered: Rendered, tokens: _Tokens) -> None:
        """Keep the example, or note why it is dropped."""
        self.templates[template] += 1
        labelled = [label for label in tokens.labels if label != IGNORED]
        if self.control_ids.issuperset(labelled):
            self.dropped["no_response_tokens"].append(example.id)
        elif tokens.num_prompt_tokens > self.max_prompt_length:
            self.dropped["prompt_too_long"].append(example.id)
        elif len(tokens.input_ids) > self.max_length:
            self.dropped["too_long"].append(example.id)
        else:
            self.response_tokens += len(labelled)
            row = {
                "id": example.id,
                "input_ids": tokens.input_ids,
                "labels": tokens.labels,
                "num_prompt_tokens": tokens.num_prompt_tokens,
                "prompt": rendered.prompt,
                "completion": rendered.completion,
                "references": list(example.references or (example.completion,)),
                "group": example.group,
            }
            for name, value in row.items():
                self.columns[name].append(value)

    def summary(self, loaded: LoadedExamples) -> dict[str, Any]:
        lengths = [len(ids) for ids in self.columns["input_ids"]]
        left_out = [duplicate for duplicate in loaded.duplicates if not duplicate.kept]
        return {
            "loaded": len(loaded.examples),
            "kept": self.kept,
            "dropped": {reason: len(ids) for reason, ids in self.dropped.items()},
            "dropped_ids": {reason: ids[:_NAMED_IDS] for reason, ids in self.dropped.items()},
            "duplicates": {
                "left_out": len(left_out),
                "kept": len(loaded.duplicates) - len(left_out),
                "ids": [duplicate.id for duplicate in loaded.duplicates[:_NAMED_IDS]],
            },
            "prompt_tokens": sum(self.columns["num_prompt_tokens"]),
            "response_tokens": self.response_tokens,
            "total_tokens": sum(lengths),
            "max_total_tokens": max(lengths),
            "template": " + ".join(self.templates),
            "groups": dict(sorted(Counter(self.columns["group"]).items())),
        }


def _nothing_left(tally: _Tally, total: int) -> DataError:
    if not total:
        return DataError("There are no examples to tokenize. Give at least one.")
    reasons = ", ".join(f"{len(ids)} {reason}" for reason, ids in tally.dropped.items())
    return DataError(
        f"No response tokens left: all {total} examples were dropped ({reasons}). The limits are"
        f" max_length {tally.max_length} and max_prompt_length {tally.max_prompt_length}. Raise"
        " them for examples that are too long; for 'no_response_tokens' see whether the template"
        " writes the answer and the tokenizer knows its characters."
    )


def _tokenize_chunk(
    chunk: Sequence[Example],
    names: Sequence[str],
    rendered: Sequence[Rendered],
    tokenizer: PreTrainedTokenizerBase,
    system: str | None,
) -> Iterable[_Tokens]:
    """The tokens of some examples, in order."""
    texts = [i for i, name in enumerate(names) if name != "chat"]
    chats = [i for i, name in enumerate(names) if name == "chat"]
    tokens = dict(zip(texts, _tokenize_texts([rendered[i] for i in texts], tokenizer), strict=True))
    prompts = [rendered[i].prompt for i in chats]
    in_chat = _tokenize_chats([chunk[i] for i in chats], prompts, tokenizer, system)
    tokens.update(zip(chats, in_chat, strict=True))
    return [tokens[i] for i in range(len(chunk))]


def _tokenize_texts(
    rendered: Sequence[Rendered], tokenizer: PreTrainedTokenizerBase
) -> list[_Tokens]:
    """Prompt and completion one after another, then the end-of-sequence token."""
    if not rendered:
        return []
    prompts = tokenize_prompts([row.prompt for row in rendered], tokenizer, in_chat=False)
    after = [_eos_id(tokenizer)]
    completions = _ids([row.completion for row in rendered], tokenizer)
    tokens = []
    for start, completion in zip(prompts, completions, strict=True):
        answer = completion + after
        tokens.append(_Tokens(start + answer, [IGNORED] * len(start) + answer, len(start)))
    return tokens


def _tokenize_chats(
    examples: Sequence[Example],
    prompts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    system: str | None,
) -> list[_Tokens]:
    """Conversations in the tokenizer's chat format, with every turn of the assistant labelled."""
    if not examples:
        return []
    marked = bool(_GENERATION_MARK.search(tokenizer.get_chat_template()))
    cuts = [
        _cuts(example, prompt, tokenizer, system, last_only=marked)
        for example, prompt in zip(examples, prompts, strict=True)
    ]
    ids = iter(_ids(list(itertools.chain(*cuts)), tokenizer))
    control = _control_ids(tokenizer)
    tokens = []
    for example, texts in zip(examples, cuts, strict=True):
        input_ids, ends, whole = _join(texts, list(itertools.islice(ids, len(texts))), tokenizer)
        # A mask belongs to the conversation tokenized in one go; see _join for when that cannot be.
        if marked and whole:
            labels = _marked_labels(example, input_ids, tokenizer, system)
        else:
            labels = _span_labels(input_ids, ends, control, tokenizer)
            if input_ids[-1] == labels[-1] and labels[-1] not in control:
                # The template ends the last turn with no token that a model could stop at.
                input_ids, labels = ([*row, _eos_id(tokenizer)] for row in (input_ids, labels))
        tokens.append(_Tokens(input_ids, labels, ends[-2]))
    return tokens


def _cuts(
    example: Example,
    prompt: str,
    tokenizer: PreTrainedTokenizerBase,
    system: str | None,
    *,
    last_only: bool,
) -> list[str]:
    """The conversation up to where each answer begins and ends.

    The last text is all of it, and the one before that is the prompt.

    Raises:
        DataError: one of these texts is not the beginning of the whole conversation, so that its
            end says nothing about where an answer is.
    """
    turns = chat_messages(example, system)
    answers = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    full = render_chat(example, turns, tokenizer, answer_next=False)
    cuts = []
    for i in answers[-1:] if last_only else answers:
        before, after = prompt, full
        if i < len(turns) - 1:
            before = render_chat(example, turns[:i], tokenizer, answer_next=True)
            after = render_chat(example, turns[: i + 1], tokenizer, answer_next=False)
        cuts += [before, after]
        for cut, what in ((before, "before"), (after, "after")):
            if not full.startswith(cut):
                raise DataError(
                    f"Example '{example.id}': the chat template writes the conversation {what} turn"
                    f" {i + 1} differently once later turns follow, so the tokens of the answer"
                    " cannot be found. Mark the assistant's text in the chat template with"
                    " {% generation %} ... {% endgeneration %} and let its generation prompt be"
                    " what really precedes an answer, or choose another template (template: plain)."
                )
    return cuts


def _join(
    cuts: Sequence[str], ids: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[int], bool]:
    """The conversation's ids, the position where each cut ends, and whether no cut splits a token.

    Where a token would reach across a cut (an answer that begins with a line break after a prompt
    that ends with one), the pieces between cuts are tokenized apart, as they are when a model
    answers.
    """
    if all(ids[-1][: len(part)] == part for part in ids):
        return ids[-1], [len(part) for part in ids], True
    pieces = [cut[len(prior) :] for prior, cut in zip(["", *cuts], cuts, strict=False)]
    parts = _ids(pieces, tokenizer)
    return list(itertools.chain(*parts)), list(itertools.accumulate(map(len, parts))), False


def _span_labels(
    ids: list[int], ends: Sequence[int], control: frozenset[int], tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    """Labels between the cuts that open and close each answer."""
    labels = [IGNORED] * len(ids)
    for start, end in zip(ends[::2], ends[1::2], strict=True):
        last = max((i for i in range(start, end) if ids[i] in control), default=end - 1)
        # Templates write a line break after the token that ends a turn; no model has to write it.
        if last < end - 1 and not str(tokenizer.decode(ids[last + 1 : end])).strip():
            end = last + 1
        labels[start:end] = ids[start:end]
    return labels


def _marked_labels(
    example: Example, ids: list[int], tokenizer: PreTrainedTokenizerBase, system: str | None
) -> list[int]:
    """Labels where the chat template marks the assistant's text with ``{% generation %}``."""
    turns = chat_messages(example, system)
    encoded: Any = tokenizer.apply_chat_template(
        [{"role": turn.role, "content": turn.content} for turn in turns],
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    mask = encoded["assistant_masks"]
    return [token if on else IGNORED for token, on in zip(ids, mask, strict=True)]


def _ids(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The ids of each text, without the tokens that a tokenizer puts around a text."""
    encoded: Mapping[str, Any] = tokenizer(
        texts, add_special_tokens=False, return_attention_mask=False, verbose=False
    )
    return encoded["input_ids"]


def _leading_ids(text: str, plain: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that the tokenizer puts before any text, found by what it puts before this one."""
    around: Any = tokenizer(text, verbose=False)["input_ids"]
    for length in range(len(around)):
        if around[length : length + len(plain)] == plain:
            return list(around[:length])
    return []


def _control_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids of special tokens, such as those that end a turn."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(added | set(tokenizer.all_special_ids))


def _eos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the end-of-sequence token."""
    eos: Any = tokenizer.eos_token_id
    if eos is None:
        raise ModelError(
            "The tokenizer has no end-of-sequence token, so a student could not learn to stop. Set"
            ' one that it knows, for example `tokenizer.eos_token = "</s>"`, and save it with the'
            " model."
        )
    return eos
