"""Files that users give, spoilt in any way: read, or refused in a message that names them."""

import csv
import gzip
import io
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from mutations import EDITS, JSON_EDITS, NOT_READ, edited, few, json_edited, read_or_refused

from tutelage.data import load_examples
from tutelage.difficulty import load_profile
from tutelage.recipe import load_recipe
from tutelage.studies.load import load_study

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
LINES = TEXTS.filter(lambda text: text.strip())
ROWS = st.lists(st.tuples(LINES, LINES), min_size=1, max_size=5)


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_json(rows):
    return json.dumps(rows, ensure_ascii=False).encode()


def as_csv(rows):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def arrow(rows):
    sink, table = io.BytesIO(), pa.Table.from_pylist(rows)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


FORMATS = {
    "rows.jsonl": jsonl,
    "rows.json": as_json,
    "rows.csv": as_csv,
    "rows.parquet": parquet,
    "rows.arrow": arrow,
    "rows.jsonl.gz": lambda rows: gzip.compress(jsonl(rows)),
    "rows.csv.gz": lambda rows: gzip.compress(as_csv(rows)),
}


def rows_of(pairs):
    return [{"id": f"r{n}", "prompt": a, "completion": b} for n, (a, b) in enumerate(pairs)]


@pytest.mark.parametrize("name", FORMATS)
@few
@given(pairs=ROWS)
def test_rows_are_what_was_written(tmp_path_factory, name, pairs):
    path = tmp_path_factory.mktemp("given") / name
    path.write_bytes(FORMATS[name](rows_of(pairs)))
    found = load_examples(str(path)).examples
    assert [(e.id, e.fields["prompt"], e.completion) for e in found] == [
        (f"r{n}", a, b) for n, (a, b) in enumerate(pairs)
    ]


SOME = rows_of([("2+2=", "4"), ("What is 3\n+4?", "seven"), ('\u00e9\u4e2d, "a"', "x, y")])
CHATS = [
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
    {"instruction": "Add.", "input": "2 3", "output": "5", "id": 7, "references": ["5", "five"]},
    {"question": "2+3", "answer": ["5"], "tools": [{"type": "function"}], "system": "Be brief."},
]


@pytest.mark.parametrize("name", FORMATS)
@few
@given(edits=EDITS)
def test_spoilt_data_files(tmp_path_factory, name, edits):
    path = tmp_path_factory.mktemp("given") / name
    path.write_bytes(edited(FORMATS[name](SOME), edits))
    found = read_or_refused(lambda: load_examples(str(path)), name)
    if found is not NOT_READ:
        assert all(isinstance(e.completion, str) and e.id for e in found.examples)


@pytest.mark.parametrize("row", CHATS, ids=lambda row: next(iter(row)))
@few
@given(edits=JSON_EDITS)
def test_rows_with_odd_values(tmp_path_factory, row, edits):
    folder = tmp_path_factory.mktemp("given")
    spoilt = json_edited([row, row], edits)
    for name, content in (
        ("rows.json", json.dumps(spoilt)),
        ("rows.jsonl", "\n".join(map(json.dumps, spoilt if isinstance(spoilt, list) else [1]))),
    ):
        (folder / name).write_text(content)
        read_or_refused(lambda name=name: load_examples(str(folder / name)), name)


@few
@given(columns=st.lists(st.sampled_from(["id", "prompt", "completion"]), unique=True, min_size=1),
       kinds=st.lists(st.sampled_from([
           pa.array([1.5, None]), pa.array([b"\xff", b"x"]), pa.array([[1], None]), pa.nulls(2),
           pa.array([{"a": 1}, None]), pa.array(["a", "b"]).dictionary_encode(),
           pa.array([True, False]), pa.array([10**18, 1], pa.timestamp("ns")),
           pa.array([["a"], []]), pa.array([1, 2], pa.decimal128(38, 2)),
       ]), min_size=3, max_size=3))  # fmt: skip
def test_columns_of_odd_types(tmp_path_factory, columns, kinds):
    folder = tmp_path_factory.mktemp("given")
    table = pa.table(dict(zip(columns, kinds, strict=False)))
    pq.write_table(table, folder / "rows.parquet")
    read_or_refused(lambda: load_examples(str(folder / "rows.parquet")), "rows.parquet")


