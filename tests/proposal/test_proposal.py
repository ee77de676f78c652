"""A recipe from models and data that nobody described: valid, explained, and carried out."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from conftest_models import tiny_model
from tutelage.cli import app, prepare
from tutelage.data.arithmetic import arithmetic_examples
from tutelage.errors import ConfigError, DataError
from tutelage.models import load_model, load_tokenizer
from tutelage.proposal import look, propose, recipe_text
from tutelage.proposal.choose import fitting, learning_rate
from tutelage.proposal.columns import look_at_columns
from tutelage.recipe import list_recipes, load_recipe


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The models and the data of the embedded task as plain folders and files."""
    home = tmp_path_factory.mktemp("home")
    for name, folder in (("strong", "large"), ("student", "small")):
        place = f"embedded:arithmetic-{name}"
        load_model(place).save_pretrained(home / folder)
        load_tokenizer(place).save_pretrained(home / folder)
    foreign = load_tokenizer("embedded:lists-student")
    tiny_model(vocab=len(foreign)).save_pretrained(home / "foreign")
    foreign.save_pretrained(home / "foreign")
    examples = arithmetic_examples("train", 80)
    rows = [{"prompt": e.fields["prompt"], "completion": e.completion} for e in examples]
    (home / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home


def command(*words):
    result = CliRunner().invoke(app, list(words))
    error = result.exception
    text = result.output + ("" if isinstance(error, SystemExit | None) else str(error))
    return result, text


def init(home, *words, data="answers.jsonl", student=("--student", "small")):
    return command(
        "init", str(home / "mine.yaml"), "--teacher", str(home / "large"), student[0],
        student[1] if student[0] == "--layers" else str(home / student[1]),
        "--data", str(home / data), "--quiet", *words,
    )  # fmt: skip


def test_a_recipe_is_written_and_every_next_command_passes(home, monkeypatch):
    monkeypatch.chdir(home)
    result, said = init(home, "--yes")
    assert result.exit_code == 0, said
    text = (home / "mine.yaml").read_text()
    values = yaml.safe_load(text)
    assert values["extends"] == "kld_states" and values["teacher"]["model"] == "./large"
    assert values["data"]["max_length"] >= 60 and values["evaluation"]["metrics"] == {"number": {}}
    lines = text.splitlines()
    keys = [n for n, line in enumerate(lines) if line.strip() and not line.strip().startswith("#")]
    explained = [n for n in keys if ": " in lines[n]]
    assert all(lines[n - 1].strip().startswith("#") for n in explained)
    commands = [line.strip().split() for line in said.splitlines() if line.startswith("  tutelage")]
    assert [words[1] for words in commands] == ["doctor", "plan", "run"]
    small = ["--set", "training.num_threads=1", "--set", "curriculum.stages=2"]
    result, found = command("validate", "mine.yaml")
    assert result.exit_code == 0, found
    result, found = command("doctor", "mine.yaml", "--sample", "8", "--quiet", *small)
    assert result.exit_code == 0, found
    result, found = command("plan", "mine.yaml", "--quiet", *small)
    assert (result.exit_code == 0 and "updates" in found) or "steps" in found, found
    assert not [p for p in home.iterdir() if p.name.startswith(".")]


def test_a_recipe_that_is_there_is_never_lost(home, tmp_path, monkeypatch):
    path = tmp_path / "mine.yaml"
    path.write_text("mine\n")
    words = ["init", str(path), "--teacher", str(home / "large"), "--layers", "2", "--data",
             str(home / "answers.jsonl"), "--quiet"]  # fmt: skip
    result, said = command(*words, "--yes")
    assert result.exit_code != 0 and "--force" in said and path.read_text() == "mine\n"
    result, said = command(*words, "--yes", "--force", "--json")
    assert result.exit_code == 0, said
    listed = {s["key"]: s["value"] for s in json.loads(result.stdout)["settings"]}
    assert (listed["student.init_from"], listed["student.layers"]) == ("TEACHER", 2)
    assert load_recipe(str(path)).recipe.student.layers == 2


def test_a_terminal_is_asked_for_what_is_missing(home, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "_can_ask", lambda: True)
    path = tmp_path / "new" / "mine.yaml"
    answers = [str(home / "large"), "3 layers", str(home / "answers.jsonl"), "y"]
    result = CliRunner().invoke(
        app, ["init", str(path), "--quiet"], input="\n".join(answers) + "\n"
    )
    assert result.exit_code == 0, result.output
    assert yaml.safe_load(path.read_text())["student"]["layers"] == 3
    answers = ["n"]
    before = path.read_text()
    result = CliRunner().invoke(
        app, ["init", str(path), "--teacher", "x", "--layers", "1", "--data", "y"], input="n\n"
    )
    assert isinstance(result.exception, OSError) and path.read_text() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--teacher, --student or --layers, --data is missing"),
        (["--teacher", "./no", "--layers", "2", "--data", "a.jsonl"], "no folder './no'"),
        (["--teacher", "T", "--student", "T", "--data", "./no.jsonl"], "does not exist"),
        (["--teacher", "T", "--layers", "9", "--data", "D"], "layers"),
        (["--teacher", "T", "--student", "T", "--layers", "2", "--data", "D"], "--layers N"),
        (["--teacher", "T", "--layers", "2", "--data", "D", "--method", "kdl"], "Did you mean"),
        (["--teacher", "T", "--layers", "2", "--data", "D", "--method", "quickstart"], "Unknown"),
    ],
)
def test_mistakes_are_one_message_and_leave_nothing(home, tmp_path, words, said):
    places = {"T": str(home / "large"), "D": str(home / "answers.jsonl")}
    words = [places.get(word, word) for word in words]
    result, text = command("init", str(tmp_path / "deep" / "mine.yaml"), "--yes", "-q", *words)
    assert result.exit_code != 0 and said in text and "Traceback" not in text
    assert not list(tmp_path.iterdir())


