"""Answers that a teacher wrote, as tokens that a student learns.

The teacher was asked a prompt and went on. So its answer follows the very tokens of the prompt that
stands in the tokenized data, and nothing renders it again: a chat template takes a text apart and
writes it otherwise (it drops thoughts, or opens an answer whose thoughts have no end with an empty
block of them), and the student would learn another text after another prompt than was asked.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase

from tutelage.data.collate import IGNORED
from tutelage.data.ending import turn_end
from tutelage.data.format import template_name
from tutelage.data.lengths import NUM_RESPONSE_TOKENS, NUM_TOKENS
from tutelage.data.pieces import continuations, control_ids, end_of_text_id
from tutelage.data.thoughts import unclosed
from tutelage.types import Example


@dataclass(frozen=True)
class WrittenAnswer:
    """An answer to one prompt.

    Attributes:
        text: the answer.
        tokens: what the teacher wrote, without what ended it, in the ids of the student's
            tokenizer; empty where the teacher has another one.
        cut: whether a length limit ended it, so that its end is not learned.
    """

    text: str
    tokens: tuple[int, ...] = ()
    cut: bool = False


@dataclass(frozen=True)
class WrittenSplit:
    """Answers as tokens, and what became of the others.

    Attributes:
        dataset: the data's rows with these answers in place of their own, in the order of the
            answers; those that do not fit are left out.
        counts: how many were left out (``too_long``, ``no_response_tokens``), and how many of those
            that are learned break off inside their thoughts (``cut_in_thoughts``).
    """

    dataset: datasets.Dataset
    counts: Mapping[str, int]


def tokenize_written(
    rows: datasets.Dataset,
    examples: Mapping[str, Example],
    answers: Mapping[str, WrittenAnswer],
    tokenizer: PreTrainedTokenizerBase,
    *,
    template: str = "auto",
    max_length: int = 512,
) -> WrittenSplit:
    """Put written answers in the place of the data's last answers.

    An answer of a teacher with the student's tokenizer is learned token by token as it was written,
    any other one as text, after the white space that the chat template begins an answer with. It
    ends as the data's answers end, unless a length limit cut it.

    Args:
        rows: what ``tokenize_examples`` made of the examples.
        examples: the examples by id.
        answers: the answers by id; each has a row and an example.
        tokenizer: the student's tokenizer.
        template: as for ``tokenize_examples``.
        max_length: most tokens of prompt and answer together.
    """
    places = {example_id: place for place, example_id in enumerate(rows["id"])}
    chosen: Any = rows.select([places[example_id] for example_id in answers])
    in_chat = [template_name(examples[i], template, tokenizer) == "chat" for i in answers]
    ids = _answer_ids(list(answers.values()), in_chat, chosen["prompt"], tokenizer)
    control = control_ids(tokenizer)
    counts: Counter[str] = Counter(too_long=0, no_response_tokens=0, cut_in_thoughts=0)
    columns: dict[str, list[Any]] = {name: [] for name in rows.column_names}
    for row, answer, answer_ids in zip(chosen, answers.values(), ids, strict=True):
        length = row["num_prompt_tokens"]
        if control.issuperset(answer_ids):
            counts["no_response_tokens"] += 1
            continue
        if length + len(answer_ids) > max_length:
            counts["too_long"] += 1
            continue
        counts["cut_in_thoughts"] += answer.cut and unclosed(answer.text, row["prompt"])
        labels = [*row["labels"][:length], *answer_ids]
        learned = {
            "input_ids": [*row["input_ids"][:length], *answer_ids],
            "labels": labels,
            NUM_TOKENS: len(labels),
            NUM_RESPONSE_TOKENS: len(labels[1:]) - labels[1:].count(IGNORED),
            "completion": answer.text,
        }
        for name, value in {**row, **learned}.items():
            columns[name].append(value)
    return WrittenSplit(datasets.Dataset.from_dict(columns, features=rows.features), dict(counts))


def _answer_ids(
    answers: Sequence[WrittenAnswer],
    in_chat: Sequence[bool],
    prompts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
) -> list[list[int]]:
    """The ids of each answer, with what ends it."""
    end = turn_end(tokenizer)
    text_end = end_of_text_id(tokenizer)
    chat_end = text_end if end.token is None else end.token
    leads = [
        end.lead if chat and not a.text[:1].isspace() else ""
        for a, chat in zip(answers, in_chat, strict=True)
    ]
    texts = [lead + answer.text for lead, answer in zip(leads, answers, strict=True)]
    found = []
    for answer, chat, ids in zip(
        answers, in_chat, continuations(prompts, texts, tokenizer), strict=True
    ):
        ids = list(answer.tokens) or ids
        found.append(ids if answer.cut else [*ids, chat_end if chat else text_end])
    return found
