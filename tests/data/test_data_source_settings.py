"""What a source may say for itself, and data sets of the hub that are read as they come."""

import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.data import load_examples
from tutelage.data.asking import PromptFormat
from tutelage.data.chat import chat_messages
from tutelage.data.format import render
from tutelage.data.kept import read_examples, write_examples
from tutelage.data.sources import Source
from tutelage.errors import ConfigError, DataError
from tutelage.pipeline.context.identity import sources_identity
from tutelage.recipe import load_recipe


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def plain(tmp_path):
    return written(tmp_path / "plain.jsonl", {"prompt": "p", "completion": "c"})


@pytest.fixture
def other(tmp_path):
    """A file that calls its columns otherwise, and has ones of the usual names beside them."""
    row = {"text": "t", "code": "k", "prompt": "not this", "completion": "nor this"}
    return written(tmp_path / "other.jsonl", row)


def asked(loaded):
    return [(example.fields["prompt"], example.completion) for example in loaded.examples]


def test_each_source_may_name_its_columns(plain, other):
    names = {"prompt": "text", "completion": "code"}
    assert asked(load_examples([Source(plain), Source(other, columns=names)])) == [
        ("p", "c"),
        ("t", "k"),
    ]
    # What a source does not say comes from the data; none of its own is said by {}.
    assert asked(load_examples([Source(other), Source(plain, columns={})], names=names)) == [
        ("t", "k"),
        ("p", "c"),
    ]
    with pytest.raises(DataError, match=r"no column 'text'.*\(data\.columns\)\. The columns are p"):
        load_examples([Source(plain)], names=names)
    with pytest.raises(DataError, match=r"'txt'.*`prompt` \(`columns` of '.*other\.jsonl'\)\. Did"):
        load_examples([Source(plain), Source(other, columns={"prompt": "txt"})])
    with pytest.raises(ConfigError, match=r"column of an example 'promt'. Did you mean 'prompt'"):
        load_examples([Source(other, columns={"promt": "text"})])


def test_a_source_may_have_a_system_text(plain, other, tmp_path):
    sources = [Source(plain, system="Short."), Source(other), Source(tmp_chat(tmp_path), system="")]
    loaded = load_examples(sources)
    short, general, own = loaded.examples
    assert render(short, "plain", None, "General.").prompt == "Short.\n\np"
    assert render(general, "plain", None, "General.").prompt == "General.\n\nnot this"
    assert [turn.role for turn in chat_messages(short, "General.")] == ["system", *TURNS]
    assert [turn.role for turn in chat_messages(own, "General.")] == TURNS
    assert PromptFormat.of_data(short, system="General.").system == "Short."
    assert PromptFormat.of_data(own, system="General.").system is None
    # It is kept beside the tokens, and examples without one are kept as they always were.
    file = tmp_path / "kept.parquet"
    write_examples(file, loaded.examples)
    assert list(read_examples(file)) == list(loaded.examples)
    texts = pq.read_table(file)["example"].to_pylist()
    assert ["system" in json.loads(text) for text in texts] == [True, False, True]


TURNS = ["user", "assistant"]


def tmp_chat(folder):
    turns = [{"role": role, "content": role} for role in TURNS]
    return written(folder / "chat.jsonl", {"messages": turns})


def test_a_system_text_makes_another_example_and_no_copy(plain, tmp_path):
    again = written(tmp_path / "again.jsonl", {"prompt": "p", "completion": "c"})
    alone, copies = load_examples(plain), load_examples([Source(plain), Source(again)])
    assert list(copies.ids) == list(alone.ids) and copies.num_left_out == 1
    told = load_examples([Source(plain), Source(again, system="Short.")])
    assert told.ids[0] == alone.ids[0] != told.ids[1] and not told.duplicates


def test_what_a_source_says_counts_where_it_is_said(plain):
    before = sources_identity([Source(plain)])
    assert set(before) == {"format", "sha256"}
    said = {"columns": {"prompt": "text"}, "system": "", "name": "en", "revision": "v1", "first": 5}
    for name, value in said.items():
        assert sources_identity([Source(plain, **{name: value})]) == {**before, name: value}


def recipe(**data):
    models = {"student": {"model": "embedded:arithmetic-student"}}
    return load_recipe({"extends": "sft", **models, "data": data})


