"""Conversations of the common families: what is learned, what precedes it, and what ends it."""

import json
from dataclasses import dataclass

import pytest

from conftest_models import tiny_model
from tutelage.data import (
    WrittenAnswer,
    ending_note,
    ends_alike,
    keep_stops,
    load_examples,
    stop_ids,
    teacher_prompts,
    tokenize_examples,
    tokenize_written,
)
from tutelage.errors import ConfigError, DataError, ModelError
from tutelage.types import Example, Message

CHATML_END = (
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}" + CHATML_END
LLAMA3 = (
    "<|begin|>{% for m in messages %}<|start|>{{ m.role }}<|stop|>\n\n{{ m.content | trim }}<|eot|>"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant<|stop|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
# Qwen3: earlier turns lose their thoughts, the last one gets a block of them, empty if need be.
QWEN3 = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% set content = m.content.split('</think>')[-1].lstrip('\n') %}"
    "{% set thoughts = m.reasoning_content if m.reasoning_content is string else"
    " (m.content.split('</think>')[0].split('<think>')[-1].strip('\n') if '</think>' in m.content"
    " else '') %}"
    "{% if loop.index0 > ns.last and (loop.last or thoughts) %}"
    "<think>\n{{ thoughts.strip('\n') }}\n</think>\n\n{% endif %}{{ content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>"
    "{% endfor %}{% else %}{{ m.content }}{% endif %}" + CHATML_END
)
# R1-Distill: everything up to the end of the thoughts is dropped, and asked for when answering.
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<|User|>{{ m.content }}"
    "{% else %}<|Assistant|>{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A chat format, with the end of its turns and what precedes the second of two answers."""

    template: str
    eos: str
    end: str
    before: str
    special: tuple[str, ...] = ()
    space: str = ""
    opening: str = ""


FAMILIES = {
    "chatml": Family(CHATML, "<|im_end|>", "<|im_end|>", "<|im_start|>assistant\n"),
    "chatml of a base model": Family(CHATML, "<|text|>", "<|im_end|>", "<|im_start|>assistant\n"),
    "llama 3": Family(
        LLAMA3, "<|text|>", "<|eot|>", "assistant<|stop|>\n\n", ("<|start|>", "<|stop|>", "<|eot|>")
    ),
    "gemma": Family(GEMMA, "<eos>", "<end_of_turn>", "<start_of_turn>model\n", ("<end_of_turn>",)),
    "mistral": Family(MISTRAL, "</s>", "</s>", "[INST] c [/INST]", space=" "),
    "phi": Family(PHI, "<|text|>", "<|end|>", "<|assistant|>\n", ("<|end|>",)),
    "qwen 3": Family(
        QWEN3,
        "<|text|>",
        "<|im_end|>",
        "<|im_start|>assistant\n<think>\n\n</think>\n\n",
        opening=r"with '<think>\n\n</think>\n\n' after it",
    ),
    "r1 distill": Family(
        R1,
        "<|eos|>",
        "<|eos|>",
        "<|Assistant|>",
        ("<|User|>", "<|Assistant|>"),
        opening=r"without its '<think>\n'",
    ),
}


def conversation(*turns: tuple[str, str] | Message, id: str = "c", **more) -> Example:
    messages = tuple(t if isinstance(t, Message) else Message(*t) for t in turns)
    asked = [m.content for m in messages if m.role == "user"]
    return Example(id, {"prompt": asked[-1]}, messages[-1].content, messages=messages, **more)


TWO_TURNS = conversation(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "de"))


def labelled(row, tokenizer) -> str:
    """The text of the labelled tokens, with a bar where unlabelled ones lie between."""
    parts, previous = [], -1
    for position, label in enumerate(row["labels"]):
        if label != -100:
            assert label == row["input_ids"][position]
            parts += ["|"] * (position > previous + 1 and bool(parts))
            parts.append(tokenizer.decode([label]))
            previous = position
    return "".join(parts)


@pytest.fixture(params=FAMILIES)
def family(request) -> Family:
    return FAMILIES[request.param]


@pytest.fixture
def tokenizer(make_tokenizer, family):
    return make_tokenizer(
        chat_template=family.template, bos="<s>", eos=family.eos, special=family.special
    )


def test_every_family_learns_answers_and_their_ends(family, tokenizer):
    split = tokenize_examples([TWO_TURNS], tokenizer)
    row = split.dataset[0]
    end = (" " if family.space else "") + family.end
    assert labelled(row, tokenizer) == f"{family.space}b{end}|{family.space}de{end}"
    prompt = row["input_ids"][: row["num_prompt_tokens"]]
    assert tokenizer.decode(prompt) == row["prompt"]
    assert row["prompt"].endswith(family.before)
    # What is trained next, what evaluation continues and what a teacher is asked are one.
    assert row["labels"][len(prompt)] == row["input_ids"][len(prompt)]
    assert teacher_prompts([TWO_TURNS], tokenizer) == {"c": prompt}
    assert split.summary["openings"] == ({family.opening: 1} if family.opening else {})
    assert split.summary["not_learned"] == {}


