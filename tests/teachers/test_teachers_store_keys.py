"""Keys of rows: the same as ever, found out once, and never taken for other rows."""

import datasets
import numpy as np
import pytest

from conftest_models import random_rows
from tutelage.teachers import row_key
from tutelage.teachers.store import keys
from tutelage.teachers.store.keys import COLUMNS, KEYS, describe_rows, join_rows, save_keys


@pytest.fixture
def hashed(monkeypatch):
    """How many rows were hashed each time."""
    seen, hashes = [], keys._hashes

    def counted(ids, *more):
        seen.append(len(ids))
        return hashes(ids, *more)

    monkeypatch.setattr(keys, "_hashes", counted)
    monkeypatch.setattr(keys, "_described", {})
    return seen


def saved(rows, folder):
    rows.save_to_disk(folder)
    return datasets.load_from_disk(str(folder))


def test_keys_are_those_of_stores_that_were_made_before():
    # Written down when the format was: a store is found by these numbers for good.
    assert row_key("a", [1, 2, 3], [-100, 2, 3]) == 509942311709917765
    assert row_key("\u00e9\u4e2d", [7], [-100]) == 16847239597397358195


def test_rows_are_described_as_one_by_one():
    rows = random_rows(30).add_column("more", list(range(30)))
    # Some rows of several tables, in another order, with an empty one among them.
    empty = {"id": "none", "input_ids": [], "labels": [], "more": 0}
    rows = datasets.concatenate_datasets([rows, datasets.Dataset.from_list([empty])])
    rows = rows.select([30, *range(29, -1, -2)])
    found = describe_rows(rows)
    for row, one in zip(rows, found, strict=True):
        assert one["key"] == row_key(row["id"], row["input_ids"], row["labels"])
        assert one["tokens"] == len(row["input_ids"])
        assert one["responses"] == sum(label != -100 for label in row["labels"][1:])


def test_rows_are_hashed_once_for_a_process(hashed):
    rows = datasets.Dataset.from_dict(
        {"id": ["a", "b"], "input_ids": [[1, 2], [3, 4]], "labels": [[-100, 2], [-100, 4]]}
    ).add_column("more", [1, 2])
    test = random_rows(5)
    first = describe_rows(rows)
    assert describe_rows(rows.select_columns(COLUMNS)) is first
    both = join_rows([rows, test])
    assert describe_rows(both).tolist() == [*first.tolist(), *describe_rows(test).tolist()]
    assert both["id"][:] == [*rows["id"], *test["id"]]
    assert join_rows([rows]).column_names == COLUMNS
    assert hashed == [2, 5]
    assert describe_rows(rows.select([1])).tolist() == first[1:].tolist() and hashed == [2, 5, 1]


def test_keys_beside_rows_are_read(hashed, tmp_path):
    rows = saved(random_rows(2000), tmp_path / "rows")
    save_keys(tmp_path / "rows")
    hashed.clear()
    found = describe_rows(datasets.load_from_disk(str(tmp_path / "rows")))
    assert isinstance(found, np.memmap) and hashed == [8], "a few rows are looked at"
    keys._described.clear()
    part = rows.select(range(1, 2000))
    assert describe_rows(part).tolist() == found[1:].tolist() and hashed == [8, 1999]


@pytest.mark.parametrize("change", ["rows", "tokens", "torn", "text", "other"])
def test_keys_of_other_rows_are_not_taken(tmp_path, change, monkeypatch):
    monkeypatch.setattr(keys, "_described", {})
    rows = saved(random_rows(50), tmp_path / "rows")
    path = tmp_path / "rows" / KEYS
    save_keys(tmp_path / "rows")
    if change == "rows":
        rows = rows.select([*range(49), 0])
    elif change == "tokens":
        rows = rows.map(lambda row: {"input_ids": [4, *row["input_ids"][1:]]})
    elif change == "torn":
        path.write_bytes(path.read_bytes()[:-7])
    elif change == "text":
        path.write_text("no array")
    else:  # of as many other rows
        other = random_rows(50, seed=9)
        other.save_to_disk(tmp_path / "other")
        save_keys(tmp_path / "other")
        path.write_bytes((tmp_path / "other" / KEYS).read_bytes())
    for row, one in zip(rows, describe_rows(rows), strict=True):
        assert one["key"] == row_key(row["id"], row["input_ids"], row["labels"])


def test_little_is_remembered(monkeypatch):
    monkeypatch.setattr(keys, "_described", {})
    monkeypatch.setattr(keys, "_ROWS_REMEMBERED", 25)
    for seed in range(4):
        describe_rows(random_rows(10, seed=seed))
    assert len(keys._described) == 2
