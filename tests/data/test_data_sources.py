"""Several sources as one data set: all of their rows, or as many as their weights allow."""

import json

import datasets
import numpy as np
import pytest

from tutelage.data import load_examples
from tutelage.data.sources import Source, shares
from tutelage.errors import ConfigError, DataError, TutelageError
from tutelage.hashes import content_sha256
from tutelage.ids import Ids
from tutelage.pipeline.context.identity import sources_identity
from tutelage.pipeline.stages.data import read_splits, source_notes
from tutelage.recipe import load_recipe


def written(path, count, first=0, **columns):
    """A file of different rows, with ids that say where they are from."""
    rows = [
        {"id": f"{path.stem} {n}", "prompt": f"{path.stem} {n}?", "completion": str(n), **columns}
        for n in range(first, first + count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def files(tmp_path):
    """Three files, of 30, 20 and 10 rows."""
    return [written(tmp_path / f"{name}.jsonl", n) for name, n in (("a", 30), ("b", 20), ("c", 10))]


def weighted(files, *weights):
    return [Source(file, weight) for file, weight in zip(files, weights, strict=True)]


def places(loaded, name):
    """Which rows of a source were taken."""
    return [int(i.split()[1]) for i in loaded.ids if i.split()[0] == name]


def test_without_weights_all_rows_come_in_the_order_given(files):
    alone = [list(load_examples(file).examples) for file in files]
    loaded = load_examples([Source(files[1]), Source(files[0])])
    assert list(loaded.examples) == alone[1] + alone[0]
    assert [(one["had"], one["given"]) for one in loaded.by_source()] == [(20, 20), (30, 30)]
    assert load_examples([Source(files[0])]) == load_examples(files[0])
    assert load_examples(files[0]).by_source() == []


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        ((3, 2, 1), (30, 20, 10)),
        ((1, 1, 1), (10, 10, 10)),
        ((0.1, 0.7, 0.1), (2, 20, 2)),
        ((0.3, 0.2, 0.1), (30, 20, 10)),  # in binary these are no such proportions
        ((100, 1, 1), (30, 0, 0)),
    ],
)
def test_the_proportions_are_exact_and_nothing_more_fits(weights, counts):
    sources = weighted("abc", *weights)
    if not all(counts):
        with pytest.raises(DataError, match=r"none of the 20 examples of 'b'.*'a' has 30 for"):
            shares(sources, (30, 20, 10))
        return
    assert shares(sources, (30, 20, 10)) == list(counts)


def test_weights_draw_with_a_seed_and_keep_the_order_of_the_files(files):
    sources = weighted(files, 1, 1, 1)
    loaded = load_examples(sources, seed=3)
    taken = [places(loaded, name) for name in "abc"]
    assert [len(found) for found in taken] == [10, 10, 10] and taken[2] == list(range(10))
    assert all(found == sorted(set(found)) for found in taken)
    assert [i.split()[0] for i in loaded.ids] == sorted("abc" * 10)
    assert load_examples(sources, seed=3) == loaded
    assert load_examples(sources, seed=4).ids != loaded.ids


def test_sources_of_one_length_are_drawn_apart(tmp_path):
    files = [written(tmp_path / f"{name}.jsonl", n) for name, n in (("a", 40), ("b", 40), ("c", 9))]
    loaded = load_examples(weighted(files, 1, 1, 1))
    assert places(loaded, "a") != places(loaded, "b")


def test_a_limit_and_a_share_are_of_the_whole(files, tmp_path):
    loaded = load_examples(weighted(files, 2, 1, 1), limit=8)
    assert len(loaded.examples) == 8
    assert [one["had"] for one in loaded.by_source()] == [30, 20, 10]
    assert sum(one["given"] for one in loaded.by_source()) == 8
    listed = [{"path": file, "weight": 1} for file in files]
    splits = read_splits(recipe(train=listed, validation_share=0.5))
    given = {split: [one["given"] for one in found.by_source()] for split, found in splits.items()}
    assert (np.array(given["train"]) + given["validation"]).tolist() == [10, 10, 10]
    assert not set(splits["train"].ids) & set(splits["validation"].ids)


def test_what_each_source_gave_is_counted_and_said(files):
    loaded = load_examples(weighted(files, 1, 1, 1))
    kept = Ids([i for i in loaded.ids if not i.startswith("b") or i.endswith("1")])
    counted = loaded.by_source(kept)
    left = len([n for n in places(loaded, "b") if n % 10 == 1])
    assert [one["kept"] for one in counted] == [10, left, 10]
    lines = source_notes({"sources": counted})
    assert lines[0] == f"10 of 30 examples of {files[0]}, weight 1"
    assert lines[1].endswith(f"b.jsonl, weight 1, of which {10 - left} are dropped")


def test_a_group_is_for_rows_that_have_none(tmp_path):
    bare = written(tmp_path / "a.jsonl", 2)
    labelled = written(tmp_path / "b.jsonl", 2, task="own")
    loaded = load_examples([Source(bare, group="one"), Source(labelled, group="other")])
    assert [example.group for example in loaded.examples] == ["one", "one", "own", "own"]