def test_every_family_names_its_ends(family, tokenizer, tmp_path):
    end, eos = tokenizer.convert_tokens_to_ids([family.end, family.eos])
    assert stop_ids(tokenizer) == sorted({end, eos})
    model = tiny_model(vocab=len(tokenizer))
    model.generation_config.eos_token_id = 7  # the model's own stays
    keep_stops(model, tokenizer).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "generation_config.json").read_text())
    assert saved["eos_token_id"] == sorted({7, end, eos})
    assert (family.end in ending_note(tokenizer)) == (end != eos)


@pytest.mark.parametrize(
    ("teacher", "student", "alike"),
    [
        ((CHATML, "<|im_end|>"), (CHATML, "<|text|>"), True),
        ((CHATML, "<|text|>"), (CHATML, "<|im_end|>"), True),
        ((None, "<|im_end|>"), (CHATML, "<|text|>"), True),
        ((CHATML, "<|im_end|>"), (None, "<|text|>"), False),  # its answers end as texts do
        ((None, "<|text|>"), (CHATML, "<|im_end|>"), False),
        ((MISTRAL, "</s>"), (CHATML, "<|text|>"), False),
    ],
)
def test_what_ends_an_answer_in_a_chat_may_be_one_where_texts_end_otherwise(
    make_tokenizer, teacher, student, alike
):
    pair = [
        make_tokenizer(chat_template=template, eos=eos, special=["<|text|>", "</s>"])
        for template, eos in (teacher, student)
    ]
    assert ends_alike(*pair) == alike


def test_an_answer_that_a_limit_cut_has_no_end(family, tokenizer):
    rows = tokenize_examples([TWO_TURNS], tokenizer).dataset
    cut = {"c": WrittenAnswer("dx", cut=True)}
    row = tokenize_written(rows, {"c": TWO_TURNS}, cut, tokenizer).dataset[0]
    end = (" " if family.space else "") + family.end
    assert labelled(row, tokenizer) == f"{family.space}b{end}|{family.space}dx"
    assert tokenizer.decode(row["input_ids"]).endswith("dx")


def test_turns_of_weight_0_are_context(family, tokenizer):
    turns = list(TWO_TURNS.messages)
    turns[1] = Message("assistant", "b", learned=False)
    split = tokenize_examples([conversation(*turns)], tokenizer)
    assert labelled(split.dataset[0], tokenizer).strip().startswith("de")
    assert split.summary["not_learned"] == {"turns of weight 0": 1}
    turns[3] = Message("assistant", "de", learned=False)
    with pytest.raises(DataError, match="1 no_response_tokens"):
        tokenize_examples([conversation(*turns)], tokenizer)


def test_a_conversation_may_begin_with_the_assistant(family, tokenizer):
    greeted = conversation(("assistant", "Hi"), ("user", "a"), ("assistant", "b"))
    learned = labelled(tokenize_examples([greeted], tokenizer).dataset[0], tokenizer)
    assert [part.strip() for part in learned.replace(family.end, "").split("|") if part] == [
        "Hi",
        "b",
    ]


THOUGHT = "<think>\nhm\n</think>\n\n"


@pytest.mark.parametrize(
    ("template", "learned", "lost"),
    [
        (CHATML, f"{THOUGHT}b<|im_end|>|{THOUGHT}de<|im_end|>", 0),
        (QWEN3, f"b<|im_end|>|{THOUGHT}de<|im_end|>", 1),
        (R1, "\n\nb<|text|>|hm\n</think>\n\nde<|text|>", 1),
    ],
)
def test_thoughts_that_a_template_drops_are_counted(make_tokenizer, template, learned, lost):
    tokenizer = make_tokenizer(chat_template=template, bos="<s>", eos="<|text|>")
    turns = [Message(t.role, THOUGHT + t.content) for t in TWO_TURNS.messages]
    turns = [turns[i] if i % 2 else TWO_TURNS.messages[i] for i in range(4)]
    split = tokenize_examples([conversation(*turns)], tokenizer)
    assert labelled(split.dataset[0], tokenizer) == learned
    assert split.summary["not_learned"] == (
        {"thoughts that the template drops": lost} if lost else {}
    )


