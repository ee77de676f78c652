"""Reasoning models: what a student learns after is what it, and its teacher, are asked after."""

import itertools

import pytest
import thinking
from tokenizers import AddedToken

from tutelage.data import (
    Opening,
    WrittenAnswer,
    teacher_prompts,
    tokenize_examples,
    tokenize_written,
)
from tutelage.data.collate import collate
from tutelage.errors import DataError
from tutelage.training.visits import visits_of
from tutelage.types import Example, Message

SPECIAL = ["<|User|>", "<|Assistant|>", "<|eot|>", "<|eos|>", "<|user|>", "<|start|>"]
THOUGHTS = "<think>\nhm\n</think>\n\nde"
CHATML = "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
R1 = "<s><|User|>Q<|Assistant|>"
NO_THOUGHTS = "<think>\n\n</think>\n\n"

# Template: what opens an answer without thoughts, one with thoughts, and what is learned of that.
FAMILIES = {
    "QWEN3": (CHATML + NO_THOUGHTS, CHATML, THOUGHTS),
    "QWEN3_THINKING": (CHATML + NO_THOUGHTS, CHATML + "<think>\n", THOUGHTS[8:]),
    "QWQ": (CHATML, CHATML + "<think>\n", THOUGHTS[8:]),
    "MINIMAX": (CHATML, CHATML + "<think>\n", THOUGHTS[8:]),
    "R1_DISTILL": (R1, R1 + "<think>\n", THOUGHTS[8:]),
    # Its generation prompt says that there are no thoughts, so none can follow.
    "DEEPSEEK_V31": (R1 + "</think>", R1 + "</think>", "\n\nde"),
    "NEMOTRON": (
        "<|start|>user\n\nQ<|eot|><|start|>assistant\n\n",
        "<|start|>user\n\nQ<|eot|><|start|>assistant\n\n",
        THOUGHTS,
    ),
    "GLM45": (
        "[gMASK]<sop><|user|>\nQ<|assistant|>\n<think></think>\n",
        "[gMASK]<sop><|user|>\nQ<|assistant|>",
        "\n<think>hm</think>\nde",
    ),
}
ENDS = {
    "R1_DISTILL": "<|eos|>",
    "DEEPSEEK_V31": "<|eos|>",
    "NEMOTRON": "<|eot|>",
    "GLM45": "<|eos|>",
}
WRITTEN = {
    "closed thoughts": ("<think>\nso\n</think>\n\n5", False),
    "opened before, closed": ("so\n</think>\n\n5", False),
    "cut after the thoughts": ("<think>\nso\n</think>\n\nIt is", True),
    "cut inside the thoughts": ("<think>\nso it", True),
    "opened before, cut inside": ("so it", True),
    "no thoughts": ("5", False),
    "white space around": ("\n\n5 \n", False),
}


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def tokenizer(make_tokenizer, family):
    template = getattr(thinking, family)
    return make_tokenizer(chat_template=template, bos="<s>", eos="<|eos|>", special=SPECIAL)


def asking(answer: str, id: str = "a") -> Example:
    return Example(id, {"prompt": "Q"}, answer)


def learned(row, tokenizer) -> str:
    return tokenizer.decode([label for label in row["labels"] if label != -100])


def prompt_ids(row) -> list[int]:
    return row["input_ids"][: row["num_prompt_tokens"]]


@pytest.mark.parametrize("with_thoughts", [False, True])
def test_the_datas_answers_are_learned_whole_after_what_is_asked(family, tokenizer, with_thoughts):
    *opened, kept = FAMILIES[family]
    example = asking(THOUGHTS if with_thoughts else "de")
    split = tokenize_examples([example], tokenizer)
    row, end = split.dataset[0], ENDS.get(family, "<|im_end|>")
    assert row["prompt"] == opened[with_thoughts] == tokenizer.decode(prompt_ids(row))
    assert learned(row, tokenizer) == (kept if with_thoughts else "de") + end
    answer = [i for i in row["labels"] if i != -100]
    assert row["input_ids"][: row["num_prompt_tokens"] + len(answer)] == prompt_ids(row) + answer
    assert teacher_prompts([example], tokenizer) == {"a": prompt_ids(row)}
    lost = with_thoughts and "hm" not in kept
    assert split.summary["not_learned"] == ({"thoughts that the template drops": 1} if lost else {})


