import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.data.load import load_examples
from tutelage.data.sources import Source
from tutelage.errors import ConfigError, DataError
from tutelage.types import Message

ROWS = [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(4)]
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def write_jsonl(path: Path, rows: list) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def write_as(kind: str, folder: Path, rows: list[dict]) -> str:
    """The same rows in one of the formats."""
    path = folder / f"rows.{kind}"
    if kind == "jsonl":
        return write_jsonl(path, rows)
    if kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "csv":
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    else:
        datasets.Dataset.from_list(rows).save_to_disk(str(path))
    return str(path)


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "saved"])
def test_every_format_gives_the_same_examples(tmp_path, kind):
    loaded = load_examples(write_as(kind, tmp_path, ROWS))
    assert [e.fields for e in loaded.examples] == [{"prompt": f"p{i}"} for i in range(4)]
    assert [e.completion for e in loaded.examples] == ["c0", "c1", "c2", "c3"]
    assert [e.references for e in loaded.examples] == [("c0",), ("c1",), ("c2",), ("c3",)]
    assert loaded.duplicates == ()
    reference = load_examples(write_jsonl(tmp_path / "reference.jsonl", ROWS))
    assert loaded == reference  # ids included: they come from the content alone


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "saved"])
def test_conversations_in_every_format_that_can_hold_them(tmp_path, kind):
    (example,) = load_examples(write_as(kind, tmp_path, [{"messages": TURNS}])).examples
    assert example.messages == (Message("user", "Hi"), Message("assistant", "Hello"))
    assert example.fields == {"prompt": "Hi"}
    assert example.completion == "Hello"


@pytest.mark.parametrize(
    ("row", "fields", "references"),
    [
        ({"question": "q", "answer": "a"}, {"question": "q"}, ("a",)),
        ({"instruction": "i", "output": "o"}, {"instruction": "i", "input": ""}, ("o",)),
        (
            {"instruction": "i", "input": "x", "output": ["o", "p"]},
            {"instruction": "i", "input": "x"},
            ("o", "p"),
        ),
        (
            {"instruction": "i", "input": None, "output": "o"},
            {"instruction": "i", "input": ""},
            "o",
        ),
        ({"prompt": "p", "completion": ["a", "b"]}, {"prompt": "p"}, ("a", "b")),
        # A rendered prompt beside the columns it was made from does not change the shape.
        (
            {"prompt": "p", "instruction": "i", "output": "o"},
            {"instruction": "i", "input": ""},
            ("o",),
        ),
        ({"prompt": "p", "completion": "c", "question": "q", "answer": "a"}, {"prompt": "p"}, "c"),
    ],
)
def test_row_shapes(tmp_path, row, fields, references):
    (example,) = load_examples(write_jsonl(tmp_path / "a.jsonl", [row])).examples
    assert example.fields == fields
    assert example.references == tuple(references)
    assert example.completion == references[0]


def test_conversational_prompt_and_completion(tmp_path):
    row = {"prompt": TURNS[:1], "completion": TURNS[1:]}
    (example,) = load_examples(write_jsonl(tmp_path / "a.jsonl", [row])).examples
    assert [m.role for m in example.messages] == ["user", "assistant"]


def test_json_object_with_data(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"version": 1, "data": ROWS}))
    assert len(load_examples(str(path)).examples) == 4


def test_blank_lines_byte_order_mark_and_odd_line_breaks(tmp_path):
    path = tmp_path / "a.jsonl"
    text = '\ufeff{"prompt": "a\u2028b", "completion": "\u00e9"}\r\n\n'
    path.write_bytes(text.encode("utf-8"))
    (example,) = load_examples(str(path)).examples
    assert example.fields == {"prompt": "a\u2028b"}
    assert example.completion == "\u00e9"


