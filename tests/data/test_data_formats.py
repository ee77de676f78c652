"""What data files are really like: encodings, delimiters, compressions, line ends, pointers."""

import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.data.load import load_examples
from tutelage.errors import ConfigError, DataError

ROWS = [
    {"prompt": "Gr\u00f6\u00dfe?", "completion": "5 \u20ac"},
    {"prompt": "p", "completion": "a, b; c"},
]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
CSV = 'prompt,completion\nGr\u00f6\u00dfe?,5 \u20ac\np,"a, b; c"\n'


def pairs(path, **options):
    loaded = load_examples(str(path), **options).examples
    return [{"prompt": e.fields["prompt"], "completion": e.completion} for e in loaded]


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize(
    ("name", "text"), [("a.jsonl", JSONL), ("a.csv", CSV), ("a.json", json.dumps(ROWS))]
)
def test_every_unicode_encoding_is_read(tmp_path, encoding, name, text):
    assert pairs(write(tmp_path, name, text.encode(encoding))) == ROWS


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old mac"])
@pytest.mark.parametrize(
    ("name", "text"), [("a.jsonl", JSONL), ("a.csv", CSV), ("a.json", json.dumps(ROWS, indent=1))]
)
def test_every_kind_of_line_end_is_read(tmp_path, end, name, text):
    assert pairs(write(tmp_path, name, text.replace("\n", end))) == ROWS


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_what_parts_the_columns_is_found(tmp_path, delimiter, name):
    text = f'id{delimiter} prompt {delimiter}"completion"\n7{delimiter}"x;,|\ty"{delimiter}c\n'
    (example,) = load_examples(str(write(tmp_path, name, text))).examples
    assert (example.id, example.fields, example.completion) == ("7", {"prompt": "x;,|\ty"}, "c")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl"])  # a browser may leave the ending out
def test_compressed_files_are_read(tmp_path, compress, name):
    assert pairs(write(tmp_path, name, compress(JSONL.encode()))) == ROWS


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("text", [JSONL, json.dumps(ROWS), json.dumps(ROWS, indent=2)])
def test_json_and_json_lines_are_told_apart_by_what_is_inside(tmp_path, name, text):
    assert pairs(write(tmp_path, name, text)) == ROWS


def test_an_object_of_splits(tmp_path):
    path = write(tmp_path, "a.json", json.dumps({"train": ROWS[:1], "test": ROWS[1:]}))
    assert pairs(path) == ROWS[:1] and pairs(path, split="test") == ROWS[1:]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["a.arrow", "a.feather"])
def test_arrow_files_and_streams(tmp_path, name, stream):
    table = pa.Table.from_pylist(ROWS)
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(tmp_path / name, table.schema) as writer:
        writer.write_table(table)
    assert pairs(tmp_path / name) == ROWS


def test_a_cell_of_any_length(tmp_path):
    long = "word " * 60_000
    path = write(tmp_path, "a.csv", f"prompt,completion\n{long},c\n")
    assert pairs(path)[0]["prompt"] == long