@pytest.mark.parametrize(("with_thoughts", "case"), list(itertools.product([False, True], WRITTEN)))
def test_what_a_teacher_wrote_is_learned_after_what_it_was_asked(
    tokenizer, family, with_thoughts, case
):
    """Whatever the data's answer and whatever the teacher's: the same tokens, in every case."""
    example = asking(THOUGHTS if with_thoughts else "de")
    rows = tokenize_examples([example], tokenizer).dataset
    asked = teacher_prompts([example], tokenizer)["a"]
    text, cut = WRITTEN[case]
    tokens = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    end = [] if cut else tokenizer.convert_tokens_to_ids([ENDS.get(family, "<|im_end|>")])
    # A teacher with another tokenizer gives its text alone.
    for answer in (WrittenAnswer(text, tokens, cut), WrittenAnswer(text, (), cut)):
        split = tokenize_written(rows, {"a": example}, {"a": answer}, tokenizer)
        row = split.dataset[0]
        assert row["input_ids"] == [*asked, *tokens, *end]
        assert row["labels"] == [-100] * len(asked) + [*tokens, *end]
        assert row["num_prompt_tokens"] == len(asked) and row["completion"] == text
        assert row["references"] == rows[0]["references"]
        # On-policy steps ask what stands before the first label.
        batch = {**collate([row], 0), "ids": ["a"], "places": [0]}
        assert list(visits_of(batch)[0].prompt_with(0.0)) == asked
        opens = row["prompt"].rstrip().endswith("<think>")
        inside = cut and "</think>" not in text and ("<think>" in text or opens)
        assert split.counts == {"too_long": 0, "no_response_tokens": 0, "cut_in_thoughts": inside}


@pytest.mark.parametrize("with_thoughts", [False, True])
def test_what_is_asked_in_a_test_is_what_was_learned_after(tokenizer, family, with_thoughts):
    kinds = [THOUGHTS, "de"] if with_thoughts else ["de", THOUGHTS]
    train = tokenize_examples([asking(kinds[0])], tokenizer)
    own = tokenize_examples([asking(kinds[1])], tokenizer).dataset[0]["prompt"]
    tests = [asking(kinds[1], "x"), asking(kinds[0], "y")]
    split = tokenize_examples(tests, tokenizer, long_prompts="keep", openings=train.openings)
    assert [prompt_ids(row) for row in split.dataset] == [prompt_ids(train.dataset[0])] * 2
    other = own != train.dataset[0]["prompt"]
    assert split.summary["reopened"] == other
    first, second = split.dataset
    # A reference that belongs to another opening is no answer to compare tokens on.
    assert (set(first["labels"]) == {-100}) == other and max(second["labels"]) >= 0
    assert first["references"] == [kinds[1]] and first["completion"] == kinds[1]


def test_data_of_both_kinds_are_tested_as_they_are(make_tokenizer):
    tokenizer = make_tokenizer(chat_template=thinking.QWEN3)
    examples = [asking("de", "a"), asking(THOUGHTS, "b"), asking("fg", "c")]
    train = tokenize_examples(examples, tokenizer)
    assert train.openings == (Opening(more=NO_THOUGHTS), Opening())
    split = tokenize_examples(examples, tokenizer, long_prompts="keep", openings=train.openings)
    assert split.dataset["input_ids"] == train.dataset["input_ids"]
    assert split.summary["reopened"] == 0


def test_answers_whose_thoughts_have_no_end_are_left_out_and_counted(tokenizer):
    split = tokenize_examples([asking("<think>\nhm", "cut"), asking("de", "whole")], tokenizer)
    assert split.dataset["id"] == ["whole"]
    assert split.summary["dropped"] == {"thoughts_without_end": 1}
    assert split.summary["dropped_ids"] == {"thoughts_without_end": ["cut"]}
    with pytest.raises(DataError, match=r"all 1 examples were dropped \(1 thoughts_without_end"):
        tokenize_examples([asking("<think>\nhm")], tokenizer)


def test_a_template_without_thoughts_takes_the_marks_for_text(make_tokenizer, chatml):
    tokenizer = make_tokenizer(chat_template=chatml)
    row = tokenize_examples([asking("<think>\nhm")], tokenizer).dataset[0]
    assert learned(row, tokenizer) == "<think>\nhm<|im_end|>"