def test_thoughts_of_their_own_field_reach_the_template(make_tokenizer):
    tokenizer = make_tokenizer(chat_template=QWEN3, eos="<|text|>")
    answer = Message("assistant", "b", {"reasoning_content": "hm"})
    row = tokenize_examples([conversation(("user", "a"), answer)], tokenizer).dataset[0]
    assert labelled(row, tokenizer) == f"{THOUGHT}b<|im_end|>"
    assert row["prompt"].endswith("<|im_start|>assistant\n")
    plain = make_tokenizer(chat_template=CHATML, eos="<|text|>")
    split = tokenize_examples([conversation(("user", "a"), answer)], plain)
    assert split.summary["not_learned"] == {"thoughts that the template drops": 1}
    with pytest.raises(DataError, match="has 'reasoning_content', which only a chat template"):
        tokenize_examples([conversation(("user", "a"), answer)], tokenizer, template="plain")


def test_turns_that_a_template_drops_are_not_learned_and_counted(make_tokenizer):
    short = CHATML.replace("in messages", "in messages[-2:]")
    tokenizer = make_tokenizer(chat_template=short)
    split = tokenize_examples([TWO_TURNS], tokenizer)
    assert labelled(split.dataset[0], tokenizer) == "de<|im_end|>"
    assert split.summary["not_learned"] == {"turns that the template drops": 1}


CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_calls_and_weights_come_from_the_file(make_tokenizer, tmp_path):
    row = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "wrong", "weight": 0},
            {"role": "user", "content": "1 + 1?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "2", "tool_call_id": "x"},
            {"role": "assistant", "content": "2!", "tool_calls": None, "weight": 1},
        ],
    }
    loaded = load_examples(write_rows(tmp_path / "a.jsonl", row))
    tokenizer = make_tokenizer(chat_template=QWEN3, eos="<|text|>")
    split = tokenize_examples(loaded, tokenizer)
    call = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    assert labelled(split.dataset[0], tokenizer) == f"{call}<|im_end|>|2!<|im_end|>"
    assert split.summary["not_learned"] == {"turns of weight 0": 1}
    row["messages"] = row["messages"][2:4]
    last = tokenize_examples(load_examples(write_rows(tmp_path / "b.jsonl", row)), tokenizer)
    assert labelled(last.dataset[0], tokenizer) == f"{call}<|im_end|>"
    # What the call looks like as text is what an answer is compared with.
    assert last.dataset[0]["completion"] == call and last.dataset[0]["references"] == [call]


def test_what_a_template_writes_after_a_call_has_ended_is_not_learned(make_tokenizer):
    """R1 writes a call and its end, and then a turn for the content, though that is empty."""
    calls = (
        "{% for call in m.tool_calls or [] %}<|Assistant|>{{ call.function.name }}{{ eos_token }}"
    )
    r1 = R1.replace("{% else %}<|Ass", "{% else %}" + calls + "{% endfor %}<|Ass")
    tokenizer = make_tokenizer(
        chat_template=r1, bos="<s>", eos="<|eos|>", special=["<|Assistant|>"]
    )
    called = Message("assistant", "", {"tool_calls": [CALL]})
    turns = [("user", "a"), called, ("tool", "2"), ("assistant", "de")]
    row = tokenize_examples([conversation(*turns)], tokenizer).dataset[0]
    assert labelled(row, tokenizer) == "add<|eos|>|de<|eos|>"
    row = tokenize_examples([conversation(*turns[:2])], tokenizer).dataset[0]
    assert labelled(row, tokenizer) == "add<|eos|>"
    assert tokenizer.decode(row["input_ids"]).endswith(
        "<|Assistant|>add<|eos|><|Assistant|><|eos|>"
    )


def test_what_a_template_cannot_write_is_refused_by_name(make_tokenizer, tmp_path):
    tokenizer = make_tokenizer(chat_template=CHATML)
    called = Message("assistant", "", {"tool_calls": [CALL]})
    with pytest.raises(DataError, match=r"'c': turn 2 has 'tool_calls', which .* does not write"):
        tokenize_examples([conversation(("user", "a"), called, ("assistant", "b"))], tokenizer)
    with_tools = conversation(("user", "a"), ("assistant", "b"), tools=tuple(TOOLS))
    with pytest.raises(DataError, match="'c': the row has 'tools'"):
        tokenize_examples([with_tools], tokenizer)
    knows = CHATML.replace("{% for", "{{ tools | tojson if tools }}{% for", 1)
    row = tokenize_examples([with_tools], make_tokenizer(chat_template=knows)).dataset[0]
    assert '"name": "add"' in row["prompt"]
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0.5}]
    with pytest.raises(DataError, match=r"line 1: message 2 .* has the weight 0\.5"):
        load_examples(write_rows(tmp_path / "w.jsonl", {"messages": turns}))
    bad = {"messages": TWO_TURNS_JSON, "tools": "[{"}
    with pytest.raises(DataError, match="line 1: the column 'tools' is a text, but no valid JSON"):
        load_examples(write_rows(tmp_path / "t.jsonl", bad))


