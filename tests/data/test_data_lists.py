"""The task of lists: right results by other means, exact noise, and a true distribution."""

import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from transformers import AutoTokenizer

from tutelage.data.list_steps import OPERATIONS
from tutelage.data.lists import (
    LENGTHS,
    LEVELS,
    PIECES,
    answer_distribution,
    build_tokenizer,
    completion_distribution,
    list_examples,
)
from tutelage.errors import ConfigError, DataError
from tutelage.verifiers import VERIFIERS

STORED = [
    ("train-a0b0c042873b678f", "drop:025337?", "drop#02573"),
    ("train-dfe7bc7fe0e9814d", "rotate1,above3:7170?", "rotate1=1707;above3#77"),
    (
        "train-5417883702ae23fa",
        "reverse,above2,runs:905035?",
        "reverse=530509;above2=5359;runs#10131519",
    ),
]


def outcomes(word, items):
    """All equally likely results of a step, by numpy and regular expressions, as arrays."""
    name, argument = re.fullmatch(r"([a-z]+)(\d*)", word).groups()
    number = int(argument or 0)
    places = np.arange(len(items))
    if not len(items):
        return [items]
    if name == "reverse":
        return [np.flip(items)]
    if name == "sort":
        return [np.repeat(np.arange(10), np.bincount(items, minlength=10))]
    if name == "unique":
        return [items[np.sort(np.unique(items, return_index=True)[1])]]
    if name == "rotate":
        return [np.roll(items, -number)]
    if name == "every":
        return [items[places % number == 0]]
    if name == "replace":
        return [np.where(items == number // 10, number % 10, items)]
    if name == "above":
        return [items[items > number]]
    if name == "below":
        return [items[items < number]]
    if name == "drop":
        return [np.delete(items, place) for place in places]
    if name == "cut":
        return [np.roll(items, -place) for place in places]
    if name == "count":
        return [np.array([np.sum(items == number)])]
    if name == "runs":
        runs = re.finditer(r"(.)\1*", "".join(map(str, items)))
        return [np.array([n for run in runs for n in (len(run[0]), int(run[1]))])]
    assert name == "pick"
    return [items[place : place + 1] for place in places]


def text(items):
    return "".join(map(str, items.tolist())) or "-"


def split(prompt):
    words, _, items = prompt.removesuffix("?").partition(":")
    return words.split(","), np.array([int(item) for item in items])


def read(written):
    return np.array([int(item) for item in written if item != "-"], dtype=int)


def wrong_steps(prompt, completion):
    """The places of steps with a result that is not allowed; all else must be consistent."""
    words, items = split(prompt)
    *earlier, last = completion.split(";")
    parts = [part.split("=") for part in earlier] + [last.split("#")]
    assert [name for name, _ in parts] == words
    wrong = []
    for place, (word, written) in enumerate(parts):
        allowed = outcomes(word, items)
        if written not in map(text, allowed):
            wrong.append(place)
            assert any(
                len(read(written)) == max(len(one), 1)
                and np.sum(read(written)[: len(one)] != one) <= 1
                for one in allowed
            ), "one digit is another"
        items = read(written)
    return wrong


def drawn_by_hand(rng, prompt):
    """The answer after choices drawn at random."""
    words, items = split(prompt)
    for word in words:
        allowed = outcomes(word, items)
        items = allowed[rng.integers(len(allowed))]
    return text(items)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_clean_examples_are_right(part):
    examples = list_examples(part, 400, seed=3)
    seen = {word.rstrip("0123456789") for e in examples for word in split(e.fields["prompt"])[0]}
    assert seen == set(OPERATIONS)
    for example in examples:
        assert wrong_steps(example.fields["prompt"], example.completion) == []
        assert "-" not in example.completion, "no list is empty"


def test_references_are_all_right_answers_and_the_verifier_takes_each():
    judge = VERIFIERS["exact_match"].function
    several = 0
    for example in list_examples("test", 200, seed=1):
        reached = [split(example.fields["prompt"])[1]]
        for word in split(example.fields["prompt"])[0]:
            reached = [result for one in reached for result in outcomes(word, one)]
        assert set(example.references) == {text(one) for one in reached}
        several += len(example.references) > 1
        right = completion_distribution(example.fields["prompt"])
        assert example.completion in right
        assert {judge(each, example.references, after="#") for each in right} == {1.0}
        for wrong in (f"#{max(example.references)}0", "#", example.references[0]):
            assert judge(wrong, example.references, after="#") == 0.0
    assert 40 < several < 80, "about a third leaves something to choose, some of it to no effect"


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 40),
    noise=st.floats(0, 1),
    levels=st.lists(st.sampled_from([*LEVELS, 6]), min_size=1, unique=True),
    lengths=st.lists(st.sampled_from([*LENGTHS, 9]), min_size=1, unique=True),
)
@settings(max_examples=15, deadline=None)
def test_noise_is_exact_and_carried_on(seed, count, noise, levels, lengths):
    shape = {"seed": seed, "levels": levels, "lengths": lengths}
    examples = list_examples("train", count, label_noise=noise, **shape)
    wrong = [wrong_steps(e.fields["prompt"], e.completion) for e in examples]
    assert sorted(map(len, wrong)) == sorted(
        [1] * round(noise * count) + [0] * (count - round(noise * count))
    )
    clean = list_examples("train", count, **shape)
    assert [(e.id, e.fields, e.references, e.group) for e in clean] == [
        (e.id, e.fields, e.references, e.group) for e in examples
    ]
    for one, other, places in zip(clean, examples, wrong, strict=True):
        assert (one.completion == other.completion) == (not places)
        assert len(split(one.fields["prompt"])[1]) in lengths


