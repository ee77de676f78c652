import pytest

from tutelage.data.format import check_template, render, template_name
from tutelage.errors import ConfigError, DataError
from tutelage.types import Example, Message

PROMPT = Example(id="p", fields={"prompt": "2+2="}, completion="4")
QUESTION = Example(id="q", fields={"question": "Why?"}, completion="Because.")
INSTRUCTION = Example(id="i", fields={"instruction": "Add.", "input": "1 2"}, completion="3")
NO_INPUT = Example(id="n", fields={"instruction": "Greet.", "input": ""}, completion="Hello")


def conversation(*turns: tuple[str, str]) -> Example:
    messages = tuple(Message(role, content) for role, content in turns)
    asked = [m.content for m in messages if m.role == "user"]
    return Example("c", {"prompt": asked[-1]}, messages[-1].content, messages=messages)


CHAT = conversation(("user", "Hi"), ("assistant", "Hello"))
TWO_TURNS = conversation(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))


def test_plain_keeps_a_prompt_and_breaks_the_line_after_prose():
    assert render(PROMPT, "plain").prompt == "2+2="
    assert render(QUESTION, "plain").prompt == "Why?\n"
    assert render(INSTRUCTION, "plain").prompt == "Add.\n\n1 2\n"
    assert render(NO_INPUT, "plain").prompt == "Greet.\n"
    assert render(PROMPT, "plain").completion == "4"


def test_alpaca_with_and_without_input():
    assert render(INSTRUCTION, "alpaca").prompt == (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
        "Add.\n\n### Input:\n1 2\n\n### Response:\n"
    )
    assert render(NO_INPUT, "alpaca").prompt == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nGreet.\n\n### Response:\n"
    )
    assert "### Instruction:\nWhy?\n\n### Response" in render(QUESTION, "alpaca").prompt


def test_braces_in_a_text_stay():
    example = Example(id="b", fields={"instruction": "{x} {0}", "input": "{y}"}, completion="z")
    assert "{x} {0}" in render(example, "alpaca").prompt
    assert render(example, "{instruction}|{input}").prompt == "{x} {0}|{y}"


@pytest.mark.parametrize(
    ("example", "without", "with_chat"),
    [
        (PROMPT, "plain", "chat"),
        (QUESTION, "plain", "chat"),
        (INSTRUCTION, "alpaca", "chat"),
        (CHAT, "chat", "chat"),
    ],
)
def test_auto(make_tokenizer, chatml, example, without, with_chat):
    assert template_name(example, "auto", None) == without
    assert template_name(example, "auto", make_tokenizer()) == without
    assert template_name(example, "auto", make_tokenizer(chat_template=chatml)) == with_chat


def test_custom_template():
    assert template_name(QUESTION, "Q: {question}", None) == "custom"
    assert render(QUESTION, "{{Q}}: {question}\nA: ").prompt == "{Q}: Why?\nA: "
    assert render(CHAT, "User: {prompt}\n").prompt == "User: Hi\n"


def test_unknown_placeholder_names_the_known_fields():
    with pytest.raises(ConfigError, match=r"'instructions'.*Did you mean 'instruction'.*input"):
        render(INSTRUCTION, "{instructions}")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("alpacca", "Did you mean 'alpaca'"),
        ("{question", "malformed"),
        ("{{literal}}", "names no field"),
        ("{question:>10}", "{question:>10}, which is no name of a field"),
        ("{question!r}", "{question!r}, which is no name"),
        ("{question.upper}", "question.upper}, which is no name"),
        ("{question.__class__.__mro__}", "which is no name"),
        ("{question[0]}", "which is no name"),
        ("{0}", "has .0., which is no name"),
        ("{}", "has .., which is no name"),
        ("{question} }", "the brace '}' at position 12 has no partner"),
        ("} {question}", "the brace '}' at position 1 has no partner"),
        ("{{question}", "malformed"),
        ("{que{stion}", "malformed"),
    ],
)
def test_bad_templates(template, message):
    with pytest.raises(ConfigError, match=message):
        render(QUESTION, template)


def test_check_template_accepts_names_and_placeholders():
    for template in ("auto", "plain", "alpaca", "chat", "{anything}"):
        check_template(template)


def test_chat(make_tokenizer, chatml):
    tokenizer = make_tokenizer(chat_template=chatml)
    start = "<|im_start|>user\n"
    end = "<|im_end|>\n<|im_start|>assistant\n"
    assert render(INSTRUCTION, "auto", tokenizer).prompt == f"{start}Add.\n\n1 2{end}"
    assert render(PROMPT, "chat", tokenizer).prompt == f"{start}2+2={end}"
    rendered = render(TWO_TURNS, "auto", tokenizer)
    assert rendered.prompt == f"{start}a{end}b<|im_end|>\n{start}c{end}"
    assert rendered.completion == "d"


def test_system_text(make_tokenizer, chatml):
    tokenizer = make_tokenizer(chat_template=chatml)
    assert render(PROMPT, "plain", system="Be brief.").prompt == "Be brief.\n\n2+2="
    assert render(PROMPT, "chat", tokenizer, "Be brief.").prompt.startswith(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2="
    )


def test_a_conversation_keeps_its_own_system_text(make_tokenizer, chatml):
    own = conversation(("system", "Own."), ("user", "Hi"), ("assistant", "Hello"))
    prompt = render(own, "chat", make_tokenizer(chat_template=chatml), "Other.").prompt
    assert "Own." in prompt and "Other." not in prompt
    assert render(own, "plain", system="Other.").prompt == "Own.\n\nHi"


def test_chat_without_a_chat_template(make_tokenizer):
    for tokenizer in (None, make_tokenizer()):
        with pytest.raises(ConfigError, match="no chat template"):
            render(CHAT, "auto", tokenizer)


def test_only_a_chat_template_can_write_several_turns():
    for template in ("plain", "alpaca", "{prompt}"):
        with pytest.raises(DataError, match=r"'c' is a conversation of 4 turns"):
            render(TWO_TURNS, template)


def test_chat_template_that_refuses(make_tokenizer, no_system_chat):
    tokenizer = make_tokenizer(chat_template=no_system_chat)
    with pytest.raises(DataError, match="System role not supported"):
        render(PROMPT, "chat", tokenizer, "Be brief.")


def test_an_example_without_a_request():
    with pytest.raises(DataError, match="no prompt, question or instruction"):
        render(Example(id="x", fields={"topic": "t"}, completion="y"), "plain")