SCORES = {"id": ["a", "b", "c"], "score": [1.0, 0.5, 2.5]}


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
@few
@given(edits=EDITS)
def test_spoilt_difficulty_files(tmp_path_factory, name, edits):
    path = tmp_path_factory.mktemp("given") / name
    rows = [dict(zip(SCORES, row, strict=True)) for row in zip(*SCORES.values(), strict=True)]
    whole = as_csv(rows) if name.endswith("csv") else parquet(rows)
    path.write_bytes(edited(whole, edits))
    found = read_or_refused(lambda: load_profile(path), name)
    if found is not NOT_READ:
        assert len(found.ids) == len(found.scores) and np.isfinite(found.scores).all()


@few
@given(ids=st.lists(st.text(max_size=5), max_size=4), scores=st.lists(st.floats(), max_size=4))
def test_difficulty_files_of_any_content(tmp_path_factory, ids, scores):
    path = tmp_path_factory.mktemp("given") / "scores.csv"
    path.write_bytes(
        as_csv([{"id": i, "score": s} for i, s in zip(ids, scores, strict=False)] or [{"id": ""}])
        .decode("utf-8", "replace").encode()
    )  # fmt: skip
    found = read_or_refused(lambda: load_profile(path), "scores.csv")
    if found is not NOT_READ:
        assert len(set(found.ids)) == len(found.ids) and np.isfinite(found.scores).all()


RECIPE = {
    "extends": "cpd",
    "name": "small",
    "student": {"model": "embedded:student"},
    "teacher": {"model": "embedded:teacher_strong"},
    "data": {"kind": "arithmetic", "train": 16, "validation": 2, "test": 2, "levels": [1, 2]},
    "curriculum": {"kind": "calibrated", "stages": 3},
    "loss": {"divergence": {"kind": "jsd", "jsd_beta": 0.5}, "ce_weight": {"kind": "linear"}},
    "evaluation": {"metrics": {"exact_match": {"after": "#"}}, "seeds": [1, 2]},
    "controls": {"sft": {"extends": "sft"}},
}
STUDY = {
    "name": "small",
    "base": "quickstart",
    "arms": {"kld": {"extends": "kld"}, "sft": {"extends": "sft"}},
    "factors": {"training.learning_rate": [1e-3, 1e-2]},
    "equal": {"updates": 6},
    "seeds": 2,
}


@pytest.mark.parametrize("what", ["recipe.yaml", "study.yaml"])
@few
@given(edits=EDITS)
@example(edits=[("insert", 0.0, b"? [a]\n: 1\n")])
@example(edits=[("insert", 0.0, b"!!python/object/apply:os.system ['true']\n")])
def test_spoilt_yaml(tmp_path_factory, what, edits):
    path = tmp_path_factory.mktemp("given") / what
    whole = yaml.safe_dump(RECIPE if what == "recipe.yaml" else STUDY)
    path.write_bytes(edited(whole.encode(), edits))
    read_or_refused(lambda: _load(path), what)


@pytest.mark.parametrize("what", ["recipe.yaml", "study.yaml"])
@few
@given(edits=JSON_EDITS)
@example(edits=[("value", 0.9375, 2**31)])
@example(edits=[("value", 0.9375, 2**63)])
def test_yaml_with_odd_values(tmp_path_factory, what, edits):
    path = tmp_path_factory.mktemp("given") / what
    spoilt = json_edited(RECIPE if what == "recipe.yaml" else STUDY, edits)
    # JSON is YAML, and has every one of the values; but for NaN, which YAML writes otherwise.
    path.write_text(json.dumps(spoilt).replace("NaN", ".nan").replace("Infinity", ".inf"))
    read_or_refused(lambda: _load(path), what)


def _load(path):
    if path.name == "study.yaml":
        return load_study(path)
    return load_recipe(path, partial=True)


@pytest.mark.slow
def test_many_more():
    """The properties of both files here, on other examples than those of every day."""
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", here],
        env={**os.environ, "TUTELAGE_FUZZ": os.environ.get("TUTELAGE_FUZZ", "400")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