def test_errors_hit_every_step_and_the_answer_mostly():
    examples = list_examples("train", 400, label_noise=1.0, levels=(4,))
    places = Counter(wrong_steps(e.fields["prompt"], e.completion)[0] for e in examples)
    assert sorted(places) == [0, 1, 2, 3] and min(places.values()) > 70
    healed = sum(e.completion.rpartition("#")[2] in e.references for e in examples)
    assert 0 < healed < 100


@pytest.mark.parametrize(
    "prompt",
    ["pick:7727?", "drop:1123?", "cut:12121?", "drop,sort,pick:3314?", "cut,every2,runs:311422?"],
)
def test_answers_drawn_by_hand_follow_the_distribution(prompt):
    truth = answer_distribution(prompt)
    assert sum(truth.values()) == pytest.approx(1.0, abs=1e-12)
    rng = np.random.default_rng(0)
    drawn = Counter(drawn_by_hand(rng, prompt) for _ in range(4000))
    assert set(drawn) == set(truth)
    assert chisquare([drawn[a] for a in truth], [4000 * p for p in truth.values()]).pvalue > 1e-3


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_labels_follow_the_distribution(noise):
    """Where the labels lie in their own distributions is uniform, whatever the prompts."""
    rng = np.random.default_rng(0)
    lies = []
    for example in list_examples("train", 600, seed=5, label_noise=noise, lengths=(3, 4)):
        truth = completion_distribution(example.fields["prompt"], label_noise=noise)
        assert math.fsum(truth.values()) == pytest.approx(1.0, abs=1e-12)
        below = math.fsum(p for other, p in truth.items() if other < example.completion)
        lies.append(below + rng.random() * truth[example.completion])
    assert kstest(lies, "uniform").pvalue > 1e-3


def test_noise_in_a_distribution_by_hand():
    truth = completion_distribution("sort,pick:31?", label_noise=0.5)
    assert truth["sort=13;pick#1"] == truth["sort=13;pick#3"] == pytest.approx(0.25)
    # A wrong pick is one of eight digits; a wrong sort has 18 forms, each with two picks.
    assert truth["sort=13;pick#7"] == pytest.approx(0.25 / 8)
    assert truth["sort=93;pick#9"] == pytest.approx(0.25 / 18 / 2)
    assert len(truth) == 2 + 8 + sum(1 if a == b else 2 for a, b in twisted("13"))
    assert answer_distribution("sort:31?", label_noise=0.0) == {"13": 1.0}


