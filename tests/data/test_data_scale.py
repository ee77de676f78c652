"""Data that are too many for memory go to disk, and nothing else about them changes."""

import json
import random

import datasets
import numpy as np
import pyarrow as pa
import pytest

from tutelage.data import load_examples, tokenize_examples
from tutelage.data.ahead import one_ahead
from tutelage.data.lengths import stored_texts
from tutelage.data.loaded import LoadedExamples, draw_positions
from tutelage.data.spool import Spool
from tutelage.errors import DataError, RunFolderError
from tutelage.types import Example, Message

CALL = {"function": {"name": "add", "arguments": {"a": [1.5, None, True, {"b": 10**30}]}}}
TALK = [
    {"role": "user", "content": "\u00e9?", "name": "x"},
    {"role": "assistant", "content": "", "tool_calls": [CALL], "weight": 0},
    {"role": "tool", "content": "4"},
    {"role": "assistant", "content": "four"},
]


@pytest.fixture
def on_disk(monkeypatch):
    """A function after whose call everything is kept on disk, in batches of three."""

    def keep():
        monkeypatch.setattr("tutelage.data.spool.IN_MEMORY", 0)
        monkeypatch.setattr("tutelage.data.loaded.ROWS_AT_ONCE", 3)
        monkeypatch.setattr("tutelage.data.stored.ROWS_AT_ONCE", 2)
        monkeypatch.setattr("tutelage.data.tables.TABLE_TOKENS", 20)
        monkeypatch.setattr("tutelage.data.tokenize._CHUNK", 4)

    return keep


