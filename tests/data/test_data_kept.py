"""Examples that are kept come back as the user's file gave them."""

import pytest

from tutelage.data import load_examples
from tutelage.data.kept import read_columns, read_examples, write_examples
from tutelage.types import Example, Message

CALL = {"function": {"name": "add", "arguments": {"z": 1, "a": [1.5, None, True, {"b": 10**30}]}}}
EXAMPLES = [
    Example("1", {"prompt": "2+2="}, "4", ("4", "four"), group="1", columns={"level": "1e-3"}),
    Example("a\n\u2028", {"instruction": "\ud83d", "input": ""}, "ä\0", ("ä\0",)),
    Example(
        "chat",
        {"prompt": "?"},
        "",
        messages=(
            Message("user", "?"),
            Message("assistant", "", {"tool_calls": [CALL], "n": 0.1 + 0.2}, learned=False),
        ),
        tools=({"z": {}, "a": [CALL]},),
    ),
]


def test_examples_come_back_as_they_were(tmp_path):
    write_examples(tmp_path / "kept.parquet", EXAMPLES)
    found = list(read_examples(tmp_path / "kept.parquet"))
    assert [{**vars(one), "columns": {}} for one in EXAMPLES] == [vars(one) for one in found]
    # A template writes keys in their order.
    assert list(found[2].tools[0]) == ["z", "a"]
    columns = dict(read_columns(tmp_path / "kept.parquet"))
    assert columns == {"1": {"level": "1e-3"}, "a\n\u2028": {}, "chat": {}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, (True, True)),
        ({"columns": {"level": "2"}}, (True, False)),
        ({"columns": {}}, (True, False)),
        ({"group": "2"}, (False, True)),
        ({"id": "2"}, (False, False)),
    ],
    ids=["nothing", "a column", "no column", "the example", "its id"],
)
def test_a_change_is_seen_where_it_is(tmp_path, change, expected):
    first = write_examples(tmp_path / "one", EXAMPLES)
    changed = [Example(**{**vars(EXAMPLES[0]), **change}), *EXAMPLES[1:]]
    second = write_examples(tmp_path / "two", changed)
    assert (first.examples == second.examples, first.columns == second.columns) == expected


def test_many_are_written_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("tutelage.data.kept._ROWS_AT_ONCE", 2)
    in_parts = write_examples(tmp_path / "parts", iter(EXAMPLES))
    monkeypatch.undo()
    assert in_parts == write_examples(tmp_path / "whole", EXAMPLES)
    assert list(read_examples(tmp_path / "parts")) == list(read_examples(tmp_path / "whole"))


def test_a_further_column_is_no_field_of_a_template(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("question,answer,prompt\n1+1=,2,0.5\n", encoding="utf-8")
    (example,) = load_examples(str(file), columns=["prompt"]).examples
    assert dict(example.fields) == {"question": "1+1="}
    assert dict(example.columns) == {"prompt": "0.5"}
