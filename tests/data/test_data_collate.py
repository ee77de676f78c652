import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.data.collate import collate, length_batches, packed_batches, padding_id
from tutelage.errors import ConfigError


def test_rows_are_padded_on_the_right():
    batch = collate(
        [
            {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "id": "ignored"},
            {"input_ids": [8], "labels": [8]},
        ],
        pad_token_id=9,
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.long}


def test_filler_is_one_attended_token_without_label():
    batch = collate([None, {"input_ids": [5, 6], "labels": [-100, 6]}, None], pad_token_id=3)
    assert batch["input_ids"][0].tolist() == [3, 3]
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 1], [1, 0]]
    assert (batch["labels"][[0, 2]] == -100).all()


def test_batch_of_fillers_alone():
    batch = collate([None, None], pad_token_id=0)
    assert batch["input_ids"].shape == (2, 1)
    assert batch["attention_mask"].sum() == 2
    assert (batch["labels"] == -100).all()


def test_tensors_are_accepted_as_rows():
    row = {"input_ids": torch.tensor([1, 2]), "labels": torch.tensor([-100, 2])}
    assert collate([row], 0)["labels"].tolist() == [[-100, 2]]


@pytest.mark.parametrize(
    ("pad", "eos", "expected"), [("<s>", "<|im_end|>", "<s>"), (None, "<|im_end|>", "<|im_end|>")]
)
def test_padding_id_falls_back_to_eos(make_tokenizer, pad, eos, expected):
    tokenizer = make_tokenizer(pad=pad, eos=eos)
    before = len(tokenizer)
    assert padding_id(tokenizer) == tokenizer.convert_tokens_to_ids(expected)
    assert len(tokenizer) == before


def test_padding_id_without_any_special_token(make_tokenizer):
    assert padding_id(make_tokenizer(eos=None)) == 0


@given(
    st.lists(st.integers(0, 50), max_size=60),
    st.integers(1, 120),
    st.integers(1, 9),
)
def test_batches_hold_each_position_once_within_the_budget(lengths, max_tokens, max_rows):
    batches = length_batches(lengths, max_tokens=max_tokens, max_rows=max_rows)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= max_rows
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= max_tokens
    assert batches == length_batches(lengths, max_tokens=max_tokens, max_rows=max_rows)


def test_longest_rows_come_first_and_ties_keep_their_order():
    assert length_batches([2, 9, 3, 9], max_tokens=9, max_rows=4) == [[1], [3], [2, 0]]


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 120))
def test_packed_batches_hold_each_position_once_within_the_budget(lengths, max_tokens):
    batches = packed_batches(lengths, max_tokens=max_tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    in_order = [lengths[i] for batch in batches for i in batch]
    assert in_order == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or sum(lengths[i] for i in batch) <= max_tokens
    for batch, following in itertools.pairwise(batches):
        assert sum(lengths[i] for i in batch) + lengths[following[0]] > max_tokens


@pytest.mark.parametrize("limits", [{"max_tokens": 0}, {"max_rows": 0}])
def test_a_batch_needs_room(limits):
    with pytest.raises(ConfigError, match="at least 1"):
        length_batches([1], **limits)
    with pytest.raises(ConfigError, match="at least 1"):
        packed_batches([1], max_tokens=0)


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 60), st.integers(1, 5))
def test_batches_are_those_of_the_plain_rules(lengths, max_tokens, max_rows):
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    padded, packed = [], []
    for i in order:
        full = padded and len(padded[-1]) == max_rows
        if not padded or full or (len(padded[-1]) + 1) * lengths[padded[-1][0]] > max_tokens:
            padded.append([])
        padded[-1].append(i)
        if not packed or sum(lengths[j] for j in [*packed[-1], i]) > max_tokens:
            packed.append([])
        packed[-1].append(i)
    assert length_batches(lengths, max_tokens=max_tokens, max_rows=max_rows) == padded
    assert packed_batches(lengths, max_tokens=max_tokens) == packed
    assert packed_batches(np.array(lengths, int), max_tokens=max_tokens)[:2] == packed[:2]