def twisted(items):
    """All pairs with one digit another."""
    return [(a, b) for a in "0123456789" for b in "0123456789" if (a != items[0]) ^ (b != items[1])]


def test_an_empty_list_is_written_and_stays_empty():
    assert completion_distribution("above7,sort,pick:123?") == {"above7=-;sort=-;pick#-": 1.0}
    assert answer_distribution("above7,drop,cut,count1:1?") == {"-": 1.0}


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("sort:31", "another form"),
        ("sort 31?", "another form"),
        ("srot:31?", "'srot' is none of reverse, sort"),
        ("rotate:31?", "'rotate' takes 1 digits"),
        ("sort2:31?", "'sort' takes no digits"),
    ],
)
def test_texts_that_are_no_prompts(prompt, message):
    with pytest.raises(DataError, match=message):
        completion_distribution(prompt)


def test_splits_are_disjoint_whatever_the_seed():
    prompts = {
        part: {
            e.fields["prompt"]
            for seed in range(3)
            for e in list_examples(part, 300, seed=seed, levels=(1,), lengths=(3, 4))
        }
        for part in ("train", "validation", "test")
    }
    assert not prompts["train"] & prompts["test"]
    assert not prompts["train"] & prompts["validation"]
    assert not prompts["validation"] & prompts["test"]


def test_examples_are_distinct_even_and_the_same_again():
    examples = list_examples("train", 402, seed=7, label_noise=0.4, levels=(1, 2, 4))
    assert len({e.id for e in examples}) == len({e.fields["prompt"] for e in examples}) == 402
    assert Counter(e.group for e in examples) == {"1": 134, "2": 134, "4": 134}
    assert all(len(split(e.fields["prompt"])[0]) == int(e.group) for e in examples)
    assert [e.group for e in examples] != sorted(e.group for e in examples)
    again = list_examples("train", 402, seed=7, label_noise=0.4, levels=(1, 2, 4))
    assert again == examples
    assert list_examples("train", 402, seed=8, levels=(1, 2, 4)) != examples


def test_examples_do_not_change_between_versions():
    """The shipped models and the tables of the documentation come from exactly these examples."""
    first = list_examples("train", 3, seed=0, label_noise=0.5)
    assert [(e.id, e.fields["prompt"], e.completion) for e in first] == STORED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "trian"}, "Did you mean 'train'"),
        ({"count": 0}, "at least one example"),
        ({"label_noise": 1.5}, "share of the examples"),
        ({"levels": ()}, "`levels` is .* at least one"),
        ({"levels": (1, 1)}, "each once"),
        ({"levels": (7,)}, "Choose from 1 to 6"),
        ({"lengths": (1, 3)}, "`lengths` is .* Choose from 2 to 9"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        list_examples(**{"split": "train", "count": 5, **arguments})


def test_tokenizer_gives_back_the_text_and_survives_saving(tmp_path):
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.is_fast and loaded.padding_side == "left"
    assert len(loaded) == len(tokenizer) == len(PIECES) + 3
    assert (loaded.pad_token, loaded.eos_token, loaded.unk_token) == ("<pad>", "<eos>", "<unk>")
    for example in list_examples("train", 100, label_noise=0.5):
        whole = example.fields["prompt"] + example.completion
        ids = loaded(whole)["input_ids"]
        assert ids == tokenizer(whole)["input_ids"] and loaded.unk_token_id not in ids
        assert len(ids) == len(re.findall(r"[a-z]+|.", whole)), "a word is one token"
        padded = [loaded.pad_token_id, *ids, loaded.eos_token_id]
        assert loaded.decode(padded, skip_special_tokens=True) == whole