TWO_TURNS_JSON = [{"role": t.role, "content": t.content} for t in TWO_TURNS.messages]


def test_a_silent_turn_does_not_teach_its_end_alone(make_tokenizer):
    tokenizer = make_tokenizer(chat_template=CHATML)
    silent = conversation(("user", "a"), ("assistant", ""), ("user", "c"), ("assistant", "de"))
    split = tokenize_examples([silent], tokenizer)
    assert labelled(split.dataset[0], tokenizer) == "de<|im_end|>"
    assert split.summary["not_learned"] == {"turns that the template drops": 1}


@pytest.mark.parametrize("end", ["{{ m.content }}{% endgeneration %}<|im_end|>", "{{ m.content }}"])
def test_a_turn_end_outside_the_generation_block_is_labelled(make_tokenizer, end):
    end = end if "endgeneration" in end else end + "<|im_end|>{% endgeneration %}"
    marked = CHATML.replace(
        "{{ m.content }}<|im_end|>",
        "{% if m.role == 'assistant' %}{% generation %}"
        + end
        + "{% else %}{{ m.content }}<|im_end|>{% endif %}",
    )
    tokenizer = make_tokenizer(chat_template=marked)
    row = tokenize_examples([TWO_TURNS], tokenizer).dataset[0]
    assert labelled(row, tokenizer) == "b<|im_end|>|de<|im_end|>"


def test_turns_that_no_token_ends_are_learned_and_their_ends_counted(make_tokenizer):
    """As in SOLAR's format: only what ends the whole conversation can be learned as an end."""
    solar = (
        "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}"
        "{% if add_generation_prompt %}### assistant:\n{% endif %}"
    )
    tokenizer = make_tokenizer(chat_template=solar)
    split = tokenize_examples([TWO_TURNS], tokenizer)
    assert labelled(split.dataset[0], tokenizer) == "b\n\n|de\n\n<|im_end|>"
    words = "ends of turns before the last (the chat template has no token for them)"
    assert split.summary["not_learned"] == {words: 1}
    one = tokenize_examples([conversation(*TWO_TURNS.messages[2:])], tokenizer)
    assert one.summary["not_learned"] == {}


def test_an_end_that_is_no_token_is_refused(make_tokenizer):
    text = CHATML.replace("<|im_end|>", "<|over|>")
    with pytest.raises(ModelError, match=r"ends a turn with '<\|over\|>'.*a text of 8 tokens"):
        tokenize_examples([TWO_TURNS], make_tokenizer(chat_template=text))


def test_one_of_several_templates(make_tokenizer):
    tokenizer = make_tokenizer(chat_template={"rag": CHATML, "tool_use": CHATML})
    with pytest.raises(ConfigError, match=r"none of them is called 'default' \(rag, tool_use\)"):
        tokenize_examples([TWO_TURNS], tokenizer)
    tokenizer.chat_template = {"rag": "no", "default": CHATML}
    row = tokenize_examples([TWO_TURNS], tokenizer).dataset[0]
    assert labelled(row, tokenizer) == "b<|im_end|>|de<|im_end|>"


@pytest.mark.parametrize(
    "broken",
    [
        "{{ messages[7].content }}",
        "{{ messages.x.y }}",
        "{% for m in messages %}{{ 1 // 0 }}{% endfor %}",
        "{% for m in range(10 ** 9) %}x{% endfor %}",
        "{% if %}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_failing_template_is_one_message(make_tokenizer, broken):
    with pytest.raises(DataError, match=r"Example 'c': the tokenizer's chat template refuses"):
        tokenize_examples([TWO_TURNS], make_tokenizer(chat_template=broken))


def test_a_template_that_loops_at_one_conversation_alone_is_stopped_there(monkeypatch):
    """After it others are written, in this thread too."""
    from tutelage import overdue
    from tutelage.errors import ModelError

    monkeypatch.setattr(overdue, "_MOST", 0.05)
    monkeypatch.setattr(overdue, "_LOOKS", 0.05)

    def render(count):
        with overdue.watched("Example 'x'"):
            try:
                for _ in range(count):
                    for _ in range(10**6):
                        pass
            except Exception:
                return "swallowed"
            return "ended"

    with pytest.raises(ModelError, match="Example 'x': the chat template did not end"):
        render(10**9)
    assert [render(0) for _ in range(1000)] == ["ended"] * 1000
