from dataclasses import replace

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data.loaded import LoadedExamples
from tutelage.data.stored import Duplicate
from tutelage.data.tokenize import tokenize_examples
from tutelage.errors import ConfigError, DataError, ModelError
from tutelage.types import Example, Message

PAIRS = [
    Example(id="a", fields={"prompt": "2+2="}, completion="4", group="easy"),
    Example(id="b", fields={"prompt": "17*3="}, completion="51", references=("51", "fifty-one")),
]


def conversation(*turns: tuple[str, str], id: str = "c") -> Example:
    messages = tuple(Message(role, content) for role, content in turns)
    asked = [m.content for m in messages if m.role == "user"]
    return Example(id, {"prompt": asked[-1]}, messages[-1].content, messages=messages)


ONE_TURN = conversation(("user", "Hi"), ("assistant", "Hello"))
TWO_TURNS = conversation(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "de"))


def labelled(row, tokenizer) -> str:
    """The text of the labelled tokens, with a bar where unlabelled ones lie between."""
    parts, previous = [], -1
    for position, label in enumerate(row["labels"]):
        if label != -100:
            assert label == row["input_ids"][position]
            if position > previous + 1 and parts:
                parts.append("|")
            parts.append(tokenizer.decode([label]))
            previous = position
    return "".join(parts)


def prompt_text(row, tokenizer) -> str:
    return tokenizer.decode(row["input_ids"][: row["num_prompt_tokens"]])


@pytest.mark.parametrize("bos", [None, "<s>"])
def test_plain_text_is_prompt_then_answer_then_eos(make_tokenizer, bos):
    tokenizer = make_tokenizer(bos=bos)
    split = tokenize_examples(PAIRS, tokenizer)
    row = split.dataset[0]
    assert tokenizer.decode(row["input_ids"]) == f"{bos or ''}2+2=4<|im_end|>"
    assert prompt_text(row, tokenizer) == f"{bos or ''}2+2="
    assert row["input_ids"][: row["num_prompt_tokens"]] == tokenizer("2+2=")["input_ids"]
    assert labelled(row, tokenizer) == "4<|im_end|>"
    assert (row["prompt"], row["completion"], row["group"]) == ("2+2=", "4", "easy")
    assert [r["references"] for r in split.dataset] == [["4"], ["51", "fifty-one"]]


def test_summary_counts(make_tokenizer):
    split = tokenize_examples(PAIRS, make_tokenizer())
    assert split.summary == {
        "loaded": 2,
        "kept": 2,
        "dropped": {},
        "dropped_ids": {},
        "duplicates": {"left_out": 0, "kept": 0, "ids": []},
        "cut": {},
        "not_learned": {},
        "openings": {},
        "opening": {},
        "reopened": 0,
        "prompt_tokens": 4 + 5,
        "response_tokens": 2 + 3,
        "total_tokens": 14,
        "max_total_tokens": 8,
        "template": "plain",
        "groups": {"": 1, "easy": 1},
    }


def test_rows_are_the_same_in_one_table_and_in_many(make_tokenizer, monkeypatch, tmp_path):
    tokenizer = make_tokenizer()
    examples = [Example(str(i), {"prompt": f"{i}+1="}, str(i + 1)) for i in range(40)]
    whole = tokenize_examples(examples, tokenizer)
    monkeypatch.setattr("tutelage.data.tables.TABLE_TOKENS", 30)
    parts = tokenize_examples(examples, tokenizer)
    assert parts.dataset.data.column("id").num_chunks > 5
    assert parts.dataset[:] == whole.dataset[:] and parts.summary == whole.summary
    parts.dataset.save_to_disk(tmp_path / "rows")
    read = datasets.load_from_disk(str(tmp_path / "rows"))
    assert read[:] == whole.dataset[:] and read.features == whole.dataset.features
    other = tokenize_examples([*examples[:-1], replace(examples[-1], completion="0")], tokenizer)
    again = tokenize_examples(examples, tokenizer)
    assert again.dataset._fingerprint == parts.dataset._fingerprint != other.dataset._fingerprint


def test_summary_names_duplicates(make_tokenizer):
    duplicates = (Duplicate("a", "a", "line 3", kept=False), Duplicate("b", "a", "x", kept=True))
    split = tokenize_examples(LoadedExamples(tuple(PAIRS), duplicates), make_tokenizer())
    assert split.summary["duplicates"] == {"left_out": 1, "kept": 1, "ids": ["a", "b"]}


def test_chat_labels_the_answer_and_its_end_but_not_the_line_break(make_tokenizer, chatml):
    tokenizer = make_tokenizer(chat_template=chatml)
    row = tokenize_examples([ONE_TURN], tokenizer).dataset[0]
    assert tokenizer.decode(row["input_ids"]) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    )
    assert prompt_text(row, tokenizer) == row["prompt"]
    assert row["prompt"].endswith("<|im_start|>assistant\n")
    assert labelled(row, tokenizer) == "Hello<|im_end|>"