def test_numbers_as_ids(tmp_path):
    for name, ids in {"whole": [3, 11], "with_a_gap": [3.0, 11.0]}.items():
        rows = [{"id": i, **row} for i, row in zip(ids, ROWS, strict=True)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
        loaded = load_examples(str(tmp_path / f"{name}.parquet")).examples
        assert [example.id for example in loaded] == ["3", "11"]


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
ROW = '{"prompt": "p", "completion": "c"}\n'


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        *((name, LFS, "pointer of Git LFS.*git lfs pull") for name in
          ("a.jsonl", "a.json", "a.csv", "a.parquet", "a.arrow", "a.jsonl.gz")),
        *((name, b"", r"is empty \(0 bytes\), so it has no rows") for name in
          ("a.jsonl", "a.json", "a.csv", "a.parquet", "a.arrow", "a.jsonl.gz")),
        ("a.jsonl", ROW + '{"prompt": "p", "x": "\\ud800"}\n', r"line 2: .*\\ud800, half"),
        ("a.json", '[{"prompt": "p", "completion": "\\udc00"}]', r"\\udc00, half of a character"),
        ("a.jsonl", ROW + '{"prompt": "p", "prompt": "q"}\n', "2: the key 'prompt' occurs twice"),
        ("a.json", '[{"messages": [{"role": "user", "role": "tool"}]}]', "key 'role' occurs twice"),
        ("a.jsonl", ROW + '{"level": ' + "9" * 5000 + "}\n", "line 2: a number is too long"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.jsonl", ROW + '{"prompt": ' + "[" * 100_000 + "\n", "line 2: .*nested too deeply"),
        ("a.jsonl", "{'prompt': 'p', 'completion': 'c'}\n", "1: .*double quotes: .*json.dumps"),
        ("a.jsonl", json.dumps(ROWS[0], indent=2), "line 1: .*goes over several lines"),
        ("a.jsonl", "[1]", "row 1: this row is of type int"),
        ("a.jsonl", "[{]", "line 1: not valid JSON"),
        ("a.csv", b"prompt;completion\np;\xe4\n", "2: byte 0xe4 is not UTF-8.*iconv -f LA"),
        ("a.csv", "prompt;completion\np;a;b\n", r"line 2: 3 cells .* 2 columns.*\(';'\)"),
        ("a.jsonl", gzip.compress(JSONL.encode())[:-9], "compressed, and damaged or cut short"),
        ("a.jsonl", gzip.compress(b"\xe9\n"), "line 1: byte 0xe9 is not UTF-8"),
        ("a.csv", b"PK\x03\x04rest", "ZIP archive or an Excel workbook"),
        ("a.jsonl", b"\x28\xb5\x2f\xfdrest", "compressed with zstd"),
        ("a.jsonl", b"PAR1rest", "is a parquet file. Give it the ending .parquet"),
        ("a.jsonl", "\ufeff" + ROW + "\x00", "line 2"),
        ("a.arrow", "no arrow", "cannot be read as Arrow"),
        ("a.xlsx", "x", "ends in '.xlsx', which is no known format"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 12 else "",
)  # fmt: skip
def test_what_cannot_be_read_is_named_with_what_to_do(tmp_path, name, content, words):
    with pytest.raises(DataError, match=words) as error:
        load_examples(str(write(tmp_path, name, content)))
    assert name in str(error.value) and len(str(error.value)) < 600


def test_a_table_with_one_name_for_two_columns(tmp_path):
    table = pa.table([["p"], ["q"], ["c"]], names=["prompt", "prompt", "completion"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="the column 'prompt' occurs twice"):
        load_examples(str(tmp_path / "a.parquet"))


def test_texts_of_a_table_that_are_not_text(tmp_path):
    bad = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"prompt": bad, "completion": ["c"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 1: a text is not UTF-8"):
        load_examples(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize("name", ["x" * 5000 + ".jsonl", "a\0.jsonl", "/proc/self/mem/a.jsonl"])
def test_names_that_no_file_can_have(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        load_examples(name)


NAMES = {"prompt": "text", "completion": "code"}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_columns_under_other_names(tmp_path, kind):
    rows = [{"text": "t", "code": "c", "prompt": "not this one", "id": "7"}]
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        write(tmp_path, path.name, json.dumps(rows[0]) if kind == "jsonl" else
              "text,code,prompt,id\nt,c,not this one,7\n")  # fmt: skip
    (example,) = load_examples(str(path), names=NAMES).examples
    assert (example.id, example.fields, example.completion) == ("7", {"prompt": "t"}, "c")


def test_columns_under_names_that_are_not_there(tmp_path):
    path = str(write(tmp_path, "a.jsonl", '{"txt": "t", "code": "c"}\n'))
    with pytest.raises(
        DataError, match=r"line 1: there is no column 'text', which is to be `prompt"
    ):
        load_examples(path, names=NAMES)
    with pytest.raises(
        ConfigError, match=r"Unknown column of an example 'promt'. Did you mean 'pro"
    ):
        load_examples(path, names={"promt": "txt"})


def test_conversations_as_share_gpt_writes_them(tmp_path):
    turns = [
        {"from": "human", "value": "Hi", "loss": None},
        {"from": "gpt", "value": "Yes?", "loss": False},
        {"from": "human", "value": "2+2"},
        {"from": "gpt", "value": "4"},
    ]
    row = {"conversations": turns, "system": "Be brief.", "source": "elsewhere"}
    (example,) = load_examples(str(write(tmp_path, "a.jsonl", json.dumps(row)))).examples
    said = [(turn.role, turn.content, turn.learned) for turn in example.messages]
    assert said == [
        ("system", "Be brief.", True),
        ("user", "Hi", True),
        ("assistant", "Yes?", False),
        ("user", "2+2", True),
        ("assistant", "4", True),
    ]
    assert example.completion == "4"
    names = {"messages": "chat"}
    row = {"chat": turns, "conversations": None}
    path = write(tmp_path, "b.jsonl", json.dumps(row))
    assert load_examples(str(path), names=names).examples[0].completion == "4"


@pytest.mark.parametrize("below", ["", "data"])
def test_a_folder_as_repositories_of_data_have_it(tmp_path, below):
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    for number, row in enumerate(ROWS):
        table = pa.Table.from_pylist([row])
        pq.write_table(table, folder / f"train-0000{number}-of-00002.parquet")
    (tmp_path / "README.md").write_text("about")
    write(folder, "test.jsonl", json.dumps(ROWS[1]))
    assert pairs(tmp_path) == ROWS and pairs(tmp_path, split="test") == ROWS[1:]
    write(folder, "train.jsonl", JSONL)
    with pytest.raises(DataError, match=r"several data sets for the split 'train': train.jsonl"):
        load_examples(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", '{"prompt": "p", "completion": "c",}\n', "line 1: .*A comma too many"),
        ("a.json", '[{"prompt": "p", "completion": "c"},]', "line 1: .*A comma too many"),
        ("a.jsonl", '{"prompt": "p", "completion": "c"},\n', "line 1: .*end without a comma"),
        ("a.json", '{"prompt": {"0": "p"}, "completion": {"0": "c"}}', "columns, not rows"),
        ("a.json", '{"prompt": ["p"], "completion": ["c"]}', "must hold a list of objects"),
    ],
)
def test_advice_where_the_fault_is_known(tmp_path, name, text, words):
    with pytest.raises(DataError, match=words):
        load_examples(str(write(tmp_path, name, text)))