def test_a_recipe_says_it_and_stays_the_same_where_it_does_not(plain, other):
    one = {"path": other, "columns": {"prompt": "text"}, "system": "S", "first": 3}
    data = recipe(train=[plain, one]).recipe.data
    assert data.sources("train")[1] == Source(
        other, columns={"prompt": "text"}, system="S", first=3
    )
    assert data.model_dump(mode="json")["train"] == [plain, one]
    hub = {"path": "org/set", "name": "en", "revision": "v1", "split": "sft"}
    assert recipe(train=[hub]).recipe.data.named("train") == "org/set@v1:en (sft)"
    with pytest.raises(ConfigError, match=r"data\.train\.0\.columns\.promt"):
        recipe(train=[{"path": plain, "columns": {"promt": "text"}}])
    with pytest.raises(ConfigError, match="'org/set:en' is named twice"):
        recipe(train=["org/set:en", {"path": "org/set", "name": "en"}])


def test_only_the_first_rows_are_read(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"prompt": "1", "completion": "1"}\n{"prompt": "2", "completion": "2"}\n{"cut')
    assert asked(load_examples([Source(str(file), first=2)])) == [("1", "1"), ("2", "2")]
    with pytest.raises(DataError, match=r"line 3: not valid JSON"):
        load_examples([Source(str(file), first=3)])
    with pytest.raises(ConfigError, match=r"`first` of .* must be at least 1, not 0"):
        load_examples([Source(str(file), first=0)])


@pytest.fixture
def hub_folder(tmp_path):
    """Two configs in a folder as a repository of the hub has them; one of another name."""
    for config, count in (("de", 3), ("en", 5)):
        folder = tmp_path / "set" / config
        folder.mkdir(parents=True)
        columns = {"prompt": [f"{config} {n}" for n in range(count)], "completion": ["c"] * count}
        pq.write_table(pa.table(columns), folder / "train-00000-of-00001.parquet")
    (tmp_path / "set" / "README.md").write_text(
        "---\nconfigs:\n"
        + "".join(
            f"- config_name: {name}\n  data_files:\n  - {{split: train, path: {name}/train-*}}\n"
            for name in ("de", "en")
        )
        + "---\n"
    )
    return str(tmp_path / "set")


def test_a_config_of_a_folder_is_streamed(hub_folder, plain):
    loaded = load_examples([Source(hub_folder, name="de"), Source(hub_folder, name="en", first=2)])
    assert [example.fields["prompt"] for example in loaded.examples] == [
        *(f"de {n}" for n in range(3)),
        *(f"en {n}" for n in range(2)),
    ]
    with pytest.raises(DataError, match=r"\(config 'fr', split 'train'\) cannot be loaded: .*'fr'"):
        load_examples([Source(hub_folder, name="fr")])
    with pytest.raises(DataError, match=r"split 'test'\) cannot be loaded: Bad split: test"):
        load_examples([Source(hub_folder, name="en", split="test")])
    with pytest.raises(DataError, match="is a file without configs, so there is no 'de' in it"):
        load_examples([Source(plain, name="de")])
    with pytest.raises(DataError, match="where there is no revision 'v1' of it"):
        load_examples([Source(hub_folder, revision="v1")])


def streamed(monkeypatch, rows):
    """A hub whose data set is a generator; how often it was asked for."""
    calls = []

    def load(*args, **options):
        calls.append((args, options))
        return datasets.IterableDataset.from_generator(rows)

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def test_no_more_is_taken_from_the_hub_than_is_wanted(monkeypatch):
    taken = []

    def rows():
        for number in range(10**9):
            taken.append(number)
            yield {"prompt": str(number), "completion": "c", "picture": b"not looked at"}

    calls = streamed(monkeypatch, rows)
    loaded = load_examples([Source("org/set", name="en", revision="v1", first=10)], split="test")
    assert len(loaded.examples) == 10 and max(taken) < 12 and len(calls) == 1
    assert calls == [(("org/set", "en"), {"split": "test", "streaming": True, "revision": "v1"})]
    with pytest.raises(ConfigError, match=r"names the config 'de', and `name` the config 'en'"):
        load_examples([Source("org/set:de", name="en")])


def test_a_connection_that_breaks_is_said_with_the_row(monkeypatch):
    def rows():
        yield {"prompt": "1", "completion": "c"}
        raise ConnectionError("reset by peer")

    streamed(monkeypatch, rows)
    with pytest.raises(DataError, match=r"'org/set', after row 1: .*reset by peer\. Check the net"):
        load_examples("org/set")


def test_many_streamed_rows_wait_on_disk(monkeypatch, tmp_path):
    streamed(monkeypatch, lambda: ({"prompt": f"{n}?", "completion": str(n)} for n in range(300)))
    whole = load_examples("org/set", limit=20)
    monkeypatch.setattr("tutelage.data.spool.IN_MEMORY", 0)
    assert load_examples("org/set", limit=20, folder=tmp_path) == whole