def test_shapes_may_differ_between_sources(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    sources = [Source(written(tmp_path / "a.jsonl", 1)), Source(str(tmp_path / "b.jsonl"))]
    assert [set(e.fields) for e in load_examples(sources).examples] == [{"prompt"}, {"question"}]


def test_one_id_in_two_sources_is_refused_with_both_places(files):
    other = written_like(files[0])
    with pytest.raises(DataError, match=r"other\.jsonl', line 1: the id 'a 0'.*a\.jsonl', line 1"):
        load_examples([Source(files[0]), Source(other)])


def written_like(path):
    other = path.replace("a.jsonl", "other.jsonl")
    with open(path) as source, open(other, "w") as target:
        target.write(source.read().replace("?", "!"))
    return other


def test_copies_without_ids_count_for_the_first_source(tmp_path):
    rows = [{"prompt": str(n), "completion": "c"} for n in range(6)]
    for name, part in (("a", rows[:4]), ("b", rows[2:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    files = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    loaded = load_examples(weighted(files, 2, 1))
    assert [(one["had"], one["given"]) for one in loaded.by_source()] == [(4, 4), (2, 2)]
    assert [d.where for d in loaded.duplicates] == [f"'{files[1]}', line {n}" for n in (1, 2)]
    (tmp_path / "b.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert [one["had"] for one in load_examples([Source(f) for f in files]).by_source()] == [4, 0]
    with pytest.raises(DataError, match=r"b\.jsonl' has no example that is not in a source before"):
        load_examples(weighted(files, 2, 1))


def test_many_rows_on_disk_are_mixed_alike(files, tmp_path, monkeypatch):
    whole = load_examples(weighted(files, 1, 2, 1), limit=12)
    monkeypatch.setattr("tutelage.data.spool.IN_MEMORY", 0)
    monkeypatch.setattr("tutelage.data.loaded.ROWS_AT_ONCE", 7)
    parts = load_examples(weighted(files, 1, 2, 1), limit=12, folder=tmp_path)
    assert parts == whole and parts.by_source() == whole.by_source()


def test_a_source_may_name_its_split(tmp_path, files):
    rows = {"prompt": ["p", "q"], "completion": ["c", "d"]}
    data = datasets.Dataset.from_dict(rows)
    saved = datasets.DatasetDict({"train": data, "extra": data.select([1])})
    saved.save_to_disk(tmp_path / "saved")
    folder = str(tmp_path / "saved")
    loaded = load_examples([Source(files[2]), Source(folder, split="extra")])
    assert [example.completion for example in loaded.examples[10:]] == ["d"]
    assert loaded.by_source()[1]["source"] == f"{folder} (extra)"
    with pytest.raises(DataError, match=r"c\.jsonl' is a file without splits, so there is no 'x'"):
        load_examples([Source(files[2], split="x")])


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_from_python_are_checked_too(files, weight):
    with pytest.raises(ConfigError, match="must be greater than 0"):
        load_examples(weighted(files[:2], 1.0, weight))


def test_a_source_without_rows_is_named(files, tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(DataError, match=r"none\.jsonl"):
        load_examples([Source(files[0]), Source(str(tmp_path / "none.jsonl"))])


def recipe(**data):
    models = {"student": {"model": "embedded:arithmetic-student"}}
    return load_recipe({"extends": "sft", **models, "data": data}).recipe


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([], "data.train: there is no source in the list"),
        ({"path": "a"}, "data.train: must be a list, not a mapping"),
        (["a", 5], "data.train.1: must be a mapping"),
        ([{"path": "a", "weight": 1}, "b"], "data.train: 'a' has a weight and 'b' has none"),
        ([{"path": "a", "weight": 0}], "data.train.0.weight: must be greater than 0, not 0"),
        ([{"path": "a", "weight": "2"}], "data.train.0.weight: must be a number"),
        ([{"path": "a", "weigth": 1}], "'data.train.0.weigth'. Did you mean 'weight'?"),
        ([{"weight": 1}], "data.train.0.path: is missing. It means: A file"),
        (["a", "a"], "data.train: the source 'a' is named twice"),
    ],
)
def test_what_does_not_fit_is_said_in_one_message(train, message):
    with pytest.raises(TutelageError) as error:
        recipe(train=train)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_recipe_names_sources_beside_it(files, tmp_path):
    file = tmp_path / "mixed.yaml"
    file.write_text(
        "extends: sft\nstudent: {model: embedded:arithmetic-student}\n"
        "data: {train: [a.jsonl, {path: b.jsonl, group: B}], test: [c.jsonl]}\n"
    )
    data = load_recipe(file).recipe.data
    assert data.sources("train") == (Source(files[0]), Source(files[1], group="B"))
    assert data.model_dump(mode="json")["train"] == [files[0], {"path": files[1], "group": "B"}]
    assert data.named("test") == files[2] and data.sources("validation") == ()


def test_one_source_is_identified_as_before_there_were_lists(files):
    before = {"format": ".jsonl", "sha256": content_sha256(files[0])}
    assert sources_identity(recipe(train=files[0]).data.sources("train")) == before
    assert sources_identity([Source(files[0], weight=2)]) == before
    other = {"format": ".jsonl", "sha256": content_sha256(files[1])}
    several = sources_identity(weighted(files[:2], 2, 1))
    assert several == [{**before, "weight": 2}, {**other, "weight": 1}]
    assert sources_identity([Source(files[0], group="g"), Source("hub", split="s")]) == [
        {**before, "group": "g"},
        {"format": "", "name": "hub", "split": "s"},
    ]