def test_csv_with_quoted_commas_and_line_breaks(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,question,answer\n7,"a,\nb",c\n8,d,e\n')
    loaded = load_examples(str(path)).examples
    assert [e.id for e in loaded] == ["7", "8"]
    assert loaded[0].fields == {"question": "a,\nb"}


@pytest.mark.parametrize(
    ("columns", "group"),
    [
        ({"level": 3, "topic": "x"}, "3"),
        ({"category": "c", "task": "t"}, "t"),
        ({"group": "g", "level": 1}, "g"),
        ({"topic": "x"}, ""),
        ({"level": None, "task": "t"}, "t"),
    ],
)
def test_groups(tmp_path, columns, group):
    (example,) = load_examples(write_jsonl(tmp_path / "a.jsonl", [ROWS[0] | columns])).examples
    assert example.group == group


def test_ids_are_kept_as_text_and_made_from_content(tmp_path):
    rows = [ROWS[0] | {"id": 7}, ROWS[1] | {"id": "x"}, ROWS[2], ROWS[3] | {"id": None}]
    ids = [e.id for e in load_examples(write_jsonl(tmp_path / "a.jsonl", rows)).examples]
    assert ids[:2] == ["7", "x"]
    assert all(len(made) == 16 and int(made, 16) >= 0 for made in ids[2:])
    alone = load_examples(write_jsonl(tmp_path / "b.jsonl", [ROWS[3] | {"topic": "t"}]))
    assert alone.examples[0].id == ids[3]


def test_copies_without_ids_are_left_out_and_named(tmp_path):
    loaded = load_examples(write_jsonl(tmp_path / "a.jsonl", [*ROWS[:2], ROWS[0], ROWS[0]]))
    assert [e.completion for e in loaded.examples] == ["c0", "c1"]
    assert [(d.id, d.of, d.kept) for d in loaded.duplicates] == [
        (loaded.examples[0].id, loaded.examples[0].id, False)
    ] * 2
    assert loaded.duplicates[0].where.endswith("a.jsonl', line 3")


def test_copies_with_ids_stay_and_are_named(tmp_path):
    rows = [ROWS[0] | {"id": "a"}, ROWS[0] | {"id": "b"}, ROWS[1] | {"id": "c"}]
    loaded = load_examples(write_jsonl(tmp_path / "a.jsonl", rows))
    assert [e.id for e in loaded.examples] == ["a", "b", "c"]
    assert [(d.id, d.of, d.kept) for d in loaded.duplicates] == [("b", "a", True)]


def test_repeated_ids_are_refused_with_both_places(tmp_path):
    rows = [ROWS[0] | {"id": "a"}, ROWS[1], ROWS[2] | {"id": "a"}]
    with pytest.raises(DataError, match=r"line 3: the id 'a' was used before, at .*line 1"):
        load_examples(write_jsonl(tmp_path / "a.jsonl", rows))


def test_limit_draws_a_seeded_subset_in_file_order(tmp_path):
    rows = [{"prompt": str(i), "completion": "c", "id": i} for i in range(50)]
    source = write_jsonl(tmp_path / "a.jsonl", rows)
    drawn = [int(e.id) for e in load_examples(source, limit=10, seed=1).examples]
    assert len(drawn) == 10 and drawn == sorted(drawn) and drawn != list(range(10))
    assert drawn == [int(e.id) for e in load_examples(source, limit=10, seed=1).examples]
    assert drawn != [int(e.id) for e in load_examples(source, limit=10, seed=2).examples]
    assert len(load_examples(source, limit=99).examples) == 50
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        load_examples(source, limit=0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1], "line 2: this row is of type list"),
        ({"prompt": 5, "completion": "c"}, r"line 2: the column 'prompt' holds int 5, but text"),
        ({"prompt": "p", "completion": " "}, "line 2: the column 'completion' is empty"),
        ({"prompt": "p", "completion": None}, "line 2: the column 'completion' is empty"),
        ({"prompt": "p", "completion": []}, "line 2: the column 'completion' holds list"),
        ({"prompt": "p", "completion": ["a", ""]}, "line 2: the column 'completion' holds list"),
        ({"prompt": "p"}, r"line 2: the column 'completion' is missing; .*shape prompt \+ comp"),
        ({"prompt": TURNS[:1], "completion": "c"}, "line 2: the column 'completion' holds str"),
        ({"prompt": "p", "completion": TURNS[1:]}, "text, like the prompt, is needed"),
        ({"prompt": "p", "completion": "c", "id": ""}, "line 2: the column 'id' is empty"),
        ({"prompt": "p", "completion": "c", "id": True}, "line 2: the column 'id' holds bool"),
        ({"prompt": "p", "completion": "c", "group": []}, "line 2: the column 'group' holds list"),
    ],
)
def test_errors_name_file_line_and_column(tmp_path, row, message):
    with pytest.raises(DataError, match=message) as error:
        load_examples(write_jsonl(tmp_path / "mine.jsonl", [ROWS[0], row]))
    assert "mine.jsonl" in str(error.value)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("Hi", "holds str 'Hi'"),
        (TURNS[:1], "must end with a message of the assistant"),
        ([], "must end with a message of the assistant"),
        ([*TURNS[:1], {"role": "assistant", "content": ""}], "not empty"),
        (TURNS[1:], "no message of the user"),
        ([{"from": "human", "value": None}], "message 1 .* needs a text under 'role'"),
        ([{"from": "hummany", "value": "Hi"}], "message 1 .* has the role 'hummany'"),
        ([{"from": "human", "value": "Hi"}, {"from": "function_call", "value": "{}"}], "'functio"),
        ([TURNS[0], {"role": "gpt", "content": "x"}], "message 2 .* has the role 'gpt'"),
        ([{"role": "user", "content": [{"type": "image"}]}], "needs a text under 'role' and"),
        (["Hi"], "needs a text under 'role'"),
    ],
)
def test_bad_conversations(tmp_path, messages, message):
    with pytest.raises(DataError, match=message):
        load_examples(write_jsonl(tmp_path / "a.jsonl", [{"messages": messages}]))


