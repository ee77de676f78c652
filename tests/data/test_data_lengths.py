"""Lengths are columns of tokenized rows, and are counted in Arrow where rows are others'."""

import datasets
import pyarrow as pa
import pytest

from tutelage.data import tokenize_examples
from tutelage.data.arithmetic import build_tokenizer
from tutelage.data.lengths import (
    NUM_RESPONSE_TOKENS,
    NUM_TOKENS,
    count_response_tokens,
    count_tokens,
    stored_lengths,
)
from tutelage.types import Example

TOKENS = [[5, 6, 7], [5], [], [1, 2, 3, 4], [9, 9]]
LABELS = [[-100, 6, 7], [5], [], [1, 2, -100, 4], [-100, -100]]
LEARNED = [2, 0, 0, 2, 0]  # nothing predicts the first token of a row


@pytest.fixture
def rows():
    return datasets.Dataset.from_dict({"input_ids": TOKENS, "labels": LABELS})


def test_tokens_of_anybodys_rows_are_counted(rows):
    assert count_tokens(rows).tolist() == [3, 1, 0, 4, 2]
    assert count_response_tokens(rows).tolist() == LEARNED


def test_rows_are_counted_in_their_order_whatever_was_done_to_them(rows):
    some = datasets.concatenate_datasets([rows.select([3, 0]), rows.select([4])])
    assert count_tokens(some).tolist() == [4, 3, 2]
    assert count_response_tokens(some.with_format("torch")).tolist() == [2, 2, 0]
    assert count_tokens(rows.select([])).tolist() == []


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list], ids=["list", "large_list"])
def test_every_kind_of_list_is_counted(kind):
    table = pa.table({"input_ids": pa.array(TOKENS, kind(pa.int32()))})
    assert count_tokens(datasets.Dataset(table)).tolist() == [3, 1, 0, 4, 2]


@pytest.mark.parametrize("long_prompts", ["drop", "cut"])
def test_tokenizing_leaves_the_lengths_with_the_rows(long_prompts):
    examples = [
        Example(str(n), {"prompt": f"{'1+' * n}1="}, str(n + 1), (str(n + 1),)) for n in range(9)
    ]
    tokenizer = build_tokenizer()
    split = tokenize_examples(
        examples, tokenizer, max_length=12, max_prompt_length=8, long_prompts=long_prompts
    )
    rows = split.dataset
    assert len(rows) == (9 if long_prompts == "cut" else 4)
    assert stored_lengths(rows, NUM_TOKENS).tolist() == [len(ids) for ids in rows["input_ids"]]
    assert rows[NUM_RESPONSE_TOKENS][:] == [
        sum(label != -100 for label in labels[1:]) for labels in rows["labels"]
    ]
    assert (count_response_tokens(rows) == stored_lengths(rows, NUM_RESPONSE_TOKENS)).all()
    assert split.summary["total_tokens"] == sum(rows[NUM_TOKENS])
    assert split.summary["response_tokens"] == sum(rows[NUM_RESPONSE_TOKENS])
    assert stored_lengths(rows.select([2, 0]), NUM_TOKENS).tolist() == [
        len(rows[2]["input_ids"]), len(rows[0]["input_ids"])
    ]  # fmt: skip
