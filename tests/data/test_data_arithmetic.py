"""The embedded task: right arithmetic, exact noise, disjoint splits, a lossless tokenizer."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tutelage.data.arithmetic import (
    ALPHABET,
    LEVELS,
    arithmetic_examples,
    build_tokenizer,
)
from tutelage.errors import ConfigError, DataError

STORED = [
    ("train-680129048f54cba7", "05+22+83?", "05+22=27;27+83=08#08"),
    ("train-1ee4235a3c71b21c", "2+12?", "2+12=32#32"),
    ("train-5c504a4ecb73d963", "41+4+63+97?", "41+4=91;91+63=55;55+97=431#431"),
]
STEP = re.compile(r"(\d+)([+-])(\d+)=(\d+)")


def number(text: str) -> int:
    """Read a number written least significant digit first, without needless zeros."""
    assert text == "0" or not text.endswith("0")
    return int(text[::-1])


def wrong_steps(prompt: str, completion: str) -> int:
    """How many steps of a completion are wrong; everything else about it must be consistent."""
    tokens = re.findall(r"\d+|[+-]", prompt.removesuffix("?"))
    rationale, answer = completion.split("#")
    steps = rationale.split(";")
    operations, operands = tokens[1::2], tokens[2::2]
    assert len(steps) == len(operations)
    value, wrong = tokens[0], 0
    for text, operation, operand in zip(steps, operations, operands, strict=True):
        match = STEP.fullmatch(text)
        assert match is not None
        left, sign, right, result = match.groups()
        assert (left, sign, right) == (value, operation, operand)
        exact = number(left) + (number(right) if sign == "+" else -number(right))
        assert exact >= 0
        wrong += number(result) != exact
        value = result
    assert answer == value
    return wrong


def chain_value(prompt: str) -> int:
    """The value of a prompt, from its text alone."""
    signed = re.findall(r"([+-]?)(\d+)", prompt)
    return sum(-number(n) if sign == "-" else number(n) for sign, n in signed)


@pytest.mark.parametrize("operations", ["+", "+-"])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_clean_examples_are_right(split, operations):
    examples = arithmetic_examples(split, 200, seed=3, operations=operations)
    assert {sign for e in examples for sign in "+-" if sign in e.completion} == set(operations)
    for example in examples:
        prompt = example.fields["prompt"]
        assert wrong_steps(prompt, example.completion) == 0
        assert example.references == (example.completion.rpartition("#")[2],)
        assert number(example.references[0]) == chain_value(prompt)
        assert set(prompt + example.completion) <= set(ALPHABET)


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 60),
    noise=st.floats(0, 1),
    levels=st.lists(st.sampled_from(LEVELS), min_size=1, unique=True),
    largest=st.sampled_from([40, 99, 9999]),
    operations=st.sampled_from(["+", "+-"]),
)
@settings(max_examples=40, deadline=None)
def test_noise_is_exact_and_carried_on(seed, count, noise, levels, largest, operations):
    examples = arithmetic_examples(
        "train",
        count,
        seed=seed,
        label_noise=noise,
        levels=levels,
        largest=largest,
        operations=operations,
    )
    wrong = 0
    for example in examples:
        prompt = example.fields["prompt"]
        slips = wrong_steps(prompt, example.completion)
        assert slips in (0, 1)
        assert (example.completion.rpartition("#")[2] != example.references[0]) == (slips == 1)
        assert number(example.references[0]) == chain_value(prompt)
        wrong += slips
    assert wrong == round(noise * count)


def test_noise_changes_completions_only():
    clean = arithmetic_examples("train", 100, seed=1)
    noisy = arithmetic_examples("train", 100, seed=1, label_noise=0.3)
    assert [(e.id, e.fields, e.references, e.group) for e in clean] == [
        (e.id, e.fields, e.references, e.group) for e in noisy
    ]
    assert sum(a.completion != b.completion for a, b in zip(clean, noisy, strict=True)) == 30


def test_errors_hit_every_step():
    examples = arithmetic_examples("train", 200, label_noise=1.0, levels=(3,))
    where = Counter()
    for example in examples:
        for position, (left, _, right, result) in enumerate(STEP.findall(example.completion)):
            error = abs(number(result) - number(left) - number(right))
            if error:
                where[position] += 1
                assert error in range(1, 10) or error in range(10, 100, 10)
    assert sorted(where) == [0, 1, 2]
    assert min(where.values()) > 30


def test_splits_are_disjoint_whatever_the_seed():
    prompts = {
        split: {
            example.fields["prompt"]
            for seed in range(3)
            for example in arithmetic_examples(split, 400, seed=seed, levels=(1, 2), largest=99)
        }
        for split in ("train", "validation", "test")
    }
    assert not prompts["train"] & prompts["test"]
    assert not prompts["train"] & prompts["validation"]
    assert not prompts["validation"] & prompts["test"]


def test_ids_and_prompts_are_unique():
    examples = arithmetic_examples("train", 1000, levels=(1,))
    assert len({example.id for example in examples}) == 1000
    assert len({example.fields["prompt"] for example in examples}) == 1000


def test_same_arguments_give_the_same_examples():
    again = arithmetic_examples("train", 50, seed=7, label_noise=0.4)
    assert again == arithmetic_examples("train", 50, seed=7, label_noise=0.4)
    other = arithmetic_examples("train", 50, seed=8, label_noise=0.4)
    assert {e.id for e in again} != {e.id for e in other}


def test_examples_do_not_change_between_versions():
    """The shipped models and the tables of the documentation come from exactly these examples."""
    first = arithmetic_examples("train", 3, seed=0, label_noise=0.5)
    assert [(e.id, e.fields["prompt"], e.completion) for e in first] == STORED


def test_levels_are_even_and_count_operations():
    examples = arithmetic_examples("train", 102, levels=(2, 4, 5))
    assert Counter(e.group for e in examples) == {"2": 34, "4": 34, "5": 34}
    uneven = arithmetic_examples("train", 8, levels=(1, 2, 3))
    assert Counter(e.group for e in uneven) == {"1": 3, "2": 3, "3": 2}
    for example in examples:
        assert len(re.findall(r"[+-]", example.fields["prompt"])) == int(example.group)


@pytest.mark.parametrize("limit", [20, 99, 500])
def test_numbers_stay_within_the_limit(limit):
    examples = arithmetic_examples("train", 300, levels=(2, 5), largest=limit)
    numbers = [number(n) for e in examples for n in re.findall(r"\d+", e.fields["prompt"])]
    assert 1 <= min(numbers) <= 0.05 * limit
    assert 0.95 * limit <= max(numbers) <= limit


def test_examples_come_shuffled():
    groups = [e.group for e in arithmetic_examples("train", 50)]
    assert groups != sorted(groups)


def test_too_few_prompts_in_a_split():
    with pytest.raises(DataError, match=r"'test' has only about \d+ distinct prompts of level 1"):
        arithmetic_examples("test", 200, levels=(1,), largest=9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "trian"}, "Did you mean 'train'"),
        ({"count": 0}, "at least one example"),
        ({"label_noise": 1.5}, "share of the examples"),
        ({"label_noise": float("nan")}, "share of the examples"),
        ({"levels": ()}, "names each level once"),
        ({"levels": (1, 1)}, "names each level once"),
        ({"levels": (1, 21)}, "Choose from 1 to 20; the data of the task have 1 to 5"),
        ({"largest": 0}, "start at 1"),
        ({"operations": "*"}, r"Use '\+' or '\+-'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        arithmetic_examples(**{"split": "train", "count": 5, **arguments})


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@given(text=st.text(alphabet=ALPHABET, max_size=60))
@settings(deadline=None)
def test_tokenizer_gives_back_the_text(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text
    padded = [tokenizer.pad_token_id, *ids, tokenizer.eos_token_id]
    assert tokenizer.decode(padded, skip_special_tokens=True) == text


def test_tokenizer_keeps_unknown_characters_apart(tokenizer):
    ids = tokenizer("1 a\n2")["input_ids"]
    assert len(ids) == 5
    assert ids[1:4] == [tokenizer.unk_token_id] * 3


def test_tokenizer_survives_saving(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = arithmetic_examples("train", 1, levels=(5,))[0].completion
    assert loaded.is_fast
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.decode(loaded(text)["input_ids"]) == text
    assert len(loaded) == len(tokenizer) == len(ALPHABET) + 3
    assert (loaded.pad_token, loaded.eos_token, loaded.unk_token) == ("<pad>", "<eos>", "<unk>")
    assert loaded.padding_side == "left"