def test_bad_optional_input(tmp_path):
    row = {"instruction": "i", "input": 3, "output": "o"}
    with pytest.raises(DataError, match="line 1: the column 'input' holds int 3"):
        load_examples(write_jsonl(tmp_path / "a.jsonl", [row]))


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "saved"])
def test_unknown_columns_lists_found_and_accepted(tmp_path, kind):
    source = write_as(kind, tmp_path, [{"text": "t", "code": "c"}])
    with pytest.raises(
        DataError, match=r"Found: text, code\. Accepted: messages; conversations; pr"
    ):
        load_examples(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"prompt": 1\n', "line 1: not valid JSON"),
        ("a.jsonl", b'{"prompt": "p", "completion": "c"}\n{]\n', "line 2: not valid JSON"),
        ("a.jsonl", b'{"prompt": "p", "completion": "c"}\n{"a": "\xe9"}\n', "line 2: byte 0xe9"),
        ("a.jsonl", b"\n\n", "has no rows"),
        ("a.jsonl", b"", "has no rows"),
        ("a.json", b"[\n{]", "line 2: not valid JSON"),
        ("a.json", b'{"prompt": "p", "completion": "c"}\n{]\n', "line 2: not valid JSON"),
        ("a.json", b'{"rows": []}', "must hold a list of objects"),
        ("a.json", b"[]", "has no rows"),
        ("a.json", b"[1]", "row 1: this row is of type int"),
        ("a.csv", b"question,answer\nq,a\nq\n", "line 3: 1 cells were found for 2 columns"),
        ("a.csv", b"question,answer\nq,\n", "line 2: the column 'answer' is empty"),
        ("a.csv", b'question,answer\nq,"a\n', "line 2: not valid CSV"),
        ("a.csv", b"question,question\nq,a\n", "line 1: the column 'question' occurs twice"),
        ("a.csv", b"question,answer\nq,\xff\n", "line 2: byte 0xff is not UTF-8"),
        ("a.csv", b"question,answer\n", "has no rows"),
        ("a.parquet", b"not parquet", "cannot be read as parquet"),
        ("a.txt", b"text", r"ends in '.txt', which is no known format. Known: .jsonl, .ndjson"),
    ],
)
def test_malformed_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load_examples(str(path))
    assert name in str(error.value)


def test_parquet_errors_name_the_row(tmp_path):
    source = write_as("parquet", tmp_path, [*ROWS, {"prompt": "p", "completion": ""}])
    with pytest.raises(DataError, match=r"rows.parquet', row 5: the column 'completion' is empty"):
        load_examples(source)


def test_missing_files_suggest_a_neighbour(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(DataError, match=r"does not exist\. Did you mean 'train.jsonl'"):
        load_examples(str(tmp_path / "trian.jsonl"))
    with pytest.raises(DataError, match="neither does its folder"):
        load_examples(str(tmp_path / "no" / "train.jsonl"))
    with pytest.raises(DataError, match="does not exist"):
        load_examples("./no_suffix")


def test_saved_splits(tmp_path):
    parts = {"train": ROWS[:3], "test": ROWS[3:]}
    folder = str(tmp_path / "saved")
    datasets.DatasetDict(
        {split: datasets.Dataset.from_list(rows) for split, rows in parts.items()}
    ).save_to_disk(folder)
    assert len(load_examples(folder).examples) == 3
    assert len(load_examples(folder, split="test").examples) == 1
    with pytest.raises(DataError, match=r"no split 'tset'. Did you mean 'test'"):
        load_examples(folder, split="tset")


def test_a_folder_of_files_is_no_saved_data_set(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(DataError, match=r"no file called 'train'. Name one of its files: rows.j"):
        load_examples(str(tmp_path))


def test_hub_names(monkeypatch):
    calls = []

    def fake(name, config, split, **more):
        calls.append((name, config, split, more))
        return datasets.Dataset.from_list(ROWS).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", fake)
    assert len(load_examples("org/name:main", split="test").examples) == 4
    assert len(load_examples("name").examples) == 4
    assert len(load_examples([Source("name", name="de", revision="v2")]).examples) == 4
    assert len(load_examples([Source("name", split="train[:4]")]).examples) == 4
    assert calls == [
        ("org/name", "main", "test", {"streaming": True}),
        ("name", None, "train", {"streaming": True}),
        ("name", "de", "train", {"streaming": True, "revision": "v2"}),
        ("name", None, "train[:4]", {"streaming": False}),
    ]


@pytest.mark.parametrize("error", [ConnectionError("no route\nmore"), ValueError("bad config")])
def test_hub_errors(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"'org/name' is no file here.*(no route|bad config)\. Che"):
        load_examples("org/name")