@pytest.mark.parametrize("template", ["chatml", "marked_chatml"])
def test_every_assistant_turn_is_labelled(make_tokenizer, request, template):
    tokenizer = make_tokenizer(chat_template=request.getfixturevalue(template))
    row = tokenize_examples([TWO_TURNS], tokenizer).dataset[0]
    assert labelled(row, tokenizer) == "b<|im_end|>|de<|im_end|>"
    assert prompt_text(row, tokenizer) == row["prompt"]
    assert row["prompt"].endswith("c<|im_end|>\n<|im_start|>assistant\n")


def test_prompt_rows_become_chats_with_a_system_text(make_tokenizer, chatml):
    tokenizer = make_tokenizer(chat_template=chatml)
    split = tokenize_examples(PAIRS, tokenizer, system="Be brief.")
    assert split.summary["template"] == "chat"
    assert prompt_text(split.dataset[0], tokenizer) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2=<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert labelled(split.dataset[1], tokenizer) == "51<|im_end|>"


@pytest.mark.parametrize("template", ["chatml", "marked_chatml"])
def test_a_token_across_the_border_is_split(make_tokenizer, request, template):
    # The prompt ends with a line break, the answer begins with one, and two make a single token.
    tokenizer = make_tokenizer(chat_template=request.getfixturevalue(template))
    odd = conversation(("user", "Hi"), ("assistant", "\nHello"))
    row = tokenize_examples([odd], tokenizer).dataset[0]
    prompt_ids = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
    assert row["input_ids"][: row["num_prompt_tokens"]] == prompt_ids
    assert labelled(row, tokenizer) == "\nHello<|im_end|>"


def test_generation_marks_help_where_earlier_turns_are_rewritten(make_tokenizer, thinking_chatml):
    marked = thinking_chatml.replace(
        "{{ m.content }}<|im_end|>\n",
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
        "{% else %}{{ m.content }}<|im_end|>{% endif %}\n",
    )
    tokenizer = make_tokenizer(chat_template=marked)
    row = tokenize_examples([TWO_TURNS], tokenizer).dataset[0]
    assert labelled(row, tokenizer) == "b<|im_end|>|de<|im_end|>"


def test_eos_is_added_where_the_template_ends_an_answer_with_no_token(
    make_tokenizer, no_system_chat
):
    tokenizer = make_tokenizer(chat_template=no_system_chat)
    row = tokenize_examples([TWO_TURNS], tokenizer).dataset[0]
    assert tokenizer.decode(row["input_ids"]) == (
        "[user] a\n[assistant] b\n[user] c\n[assistant] de\n<|im_end|>"
    )
    assert labelled(row, tokenizer) == "b\n|de\n<|im_end|>"
    no_eos = make_tokenizer(chat_template=no_system_chat, eos=None)
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        tokenize_examples([TWO_TURNS], no_eos)


def test_tokenizer_without_eos(make_tokenizer):
    with pytest.raises(ModelError, match=r"no end-of-sequence token.*tokenizer\.eos_token ="):
        tokenize_examples(PAIRS, make_tokenizer(eos=None))


def test_long_examples_are_dropped_counted_and_named(make_tokenizer):
    examples = [
        Example(id="fits", fields={"prompt": "p" * 8}, completion="c" * 7),
        Example(id="prompt", fields={"prompt": "p" * 9}, completion="c"),
        *(
            Example(id=f"total{i}", fields={"prompt": "p" * 8}, completion="c" * 8)
            for i in range(7)
        ),
    ]
    split = tokenize_examples(examples, make_tokenizer(), max_length=16, max_prompt_length=8)
    assert split.dataset["id"][:] == ["fits"]
    assert split.summary["dropped"] == {"prompt_too_long": 1, "too_long": 7}
    assert split.summary["dropped_ids"] == {
        "prompt_too_long": ["prompt"],
        "too_long": [f"total{i}" for i in range(5)],
    }
    assert (split.summary["loaded"], split.summary["kept"]) == (9, 1)


LONG = [
    Example(id="fits", fields={"prompt": "pq" * 4}, completion="c" * 7),
    Example(id="prompt", fields={"prompt": "x" * 5 + "pq" * 4}, completion="c"),
    Example(id="answer", fields={"prompt": "pq"}, completion="c" * 40),
    Example(id="both", fields={"prompt": "x" * 30 + "pq" * 4}, completion="c" * 40),
]


