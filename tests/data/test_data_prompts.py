"""What a teacher is asked: in its own format, all of the question and nothing of the answer."""

from dataclasses import replace

import pytest

from tutelage.data import (
    check_style,
    teacher_prompt,
    teacher_prompts,
    tokenize_examples,
    tokenize_prompts,
)
from tutelage.errors import ConfigError, DataError
from tutelage.types import Example, Message

QUESTION = Example("q", {"question": "What is 2 + 2?"}, "It is 4.", ("It is 4.", "Four."))
INSTRUCTION = Example("i", {"instruction": "Add.", "input": "1 {x} 2"}, "3")
PROMPT = Example("p", {"prompt": "2+2=", "hint": "small"}, "4")
CHAT = Example(
    "c",
    {"prompt": "And 3?"},
    "Nine.",
    messages=(
        Message("system", "Square it."),
        Message("user", "And 2?"),
        Message("assistant", "Four."),
        Message("user", "And 3?"),
        Message("assistant", "Nine."),
    ),
)
STEPS = (
    "Explain your reasoning step by step. Then end exactly with the final answer, in this form:\n"
)


@pytest.fixture
def plain(make_tokenizer):
    return make_tokenizer(bos="<s>")


@pytest.fixture
def chat(make_tokenizer, chatml):
    return make_tokenizer(chat_template=chatml)


def test_plain_asks_what_the_student_is_asked(plain, chat):
    assert teacher_prompt(QUESTION, plain) == ("What is 2 + 2?\n", False)
    assert teacher_prompt(QUESTION, plain, template="Q: {question} A:")[0] == "Q: What is 2 + 2? A:"
    assert teacher_prompt(INSTRUCTION, plain)[0].endswith("### Input:\n1 {x} 2\n\n### Response:\n")
    assert teacher_prompt(QUESTION, chat, system="Be brief.") == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n"
        "<|im_start|>assistant\n",
        True,
    )
    # The student's template is one without turns, and so is what the teacher is asked.
    assert teacher_prompt(QUESTION, chat, template="plain") == ("What is 2 + 2?\n", False)


@pytest.mark.parametrize(
    ("answer_format", "form"),
    [
        ("The answer is {answer}", "The answer is <final answer>"),
        ("#### {answer}", "#### <final answer>"),
        ("\\boxed{}", "\\boxed{<final answer>}"),
        ("\\boxed{{answer}}", "\\boxed{<final answer>}"),
        ("{answer} {}", "<final answer> {}"),
    ],
)
def test_step_by_step_as_text(plain, answer_format, form):
    options = {"style": "step_by_step", "answer_format": answer_format}
    assert teacher_prompt(QUESTION, plain, **options) == (
        f"What is 2 + 2?\n\n{STEPS}{form}\n",
        False,
    )
    assert teacher_prompt(PROMPT, plain, **options)[0] == f"2+2=\n\n{STEPS}{form}\n"


def test_step_by_step_in_the_teachers_own_format(plain, chat):
    asked = f"Add.\n\n1 {{x}} 2\n\n{STEPS}The answer is <final answer>"
    expected = f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
    # Whatever the student's template is, even one that names fields of the data.
    for template in ("auto", "plain", "alpaca", "chat", "{instruction}\n"):
        found = teacher_prompt(INSTRUCTION, chat, style="step_by_step", template=template)
        assert found == (expected, True)
        text, in_chat = teacher_prompt(
            INSTRUCTION, plain, style="step_by_step", template=template, system="Be brief."
        )
        assert text.startswith("Be brief.\n\n") and not in_chat
        if template == "alpaca":
            assert text.endswith(f"### Instruction:\n{asked}\n\n### Response:\n")
        else:
            assert text == f"Be brief.\n\n{asked}\n"


def test_a_style_of_ones_own(plain, chat):
    style = "Hint: {hint}. {{Think}} about {prompt}"
    assert teacher_prompt(PROMPT, plain, style=style)[0] == "Hint: small. {Think} about 2+2="
    assert teacher_prompt(INSTRUCTION, plain, style="Do: {prompt}")[0] == "Do: Add.\n\n1 {x} 2"
    assert teacher_prompt(QUESTION, plain, style="Q: {question}\nA:")[0] == (
        "Q: What is 2 + 2?\nA:"
    )
    text, in_chat = teacher_prompt(PROMPT, chat, style="Do: {prompt}", template="{hint}")
    assert in_chat and text == "<|im_start|>user\nDo: 2+2=<|im_end|>\n<|im_start|>assistant\n"


