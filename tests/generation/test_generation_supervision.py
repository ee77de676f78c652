"""Which texts a student learns from, and who says what is right."""

import itertools
import random

import pytest

from tutelage.errors import ConfigError, DataError
from tutelage.generation import (
    ON_WRONG,
    TextStore,
    WrittenText,
    choose_texts,
    example_verifier,
    unwritten,
)
from tutelage.types import Example


def text(example_id, sample, content="4", score=None, truncated=False):
    return WrittenText(example_id, sample, content, "strong", 3, truncated, score, 0, 0.0)


def store_of(path, texts):
    store = TextStore(path, {})
    store.add(texts)
    return store


JUDGED = [
    text("right", 0, score=1.0),
    text("late", 0, "no", score=0.0),
    text("late", 1, "cut", score=1.0, truncated=True),
    text("late", 2, "yes", score=1.0),
    text("late", 3, "yes too", score=1.0),
    text("cut", 0, "4 and so", score=1.0, truncated=True),
    text("empty", 0, "wrong", score=0.0),
    text("empty", 1, " \n", score=0.0),
    text("wrong", 0, "5", score=0.2),
    text("wrong", 1, "6", score=0.0),
]
IDS = ["wrong", "right", "late", "nobody asked", "cut", "empty"]


@pytest.mark.parametrize(
    ("on_wrong", "options", "texts", "dropped"),
    [
        (
            "keep",
            {},
            {"wrong": "5", "right": "4", "late": "no", "cut": "4 and so", "empty": "wrong"},
            {"nobody asked": "not_written"},
        ),
        (
            "keep",
            {"drop_truncated": True},
            {"wrong": "5", "right": "4", "late": "no", "empty": "wrong"},
            {"nobody asked": "not_written", "cut": "truncated"},
        ),
        (
            "drop",
            {"max_samples": 4},
            {"right": "4"},
            {
                "wrong": "wrong",
                "late": "wrong",
                "nobody asked": "not_written",
                "cut": "truncated",
                "empty": "wrong",
            },
        ),
        (
            "resample",
            {"max_samples": 4},
            {"right": "4", "late": "yes"},
            {
                "wrong": "wrong",
                "nobody asked": "not_written",
                "cut": "truncated",
                "empty": "empty",
            },
        ),
        (
            "resample",
            {"max_samples": 2},
            {"right": "4"},
            {
                "wrong": "wrong",
                "late": "truncated",
                "nobody asked": "not_written",
                "cut": "truncated",
                "empty": "empty",
            },
        ),
    ],
)
def test_choice(tmp_path, on_wrong, options, texts, dropped):
    chosen = choose_texts(store_of(tmp_path, JUDGED), IDS, on_wrong, **options)
    assert {i: t.text for i, t in chosen.texts.items()} == texts
    assert chosen.dropped == dropped
    assert list(chosen.texts) == [i for i in IDS if i in texts]
    assert chosen.summary == {
        "asked": 6,
        "kept": len(texts),
        "right": 1,
        "wrong": 4,
        "unjudged": 0,
        "truncated": 1,
        "dropped": len(dropped),
        "rescued": int(texts.get("late") == "yes"),
    }


def test_texts_that_nobody_judged(tmp_path):
    texts = [text("a", 0), text("b", 0, truncated=True), text("c", 0, " ")]
    store = store_of(tmp_path, texts)
    kept = choose_texts(store, "abc", "keep")
    assert list(kept.texts) == ["a", "b"] and kept.dropped == {"c": "empty"}
    assert (kept.summary["unjudged"], kept.summary["right"], kept.summary["wrong"]) == (3, 0, 0)
    uncut = choose_texts(store, "abc", "keep", drop_truncated=True)
    assert list(uncut.texts) == ["a"] and uncut.dropped == {"b": "truncated", "c": "empty"}
    for on_wrong in ("drop", "resample"):
        with pytest.raises(ConfigError, match=f"'{on_wrong}', but nobody judged"):
            choose_texts(store, "abc", on_wrong)
    store.add([text("d", 0, score=1.0)])
    some = choose_texts(store, "abcd", "drop")
    assert list(some.texts) == ["d"]
    assert some.dropped == {"a": "unjudged", "b": "truncated", "c": "empty"}