@pytest.mark.parametrize("bos", [None, "<s>"])
@pytest.mark.parametrize(
    ("long_prompts", "prompts", "cut"),
    [
        ("cut", ["pq" * 4, "pq" * 4, "pq", "pq" * 4], {"prompts": 2, "answers": 2}),
        (
            "keep",
            ["pq" * 4, "x" * 5 + "pq" * 4, "pq", "x" * 30 + "pq" * 4],
            {"answers": 2},
        ),
    ],
)
def test_a_test_set_is_never_filtered_by_length(make_tokenizer, long_prompts, prompts, cut, bos):
    tokenizer = make_tokenizer(bos=bos)
    more = 1 if bos else 0
    split = tokenize_examples(
        LONG,
        tokenizer,
        max_length=16 + more,
        max_prompt_length=8 + more,
        long_prompts=long_prompts,
    )
    rows = split.dataset
    # All are asked, with what their prompts end with, after the beginning of a text.
    assert rows["id"][:] == [example.id for example in LONG]
    assert [prompt_text(row, tokenizer) for row in rows] == [(bos or "") + p for p in prompts]
    assert [row["references"] for row in rows] == [[example.completion] for example in LONG]
    assert split.summary["dropped"] == {} and split.summary["cut"] == cut
    # What is compared token by token ends at the limit, and nothing is added there.
    learned = [labelled(row, tokenizer) for row in rows]
    answer = "c" * (16 - len("pq"))
    both = "c" * 8 if long_prompts == "cut" else ""
    one = "c<|im_end|>"
    assert learned == ["c" * 7 + "<|im_end|>", one, answer, both]


def test_answers_that_leave_no_token_are_dropped(make_tokenizer, chatml):
    silent = chatml.replace(
        "{{ m.content }}",
        "{% if m.role != 'assistant' or m.content != 'x' %}{{ m.content }}{% endif %}",
    )
    mute = conversation(("user", "Hi"), ("assistant", "x"), id="mute")
    split = tokenize_examples([mute, ONE_TURN], make_tokenizer(chat_template=silent))
    assert split.dataset["id"][:] == ["c"]
    assert split.summary["dropped_ids"] == {"no_response_tokens": ["mute"]}


def test_nothing_left_says_why(make_tokenizer):
    with pytest.raises(
        DataError, match=r"No response tokens left: all 2 .*\(2 too_long\).*max_length 5 .*Raise"
    ):
        tokenize_examples(PAIRS, make_tokenizer(), max_length=5)
    with pytest.raises(DataError, match="no examples"):
        tokenize_examples([], make_tokenizer())


def test_repeated_ids_are_refused(make_tokenizer):
    with pytest.raises(DataError, match="repeat"):
        tokenize_examples([PAIRS[0], PAIRS[0]], make_tokenizer())


def test_unknown_template(make_tokenizer):
    with pytest.raises(ConfigError, match="Did you mean 'plain'"):
        tokenize_examples(PAIRS, make_tokenizer(), template="plian")


def test_mixed_shapes_keep_their_order(make_tokenizer, chatml):
    tokenizer = make_tokenizer()
    question = Example(id="q", fields={"instruction": "Add.", "input": ""}, completion="3")
    split = tokenize_examples([PAIRS[0], question, PAIRS[1]], tokenizer)
    assert split.dataset["id"][:] == ["a", "q", "b"]
    assert split.summary["template"] == "plain + alpaca"


def test_progress_is_reported(make_tokenizer):
    examples = [
        Example(id=str(i), fields={"prompt": f"{i}+1="}, completion=str(i + 1)) for i in range(2500)
    ]
    seen = []
    split = tokenize_examples(
        examples, make_tokenizer(), progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1000, 2500), (2000, 2500), (2500, 2500)]
    assert split.dataset["id"][:] == [str(i) for i in range(2500)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=5))
def test_prompt_ids_are_those_of_the_prompt_alone(make_tokenizer, pairs):
    tokenizer = make_tokenizer(
        chat_template="{% for m in messages %}{{ m.content }}"
        "{% if m.role == 'assistant' %}<|im_end|>{% endif %}{% endfor %}"
    )
    examples = [
        Example(id=str(i), fields={"prompt": prompt}, completion=completion)
        for i, (prompt, completion) in enumerate(pairs)
    ]
    for template in ("plain", "chat"):
        # Drawn texts may be longer than the default limits, in bytes.
        split = tokenize_examples(
            examples, tokenizer, template=template, max_length=10**6, max_prompt_length=10**6
        )
        for row, (prompt, completion) in zip(split.dataset, pairs, strict=True):
            ids = row["input_ids"]
            assert ids[: row["num_prompt_tokens"]] == tokenizer(prompt)["input_ids"]
            assert set(row["labels"][: row["num_prompt_tokens"]]) == {-100}
            assert labelled(row, tokenizer).encode()[-10:] == b"<|im_end|>"
            kept = [label for label in row["labels"] if label != -100]
            assert tokenizer.decode(kept) == f"{completion}<|im_end|>"