def test_a_conversation_keeps_its_earlier_answers_as_the_template_writes_them(tokenizer, family):
    turns = [Message("user", "A"), Message("assistant", THOUGHTS.replace("de", "bc"))]
    messages = (*turns, Message("user", "Q"), Message("assistant", THOUGHTS))
    example = Example("a", {"prompt": "Q"}, THOUGHTS, messages=messages)
    split = tokenize_examples([example], tokenizer)
    row, end = split.dataset[0], ENDS.get(family, "<|im_end|>")
    assert prompt_ids(row) == teacher_prompts([example], tokenizer)["a"]
    *_, kept = FAMILIES[family]
    before = tokenizer.decode([i for i in row["labels"][: row["num_prompt_tokens"]] if i != -100])
    assert "bc" in before and "hm" not in before
    assert learned(row, tokenizer) == before + kept + end
    answer = WrittenAnswer("so", tuple(tokenizer("so")["input_ids"][-2:]), cut=True)
    written = tokenize_written(split.dataset, {"a": example}, {"a": answer}, tokenizer).dataset[0]
    assert learned(written, tokenizer) == before + "so"
    assert prompt_ids(written) == prompt_ids(row)


def test_a_system_text_that_turns_thoughts_off_reaches_all(make_tokenizer):
    tokenizer = make_tokenizer(chat_template=thinking.NEMOTRON, special=SPECIAL)
    for system, opening in (("/no_think", NO_THOUGHTS), ("Think.", "")):
        example = asking("de")
        train = tokenize_examples([example], tokenizer, system=system)
        prompts = teacher_prompts([example], tokenizer, system=system)
        test = tokenize_examples(
            [asking("fg")], tokenizer, system=system, long_prompts="keep", openings=train.openings
        )
        found = [prompt_ids(train.dataset[0]), prompts["a"], prompt_ids(test.dataset[0])]
        assert found[0] == found[1] == found[2]
        assert train.summary["openings"] == ({f"without its {opening!r}": 1} if opening else {})


@pytest.mark.parametrize("special", [False, True])
def test_marks_of_thoughts_may_be_tokens(make_tokenizer, special):
    """A text without special tokens has lost them; the tokens have not."""
    tokenizer = make_tokenizer(chat_template=thinking.QWEN3)
    tokenizer.add_tokens([AddedToken(t, special=special) for t in ("<think>", "</think>")])
    example = asking("de")
    rows = tokenize_examples([example], tokenizer).dataset
    ids = tuple(tokenizer("<think>\nso\n</think>\n\n5")["input_ids"])
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert ("<think>" in text) is not special
    answer = WrittenAnswer(text, ids)
    row = tokenize_written(rows, {"a": example}, {"a": answer}, tokenizer).dataset[0]
    assert learned(row, tokenizer) == "<think>\nso\n</think>\n\n5<|im_end|>"


def test_written_answers_that_do_not_fit_are_counted(make_tokenizer):
    tokenizer = make_tokenizer(chat_template=thinking.QWEN3)
    examples = {i: asking("de", i) for i in "abc"}
    rows = tokenize_examples(list(examples.values()), tokenizer).dataset
    length = rows[0]["num_prompt_tokens"]
    answers = {
        "c": WrittenAnswer("12"),
        "a": WrittenAnswer("123"),
        "b": WrittenAnswer("<|im_end|>"),
    }
    split = tokenize_written(rows, examples, answers, tokenizer, max_length=length + 3)
    assert split.dataset["id"] == ["c"] and split.dataset.features == rows.features
    assert split.counts == {"too_long": 1, "no_response_tokens": 1, "cut_in_thoughts": 0}
    short = tokenize_written(rows, examples, answers, tokenizer, max_length=4)
    assert len(short.dataset) == 0


def test_texts_follow_the_white_space_of_the_template(make_tokenizer):
    """A teacher of another family knows nothing of the space that Mistral's answers begin with."""
    mistral = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    tokenizer = make_tokenizer(chat_template=mistral, eos="</s>", special=["</s>"])
    rows = tokenize_examples([asking("de")], tokenizer).dataset
    assert learned(rows[0], tokenizer) == " de</s>"
    for text, expected in (("5", " 5</s>"), (" 5", " 5</s>"), ("\n5", "\n5</s>")):
        split = tokenize_written(rows, {"a": asking("de")}, {"a": WrittenAnswer(text)}, tokenizer)
        assert learned(split.dataset[0], tokenizer) == expected
    own = WrittenAnswer("5", tuple(tokenizer("5")["input_ids"]))
    split = tokenize_written(rows, {"a": asking("de")}, {"a": own}, tokenizer)
    assert learned(split.dataset[0], tokenizer) == "5</s>"