def test_a_conversation_keeps_its_other_turns(plain, chat):
    text, _ = teacher_prompt(CHAT, chat, style="Think. {prompt}", system="Unused.")
    assert text == (
        "<|im_start|>system\nSquare it.<|im_end|>\n<|im_start|>user\nAnd 2?<|im_end|>\n"
        "<|im_start|>assistant\nFour.<|im_end|>\n<|im_start|>user\nThink. And 3?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    text, _ = teacher_prompt(CHAT, chat, style="step_by_step")
    assert text.count("Explain your reasoning") == 1 and "Nine" not in text
    with pytest.raises(DataError, match="only a chat template can write"):
        teacher_prompt(CHAT, plain, style="step_by_step")
    one = Example("o", {"prompt": "Hi"}, "Hello", messages=(CHAT.messages[0], *CHAT.messages[3:]))
    assert teacher_prompt(one, plain, style="Think. {prompt}")[0] == "Square it.\n\nThink. And 3?"


@pytest.mark.parametrize("example", [QUESTION, INSTRUCTION, PROMPT, CHAT])
def test_the_answer_is_not_in_the_prompt(chat, example):
    for style in ("plain", "step_by_step", "{prompt}!"):
        turns = example.messages
        turns = (*turns[:-1], Message("assistant", "SECRET")) if turns else ()
        secret = replace(example, completion="SECRET", messages=turns)
        options = {"style": style}
        assert teacher_prompt(secret, chat, **options) == teacher_prompt(example, chat, **options)
        assert "SECRET" not in teacher_prompt(secret, chat, **options)[0]


@pytest.mark.parametrize(
    ("style", "answer_format", "message"),
    [
        ("step_by_stp", "{answer}", r"Did you mean 'step_by_step'\?.*placeholder"),
        ("{{prompt}}", "{answer}", "names no field"),
        ("{prompt", "{answer}", "malformed"),
        ("step_by_step", "The answer", r"does not say where.*\{answer\}"),
    ],
)
def test_bad_styles(plain, style, answer_format, message):
    with pytest.raises(ConfigError, match=message):
        check_style(style, answer_format)
    with pytest.raises(ConfigError, match=message):
        teacher_prompt(QUESTION, plain, style=style, answer_format=answer_format)


def test_a_field_that_is_not_there(plain):
    with pytest.raises(ConfigError, match=r"'questoin'.*Did you mean 'question'"):
        teacher_prompt(QUESTION, plain, style="{questoin} {prompt}")


@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_tokens_are_those_that_an_example_begins_with(request, kind):
    tokenizer = request.getfixturevalue(kind)
    examples = [QUESTION, INSTRUCTION, PROMPT, *([CHAT] if kind == "chat" else [])]
    rows = tokenize_examples(examples, tokenizer).dataset
    expected = {row["id"]: row["input_ids"][: row["num_prompt_tokens"]] for row in rows}
    assert teacher_prompts(examples, tokenizer) == expected
    bos = tokenizer.convert_tokens_to_ids("<s>")
    assert all((ids[0] == bos) == (kind == "plain") for ids in expected.values())


def test_chats_and_texts_side_by_side(make_tokenizer, chatml):
    tokenizer = make_tokenizer(chat_template=chatml, bos="<s>")
    prompts = teacher_prompts([CHAT, QUESTION], tokenizer, template="auto")
    texts = {i: tokenizer.decode(ids) for i, ids in prompts.items()}
    assert list(texts) == ["c", "q"]
    assert all(text.startswith("<|im_start|>") for text in texts.values())
    assert tokenize_prompts([], tokenizer, in_chat=False) == []


def test_a_teacher_is_asked_what_a_student_is_trained_to_continue(make_tokenizer, thinking_chatml):
    # The template opens the last answer with an empty block of thoughts.
    tokenizer = make_tokenizer(chat_template=thinking_chatml)
    row = tokenize_examples([CHAT], tokenizer).dataset[0]
    assert teacher_prompts([CHAT], tokenizer) == {"c": row["input_ids"][: row["num_prompt_tokens"]]}
    assert row["prompt"].endswith("<think></think>")


def test_an_answer_that_cannot_be_learned_does_not_matter(make_tokenizer):
    endless = make_tokenizer(eos=None)
    assert list(teacher_prompts([QUESTION], endless)) == ["q"]


def test_long_prompts_are_left_out(plain):
    length = len("What is 2 + 2?\n") + 1  # a token for each byte, and the beginning
    assert list(teacher_prompts([QUESTION, PROMPT], plain, max_length=length)) == ["q", "p"]
    assert list(teacher_prompts([QUESTION, PROMPT], plain, max_length=length - 1)) == ["p"]
    with pytest.raises(DataError, match=r"All 2 prompts have more than 4.*shortest has 5"):
        teacher_prompts([QUESTION, PROMPT], plain, max_length=4)
    assert teacher_prompts([], plain) == {}
    with pytest.raises(DataError, match="ids repeat"):
        teacher_prompts([QUESTION, QUESTION], plain)