FORMS = {
    "a.jsonl": ([{"prompt": "1+2?", "completion": "1+2=3#3"}] * 2, "prompt + completion", {}),
    "b.jsonl": (
        [{"messages": [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "2"}]}],
        "messages",
        {},
    ),
    "c.jsonl": ([{"instruction": "1?", "input": "", "output": "2"}], "instruction + output", {}),
    "d.jsonl": ([{"question": "1?", "answer": ["2", "3"]}], "question + answer", {}),
    "e.jsonl": (
        [{"conversations": [{"from": "human", "value": "1"}, {"from": "gpt", "value": "2"}]}],
        "conversations",
        {},
    ),
    "f.jsonl": (
        [{"Problem": "1?", "solution": "2", "source": "x"}],
        "Problem + solution",
        {"prompt": "Problem", "completion": "solution"},
    ),
    "g.json": ([{"text": "1?", "label": "2"}], "text + label",
               {"prompt": "text", "completion": "label"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_data_in_each_form(home, tmp_path, name):
    rows, shape, columns = FORMS[name]
    path = tmp_path / name
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(json.dumps(rows) if name.endswith(".json") else lines)
    if shape in ("messages", "conversations"):
        with pytest.raises(ConfigError, match="no chat template"):
            look(str(home / "large"), str(home / "small"), None, str(path))
        return
    seen = look(str(home / "large"), str(home / "small"), None, str(path)).data
    assert (seen.shape, dict(seen.columns), seen.rows) == (shape, columns, 1)
    assert seen.form == path.suffix and seen.copies == len(rows) - 1


def test_tables(home, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.csv").write_text("query;response\n1?;2\n3?;4\n")
    names = look_at_columns(str(tmp_path / "a.csv")).names
    assert names == {"prompt": "query", "completion": "response"}
    table = pa.table({"question": ["1?", "2?"], "answer": ["1#1", "2#2"]})
    pq.write_table(table, tmp_path / "a.parquet")
    seen = look(str(home / "large"), str(home / "small"), None, str(tmp_path / "a.parquet"))
    assert seen.data.metric is not None and seen.data.metric[0] == "number"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no rows"),
        ('{"prompt": "1", "completion": ""}\n', "is empty"),
        ('{"a": "1", "b": "2"}\n', "data.columns"),
        ("{'prompt': '1'}\n", "double quotes"),
        ('{"prompt": "1", "completion": "2"}\n{"prompt": "3"}\n', "line 2"),
    ],
)
def test_broken_data_is_named(home, tmp_path, content, words):
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=words):
        look(str(home / "large"), str(home / "small"), None, str(path))