def test_unknown_way(tmp_path):
    with pytest.raises(ConfigError, match=r"Did you mean 'drop'\?"):
        choose_texts(store_of(tmp_path, []), [], "dropp")


def test_no_ids(tmp_path):
    chosen = choose_texts(store_of(tmp_path, JUDGED), [], "keep")
    assert (chosen.texts, chosen.dropped, set(chosen.summary.values())) == ({}, {}, {0})


@pytest.mark.parametrize("seed", range(5))
def test_random_stores_against_a_walk_through_their_lines(tmp_path, seed):
    """The reference walks through the texts as they were written and keeps the first that may."""
    rng = random.Random(seed)
    texts = []
    ids = [f"e{number}" for number in range(60)]
    for example_id in ids:
        for sample in range(rng.randint(0, 4)):
            content = rng.choice(["", "x", "y"])
            score = rng.choice([0.0, 0.49, 0.5, 1.0])
            texts.append(text(example_id, sample, content, score, rng.random() < 0.3))
    store = store_of(tmp_path, texts)
    for on_wrong, most in itertools.product(ON_WRONG, (1, 2, 4)):
        expected: dict[str, tuple[str, int]] = {}
        written = dict.fromkeys(ids, 0)
        solved = set()
        looked_at = most if on_wrong == "resample" else 1
        for one in texts:
            if one.sample < looked_at:
                written[one.id] += 1
                good = one.score >= 0.5 and not one.truncated
                if good:
                    solved.add(one.id)
                if one.text and (good or on_wrong == "keep") and one.id not in expected:
                    expected[one.id] = one.text, one.sample
        chosen = choose_texts(store, ids, on_wrong, most)
        assert {i: (t.text, t.sample) for i, t in chosen.texts.items()} == expected
        assert set(chosen.dropped) == set(ids) - set(expected)
        assert chosen.summary["kept"] + chosen.summary["dropped"] == len(ids)
        todo = [i for i in ids if written[i] < looked_at and i not in solved]
        assert unwritten(store, ids, on_wrong, most) == todo


EXAMPLES = [
    Example("a", {"question": "2 + 2?"}, "2 + 2 = 4\n#### 4", ("2 + 2 = 4\n#### 4", "four: 4.0")),
    Example("b", {"question": "1/4?"}, "0.25"),
]


def test_a_verifier_compares_with_the_references_of_the_example():
    number = example_verifier(EXAMPLES, "number")
    assert [number("a", x) for x in ("It is 4.", "5", "", "4 or 5")] == [1.0, 0.0, 0.0, 0.0]
    assert [number("b", x) for x in ("1/4", "0.25", "4")] == [1.0, 1.0, 0.0]
    marked = example_verifier(EXAMPLES, "exact_match", {"after": "####"})
    assert [marked("a", x) for x in ("so #### 4", "so 4", "#### 5")] == [1.0, 0.0, 0.0]
    rouge = example_verifier(EXAMPLES, "rouge_l", {"stemmer": False})
    # Words "2 2 4 4" against "2 4": two common ones of four and of two, F1 = 2/3.
    assert rouge("a", "2 4") == pytest.approx(2 / 3)


def test_a_verifier_that_cannot_score_is_refused_before_anything_is_written():
    with pytest.raises(ConfigError, match="Did you mean 'number'"):
        example_verifier(EXAMPLES, "numbr")
    with pytest.raises(ConfigError, match="no option 'before'"):
        example_verifier(EXAMPLES, "exact_match", {"before": "#"})
    words = Example("c", {"question": "?"}, "none")
    with pytest.raises(DataError, match=r"Verifier 'number', example 'c': .*holds no number"):
        example_verifier([*EXAMPLES, words], "number")
