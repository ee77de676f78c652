"""Ids behave as the tuple of their strings, whatever the strings and however many."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage import ids as ids_module
from tutelage.errors import DataError
from tutelage.ids import Ids
from tutelage.types import check_unique

texts = st.text(st.sampled_from('a0é\U0001f600z"\x00'), max_size=20)
names = st.lists(
    st.one_of(texts, texts.map("eight-by/".__add__), texts.map(lambda t: "long " * 9 + t)),
    max_size=30,
)


def by_hand(names, scores):
    return sorted(range(len(names)), key=lambda i: (scores[i], names[i], i))


def repeats_by_hand(names):
    return [name for i, name in enumerate(names) if name in names[:i]]


@settings(deadline=None)
@given(names)
def test_a_sequence_of_strings(names):
    ids = Ids(names)
    assert ids == names and ids == tuple(names) and tuple(names) == ids and ids == Ids(names)
    assert hash(ids) == hash(tuple(names)) and list(ids) == names and len(ids) == len(names)
    assert ids[::-1] == names[::-1] and ids[2:7] == names[2:7]
    assert ids != [*names, "more"] and ids != "text" and ids != 3
    for i in range(-len(names), len(names)):
        assert ids[i] == ids[np.int32(i)] == names[i]
    with pytest.raises(IndexError):
        ids[len(names)]
    assert ids.equal_to("a").tolist() == [name == "a" for name in names]


@settings(deadline=None, max_examples=200)
@given(names, st.data())
def test_order_repeats_and_places(names, data):
    scores = data.draw(
        st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.5]), min_size=len(names), max_size=len(names))
    )
    for start in (0, 3):
        ids, part, given_scores = Ids(names)[start:], names[start:], scores[start:]
        assert ids.order_by(np.asarray(given_scores)).tolist() == by_hand(part, given_scores)
        assert ids.repeats() == repeats_by_hand(part)
        known = list(dict.fromkeys(part))[::-1]
        asked = [*part, "nobody", "a"]
        found = Ids(known).locate(Ids(asked)).tolist()
        assert found == [known.index(name) if name in known else -1 for name in asked]


def test_different_texts_with_the_same_key_stay_apart(monkeypatch):
    monkeypatch.setattr(ids_module, "_mix", lambda key: key & np.uint64(1))
    names = [f"name-{i}" for i in range(50)]
    assert Ids(names).repeats() == []
    assert Ids([*names, "name-7"]).repeats() == ["name-7"]
    asked = [*names[::-1], "nobody"]
    assert Ids(names).locate(Ids(asked)).tolist() == [*range(49, -1, -1), -1]


def test_more_than_one_part_at_a_time(monkeypatch):
    monkeypatch.setattr(ids_module, "_ROWS", 7)
    rng = np.random.default_rng(0)
    names = ["x" * int(n) + str(n) for n in rng.integers(0, 30, 100)]
    scores = rng.integers(0, 3, 100).astype(float)
    assert list(Ids(names)) == names
    assert Ids(names).order_by(scores).tolist() == by_hand(names, scores)
    assert Ids(names).repeats() == repeats_by_hand(names)


def test_from_arrow_in_pieces():
    pieces = pa.chunked_array([["a", "b"], ["c"]])
    assert Ids(pieces) == ("a", "b", "c") and Ids(pa.chunked_array([], pa.string())) == ()
    assert Ids(pa.array([1, 2])) == ("1", "2")


@pytest.mark.parametrize("wrong", [["a", 1], ["a", None], [b"\xff"], ["\ud800"]])
def test_what_is_no_text_is_refused(wrong):
    with pytest.raises(DataError, match="must be text"):
        Ids(wrong)


def test_ids_that_repeat_are_counted_and_named():
    with pytest.raises(DataError, match="2 example ids repeat, for example 'b'"):
        check_unique(["a", "b", "b", "b"])
    check_unique(["a", "b"])