def drawn_rows(seed, count=40):
    """Rows of few words, so that some repeat, with and without ids and columns."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        row = {"question": rng.choice("abc"), "answer": rng.choice("xyz") * rng.randint(1, 3)}
        row |= {"id": f"own {number}"} if rng.random() < 0.3 else {}
        rows.append({**row, "level": rng.randint(1, 2), "topic": str(number)})
    return rows


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("seed", range(8))
def test_copies_are_those_that_a_plain_look_finds(tmp_path, on_disk, seed):
    rows = drawn_rows(seed)
    source = written(tmp_path / "rows.jsonl", rows)
    on_disk()
    loaded = load_examples(source, columns=["topic"])
    seen, kept, copies = {}, [], []
    for number, row in enumerate(rows, start=1):
        content = (row["question"], row["answer"])
        if content in seen:
            copies.append((seen[content], number, "id" in row))
        seen.setdefault(content, number)
        if content not in {(r["question"], r["answer"]) for r in rows[: number - 1]} or "id" in row:
            kept.append(row)
    assert [
        (e.fields["question"], e.completion, e.group, e.columns["topic"]) for e in loaded.examples
    ] == [(r["question"], r["answer"], str(r["level"]), r["topic"]) for r in kept]
    assert [(d.where.rpartition(" ")[2], d.kept) for d in loaded.duplicates] == [
        (str(number), own) for _, number, own in copies
    ]
    by_place = {f"line {n}": e.id for n, e in _lines(rows, loaded)}
    assert [d.of for d in loaded.duplicates] == [
        by_place[f"line {first}"] for first, _, _ in copies
    ]
    assert loaded.num_left_out == sum(not own for _, _, own in copies)


def _lines(rows, loaded):
    """The line of each example that was kept."""
    topics = {e.columns["topic"]: e for e in loaded.examples}
    return [(n, topics[r["topic"]]) for n, r in enumerate(rows, start=1) if r["topic"] in topics]


def test_examples_on_disk_are_those_in_memory(tmp_path, on_disk):
    rows = [{"messages": TALK, "tools": [CALL], "group": "g"}, {"messages": TALK[2:0:-1] + TALK}]
    rows += [{"messages": [{"role": "user", "content": str(n)}, TALK[-1]]} for n in range(9)]
    source = written(tmp_path / "rows.jsonl", [*rows, rows[0]])
    whole = load_examples(source)
    on_disk()
    parts = load_examples(source, folder=tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "rows.jsonl"]  # its file has no name
    assert parts == whole and list(parts.examples) == list(whole.examples)
    assert parts.examples[0].messages[1] == Message(
        "assistant", "", {"tool_calls": [CALL]}, learned=False
    )
    assert parts.duplicates == whole.duplicates and len(parts.duplicates) == 1
    assert parts.ids == whole.ids == [e.id for e in whole.examples]
    assert parts != load_examples(written(tmp_path / "other.jsonl", rows[:3]))


def test_a_part_of_the_examples(tmp_path, on_disk):
    rows = [{"prompt": str(n), "completion": "c", "id": n} for n in range(20)]
    source = written(tmp_path / "rows.jsonl", rows)
    on_disk()
    examples = load_examples(source).examples
    names = [str(n) for n in range(20)]
    for part in (slice(3, 11), slice(None), slice(5, 5), slice(-4, None), slice(0, 20, 7)):
        assert [e.id for e in examples[part]] == names[part]
    assert [e.id for e in examples[::-1]] == names[::-1]
    assert examples[-1].id == "19" and examples[7].fields == {"prompt": "7"}
    with pytest.raises(IndexError):
        examples[20]
    some = examples.take(np.array([1, 2, 3, 9, 17]))
    assert [e.id for e in some.take(np.array([0, 3, 4]))] == ["1", "9", "17"]
    assert some.ids == ["1", "2", "3", "9", "17"] and some.take(np.array([], int)).ids == []
    assert load_examples(source, limit=6, seed=3).ids == [
        str(n) for n in sorted(random.Random(3).sample(range(20), 6))
    ]


@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_tokens_on_disk_are_those_in_memory(tmp_path, on_disk, make_tokenizer, chatml, kind):
    tokenizer = make_tokenizer(chat_template=chatml if kind == "chat" else None)
    rows = drawn_rows(1)
    rows[5] |= {"question": "long " * 20, "id": "long"}
    source = written(tmp_path / "rows.jsonl", rows)
    told = []
    first = tokenize_examples(load_examples(source), tokenizer, max_prompt_length=60)
    on_disk()
    second = tokenize_examples(
        load_examples(source),
        tokenizer,
        max_prompt_length=60,
        folder=tmp_path,
        progress=lambda *done: told.append(done),
    )
    assert second.summary == first.summary
    assert first.summary["dropped"] == {"prompt_too_long": 1}
    assert first.summary["dropped_ids"] == {"prompt_too_long": ["long"]}
    assert second.dataset.to_list() == first.dataset.to_list()
    assert len(second.dataset.data.column(0).chunks) > 3
    assert told[-1] == (second.summary["loaded"],) * 2 and told[0][0] == 4
    for name, split in (("first", first), ("second", second)):
        split.dataset.save_to_disk(tmp_path / name)
    files = [tmp_path / name / "data-00000-of-00001.arrow" for name in ("first", "second")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_two_contents_with_one_hash_are_refused(tmp_path, monkeypatch):
    rows = [{"prompt": str(n), "completion": "c"} for n in range(3)]
    monkeypatch.setattr(
        "tutelage.data.load._digest",
        lambda content: "f" * 16 if content.fields["prompt"] != "1" else "0" * 16,
    )
    with pytest.raises(DataError, match=r"line 3: the hash of this row's content .*line 1"):
        load_examples(written(tmp_path / "rows.jsonl", rows))


def test_an_id_that_is_the_hash_of_other_content_is_refused(tmp_path):
    source = written(tmp_path / "rows.jsonl", [{"prompt": "p", "completion": "c"}])
    made = load_examples(source).examples[0].id
    rows = [{"prompt": "q", "completion": "c", "id": made}, {"prompt": "p", "completion": "c"}]
    with pytest.raises(DataError, match=r"line 2: the id .* was used before, at .*line 1"):
        load_examples(written(tmp_path / "rows.jsonl", rows))


@pytest.mark.parametrize(("count", "size"), [(1, 1), (9, 9), (30, 4), (85, 6), (86, 6), (500, 400)])
@pytest.mark.parametrize("seed", range(3))
def test_a_draw_is_that_of_the_library(count, size, seed):
    found = draw_positions(random.Random(f"test {seed}"), count, size).tolist()
    assert found == random.Random(f"test {seed}").sample(range(count), size)


def test_examples_of_ones_own_can_be_chosen_from():
    mine = LoadedExamples(tuple(Example(str(n), {"prompt": "p"}, "c") for n in range(4)))
    assert mine.ids == ["0", "1", "2", "3"] and mine.num_left_out == 0
    assert mine.select(np.array([1, 3]), duplicates=True).examples == mine.examples[1::2]


def test_a_spool_gives_back_what_it_was_given(tmp_path, monkeypatch):
    schema = pa.schema([("a", pa.string())])
    batches = [pa.record_batch([pa.array([str(n)] * 3)], schema=schema) for n in range(5)]
    tables = []
    for limit in (1 << 20, 40, 0):
        monkeypatch.setattr("tutelage.data.spool.IN_MEMORY", limit)
        spool = Spool(schema, tmp_path)
        for batch in batches:
            spool.add(batch)
        tables.append(spool.table())
    assert all(table.equals(tables[0]) and len(table["a"].chunks) == 5 for table in tables)
    assert Spool(schema, tmp_path).table().num_rows == 0
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    schema = pa.schema([("a", pa.int64())])
    monkeypatch.setattr("tutelage.data.spool.IN_MEMORY", 0)

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(RunFolderError, match="full"):
        Spool(schema, tmp_path).add(pa.record_batch([pa.array([1])], schema=schema))


def test_one_ahead_keeps_the_order_and_passes_errors_on():
    begun = []

    def halve(number):
        begun.append(number)
        if number == 3:
            raise ValueError("three")
        return number / 2

    found = []
    with pytest.raises(ValueError, match="three"):
        found += [found.append(half) or len(begun) for half in one_ahead(halve, range(6))]
    assert found == [0.0, 0.5, 1.0]
    assert begun[:4] == [0, 1, 2, 3] and 5 not in begun
    assert list(one_ahead(halve, [])) == []


def test_texts_of_a_column():
    rows = datasets.Dataset.from_dict({"id": ["a", "b", "c"], "n": [1, -2, 3], "f": [1.0, 2.5, 3]})
    assert stored_texts(rows.select([2, 0]), "id") == ["c", "a"]
    assert stored_texts(rows, "n") == ["1", "-2", "3"]
    assert stored_texts(rows, "f") == ["1.0", "2.5", "3.0"]


def test_a_copy_may_hold_what_is_not_itself(tmp_path):
    talks = [[{**TALK[0], "n": [float("nan"), {"a": 1, "b": 2}]}, TALK[-1]]] * 2
    talks += [[{"n": [float("nan"), {"b": 2, "a": 1}], **TALK[0]}, TALK[-1]]]
    loaded = load_examples(written(tmp_path / "rows.jsonl", [{"messages": t} for t in talks]))
    assert len(loaded.examples) == 1 and loaded.num_left_out == 2
    assert list(loaded.examples[0].messages[0].extra) == ["name", "n"]  # a template keeps the order