def test_several_files_are_a_list_each_with_its_columns(home, tmp_path):
    rows = [json.loads(line) for line in (home / "answers.jsonl").read_text().splitlines()]
    for name, part, names in (
        ("a", rows[:30], ("prompt", "completion")),
        ("b", rows[30:60], ("query", "response")),
        ("test", rows[60:], ("query", "response")),
    ):
        renamed = [dict(zip(names, row.values(), strict=True)) for row in part]
        lines = "".join(json.dumps(row) + "\n" for row in renamed)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    path = tmp_path / "mine.yaml"
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("a", "b", "test")}
    words = ["init", str(path), "--teacher", str(home / "large"), "--layers", "2", "--quiet"]
    result, said = command(
        *words, "--data", files["a"], "--data", files["b"], "--test", files["test"], "--yes"
    )
    assert result.exit_code == 0, said
    other = {"prompt": "query", "completion": "response"}
    data = yaml.safe_load(path.read_text())["data"]
    assert data["train"] == ["./a.jsonl", {"path": "./b.jsonl", "columns": other}]
    assert data["test"] == [{"path": "./test.jsonl", "columns": other}] and "columns" not in data
    assert "prompt + completion and query + response" in path.read_text()
    # What the first one calls its columns holds for all, and the usual names are said of others.
    seen = look(str(home / "large"), None, 2, [files["b"], files["a"]], test=files["test"]).data
    assert seen.columns == other and seen.test.columns is None
    assert [one.columns for one in seen.train] == [None, {}] and seen.rows == 60


def test_models_of_other_tokens_are_taught_by_text(home, tmp_path):
    seen = look(str(home / "large"), str(home / "foreign"), None, str(home / "answers.jsonl"))
    settings = {s.key: s.value for s in propose(seen)}
    assert settings["extends"] == "seqkd" and settings["supervision.on_wrong"] == "drop"
    result, said = init(home, "--yes", "--force", student=("--student", "foreign"))
    assert result.exit_code == 0, said


def test_what_does_not_fit_is_made_to_fit(home):
    seen = look(str(home / "large"), None, 3, str(home / "answers.jsonl"))
    roomy, tight, least = (fitting(seen, "float32", 64, there) for there in (None, 30e6, 14e6))
    assert (roomy.micro, roomy.checkpointing, roomy.lora) == (64, False, False)
    assert tight.micro < 64 and not tight.lora
    assert least.checkpointing and (least.lora or least.micro < 64)
    nothing = fitting(seen, "float32", 64, 1_000)
    assert nothing.lora and "docs/scale.md" in nothing.reason


def test_rates_are_those_of_the_studies_where_there_are_some():
    assert learning_rate(100_000) == 8e-3 and learning_rate(60_000_000) == 9e-4
    rates = [learning_rate(int(n)) for n in (1e5, 1e6, 1e8, 1e9, 7e9)]
    assert rates == sorted(rates, reverse=True) and rates[-1] == 2e-5


def test_what_would_not_run_is_not_written(home, tmp_path, monkeypatch):
    import tutelage.proposal as proposal
    from tutelage.proposal.choose import Setting

    def proposed(seen, method):
        return [*propose(seen, method), Setting("training.lora.target_modules", ["nope"], "wrong")]

    monkeypatch.setattr(proposal, "propose", proposed)
    result, said = command("init", str(tmp_path / "a" / "mine.yaml"), "--yes", "-q", "--teacher",
                           str(home / "large"), "--layers", "2", "--data",
                           str(home / "answers.jsonl"))  # fmt: skip
    assert result.exit_code != 0 and "No recipe was written" in said and "nope" in said
    assert not list(tmp_path.iterdir())


def test_every_method_makes_a_valid_recipe(home, tmp_path):
    seen = look(str(home / "large"), str(home / "small"), None, str(home / "answers.jsonl"))
    path = tmp_path / "mine.yaml"
    for one in list_recipes():
        if one.kind == "method":
            path.write_text(recipe_text(propose(seen, one.name), tmp_path))
            assert load_recipe(str(path)).recipe.data.train == str(home / "answers.jsonl")


def test_texts_beyond_the_positions_leave_room_for_an_answer(home, tmp_path):
    """The embedded models read 128 tokens."""
    path = tmp_path / "long.jsonl"
    rows = [{"prompt": "1+" * n + "1?", "completion": "#" + "1" * n} for n in range(60, 99)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = look(str(home / "large"), str(home / "small"), None, str(path))
    found = {s.key: s for s in propose(seen)}
    assert (found["data.max_length"].value, found["data.max_prompt_length"].value) == (128, 64)
    assert found["evaluation.max_new_tokens"].value == 64
    assert "128 positions" in found["data.max_length"].reason
