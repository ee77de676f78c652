"""Features of rows against plain counting in Python."""

import math
from collections import Counter

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest_models import random_rows
from tutelage.difficulty import features as module
from tutelage.difficulty.features import FEATURES, row_features


def counted(rows):
    """The same by dictionaries, one token at a time."""
    pairs = [
        [
            (row["input_ids"][t - 1], row["input_ids"][t])
            for t in range(1, len(row["input_ids"]))
            if row["labels"][t] != -100
        ]
        for row in rows
    ]
    every = [pair for row in pairs for pair in row]
    of_pair, of_token = Counter(every), Counter(w for _, w in every)
    of_context = Counter(v for v, _ in every)
    table = []
    for row, own in zip(rows, pairs, strict=True):
        unigram = [-math.log(of_token[w] / len(every)) for _, w in own] or [0.0]
        bigram = [
            -math.log((of_pair[v, w] - 1 + of_token[w] / len(every)) / of_context[v])
            for v, w in own
        ] or [0.0]
        table.append(
            [
                math.log(1 + len(row["input_ids"]) - len(own)),
                math.log(1 + len(own)),
                sum(unigram) / len(unigram),
                max(unigram),
                sum(bigram) / len(bigram),
                len({w for _, w in own}) / max(len(own), 1),
            ]
        )
    return np.asarray(table)


@st.composite
def some_rows(draw):
    rows = []
    for _ in range(draw(st.integers(1, 8))):
        ids = draw(st.lists(st.sampled_from([0, 1, 2, 1999]), max_size=9))
        learned = draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
        labels = [token if yes else -100 for token, yes in zip(ids, learned, strict=True)]
        rows.append({"input_ids": ids, "labels": labels})
    return rows


@settings(deadline=None, max_examples=60)
@given(some_rows())
def test_features_are_those_that_are_counted(rows):
    np.testing.assert_allclose(row_features(rows), counted(rows), atol=1e-12)


def test_a_data_set_and_a_list_and_blocks_of_any_size_agree(monkeypatch):
    rows = random_rows(50)
    whole = row_features(rows)
    assert whole.shape == (50, len(FEATURES)) and np.isfinite(whole).all()
    np.testing.assert_allclose(whole, counted(list(rows)), atol=1e-12)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 7)
    for form in (
        rows,
        list(rows),
        datasets.concatenate_datasets([rows.select(range(20)), rows.select(range(20, 50))]),
    ):
        np.testing.assert_allclose(row_features(form), whole, atol=1e-12)


def test_a_data_set_that_was_shuffled_keeps_its_rows():
    rows = random_rows(20)
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_allclose(
        row_features(rows.select(order)), row_features(rows)[order], atol=1e-12
    )


def test_large_ids_collide_only_to_look_more_usual():
    rng = np.random.default_rng(0)
    rows = [
        {"input_ids": ids, "labels": ids} for ids in rng.integers(0, 150_000, (2000, 50)).tolist()
    ]
    hashed, exact = row_features(rows), counted(rows)
    others = [i for i, name in enumerate(FEATURES) if name != "mean_bigram_surprisal"]
    np.testing.assert_allclose(hashed[:, others], exact[:, others], atol=1e-9)
    gap = exact[:, 4] - hashed[:, 4]
    assert (gap >= -1e-9).all()
    # 98,000 pairs in 4,194,304 buckets: two share one in about 2 % of cases.
    assert gap.mean() < 0.05 * exact[:, 4].mean()


def test_no_rows_no_features():
    assert row_features([]).shape == (0, len(FEATURES))


@pytest.mark.parametrize("labels", [[-100, -100], [5, -100]])
def test_rows_without_anything_to_predict_have_zeros(labels):
    found = row_features([{"input_ids": [5, 6], "labels": labels}])
    np.testing.assert_allclose(found, [[math.log(3), 0, 0, 0, 0, 0]])
