"""What is wrong with a recipe, its models and its data is said before anything is loaded."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from killing import make_models
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from conftest_models import tiny_model
from tutelage.checks import check_recipe
from tutelage.cli import app
from tutelage.errors import TutelageError
from tutelage.hashes import content_sha256
from tutelage.recipe import load_recipe

ROWS = [{"id": str(n), "prompt": f"{n}+1", "completion": str(n + 1), "level": n} for n in range(8)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two models of one family, one of another, and data."""
    home = tmp_path_factory.mktemp("home")
    make_models(home)
    words = Tokenizer(models.WordLevel({"<eos>": 0, "a": 1, "b": 2}, unk_token="a"))
    tiny_model(vocab=3).save_pretrained(home / "other")
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>").save_pretrained(
        home / "other"
    )
    tiny_model().save_pretrained(home / "wordless")
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (home / "talk.jsonl").write_text(
        json.dumps({"messages": [{"role": "user", "content": "1"},
                                 {"role": "assistant", "content": "2"}]}) + "\n"
    )  # fmt: skip
    (home / "gap.jsonl").write_text(json.dumps(ROWS[0]) + '\n{"prompt": "x"}\n')
    (home / "a file").write_text("")
    return home


def recipe(home, **changes):
    base = {
        "extends": "kld",
        "student": {"model": str(home / "student")},
        "teacher": {"model": str(home / "teacher")},
        "data": {"train": str(home / "rows.jsonl")},
        "output": str(home / "runs"),
        "training": {"batch_size": 4},
    }
    for path, value in changes.items():
        section, _, key = path.partition("__")
        if key:
            base[section] = {**base.get(section, {}), key: value}
        else:
            base[section] = value
    return base


def texts(home, run_dir=None, **changes):
    return [f.text for f in check_recipe(load_recipe(recipe(home, **changes)), run_dir).found]


def test_nothing_is_wrong(home):
    assert texts(home) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"student": {"model": "m" * 5000}}, "student.model: 'mmm"),
        ({"teacher": {"model": "m/" + "m" * 300}}, "teacher.model: 'm/mmm"),
        ({"student": {"model": "./nowhere"}}, "student.model: There is no folder './nowhere'"),
        ({"student": {"model": "embedded:nope"}}, "student.model: No embedded model is called"),
        ({"student": {"model": "x.gguf"}}, "student.model: There is no GGUF file 'x.gguf'"),
        ({"student": {"init_from": "TEACHER", "layers": 99}}, "student.layers: 99 layers cannot"),
        ({"loss": {"top_k": 99}}, "loss.top_k is 99, and the tokenizer has 19 tokens"),
        ({"evaluation": {"top_k": 20}}, "evaluation.top_k is 20"),
        ({"on_policy": {"top_k": 20}}, "on_policy.top_k is 20"),
        ({"teacher__layers": 99}, "teacher.layers: 99 layers cannot be kept of a model that has"),
        ({"teacher__model": "{home}/other"}, "teacher.model: .*different tokenizers.*text-le"),
        ({"teacher__model": "{home}/wordless"}, "teacher.model: .*tokenizer"),
        ({"teacher": {"model": "{home}/teacher", "signal": "topk", "top_k": 10_000}},
         "teacher.top_k: 10,000 tokens are to be kept of a vocabulary of"),
        ({"teacher__store": "{home}/a file"}, "teacher.store: .*is a file, and a folder is needed"),
        ({"training__lora": {"target_modules": ["q_proj", "v_prj"]}},
         r"target_modules names 'v_prj', and no layer.* Did you mean 'v_proj'.*up_proj"),
        ({"training__lora": {"target_modules": ".*attn"}}, r"names '\.\*attn', and no layer of"),
        ({"training__lora": {"target_modules": "*"}}, "is no regular expression"),
        ({"training__report_to": ["wandb"]}, "training.report_to: the tracker 'wandb' is not"),
        ({"data": {"train": "{home}/row.jsonl"}}, "data.train: .*Did you mean 'rows.jsonl'"),
        ({"data": {"train": "{home}/gap.jsonl"}}, "data.train: .*gap.jsonl', line 2: the column"),
        ({"data": {"train": ["{home}/rows.jsonl", {"path": "{home}/gap.jsonl"}]}},
         "data.train.1: .*gap.jsonl', line 2: the column"),
        ({"data": {"train": [{"path": "{home}/rows.jsonl", "split": "all"}]}},
         "data.train: .*a file without splits, so there is no 'all'"),
        ({"data": {"train": "{home}/a file"}}, "data.train: .*no known format"),
        ({"data__test": "{home}/no.csv"}, "data.test: .*no.csv' does not exist"),
        ({"data__columns": {"prompt": "pompt"}}, "data.train: .*Did you mean 'prompt'"),
        ({"data__template": "{{promt}}: "}, ".*field 'promt'.*Did you mean 'prompt'"),
        ({"data__template": "chat"}, "data.template is chat, .*tokenizer has no chat template"),
        ({"data": {"train": "{home}/talk.jsonl"}}, "data.train: the rows are conversations, but"),
        ({"difficulty": {"kind": "column", "name": "levl"}}, "difficulty: .*Did you mean 'level'"),
        ({"supervision": {"kind": "text", "prompt": "{{q}} {{prompt}}"}}, "n.prompt: .*'q'"),
        ({"curriculum": {"stages": 2, "passes": 1}, "controls": {"cpd": {"extends": "cpd"}}},
         "controls.cpd.curriculum.stages: 20 stages, but .* makes 6 at most"),
        ({"output": "{home}/a file"}, "output: .*is a file, and a folder is needed"),
        ({"output": "s3://bucket/runs"}, "output: 's3://bucket/runs' is an address"),
        ({"teacher__store": "nope://bucket/x"}, "teacher.store: 'nope://bucket/x': 'nope' is no k"),
        ({"output": "{home}/a file/below"}, "output: .*below .*a file', which is a file"),
        ({"output": "/proc/runs"}, "output: .*/proc/runs' is no place for files"),
        ({"output": "o" * 400}, "output: .*is too long for a path"),
        ({"output": "o/" * 2500}, "output: .*is too long for a path"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_each_thing_is_found_and_named(home, changes, words):
    def at_home(value):
        if isinstance(value, dict):
            return {key: at_home(child) for key, child in value.items()}
        if isinstance(value, list):
            return [at_home(child) for child in value]
        return value.format(home=home) if isinstance(value, str) else value

    (text,) = texts(home, **at_home(changes))
    assert re.search(words, text), text


@pytest.mark.parametrize("place", ["a file", "a file/below", "n" * 300])
def test_a_run_folder_that_cannot_be(home, place):
    (text,) = texts(home, run_dir=home / place)
    assert text.startswith("--run-dir: ")


def test_all_is_said_at_once_with_file_and_line(home, tmp_path):
    wrong = recipe(
        home,
        student={"init_from": "TEACHER", "layers": 99},
        data={"train": str(home / "rows.jsonl"), "test": "gone.jsonl"},
        training__report_to=["wandb"],
        output=str(home / "a file"),
    )
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(wrong, sort_keys=False))
    result = CliRunner().invoke(app, ["validate", str(path)])
    assert result.exit_code == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 4 and all(line.startswith(f"error: {path}:") for line in lines)
    as_json = CliRunner().invoke(app, ["validate", str(path), "--json"])
    described = json.loads(as_json.stdout)
    assert as_json.exit_code == 2 and described["valid"] is False
    keys = {problem["key"] for problem in described["problems"]}
    assert keys == {"student.layers", "data.test", "training.report_to", "output"}
    assert all(problem["origin"].startswith(str(path)) for problem in described["problems"])


def test_json_of_a_recipe_that_is_right_and_of_one_that_is_none(home, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe(home)))
    result = CliRunner().invoke(app, ["validate", str(path), "--json"])
    described = json.loads(result.stdout)
    assert result.exit_code == 0
    assert described["valid"] is True and described["arms"] == ["kld"]
    assert described["problems"] == []
    result = CliRunner().invoke(app, ["validate", str(path), "--json", "--set", "sed=1"])
    assert result.exit_code == 2
    assert "Did you mean 'seed'" in json.loads(result.stdout)["problems"][0]["message"]


@pytest.mark.parametrize("command", ["run", "show_plan", "cache", "profile"])
def test_a_start_that_fails_leaves_no_folder(home, tmp_path, command):
    from tutelage import pipeline

    wrong = recipe(home, output=str(tmp_path / "runs"), data={"train": str(home / "gap.jsonl")})
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(wrong))
    with pytest.raises(TutelageError, match=r"data.train: .*line 2"):
        getattr(pipeline, command)(str(path), run_dir=tmp_path / "here")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.yaml"]


def test_a_picture_of_scores_needs_a_place_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").write_text("")
    (tmp_path / "scores.csv").write_text("id,score\na,1\nb,2\n")
    words = ["plan", "cpd", "--difficulty", "scores.csv", "--set", "output=a file/below"]
    with pytest.raises(TutelageError, match=r"lies below .*a file', which is a file"):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_nor_does_one_that_fails_a_little_later(home, tmp_path):
    from tutelage import pipeline

    rows = "".join(json.dumps(row) + "\n" for row in ROWS * 10).replace('"id"', '"number"')
    (tmp_path / "late.jsonl").write_text(rows + "{]\n")
    wrong = recipe(
        home, output=str(tmp_path / "runs"), data={"train": str(tmp_path / "late.jsonl")}
    )
    with pytest.raises(TutelageError, match="line 81: not valid JSON"):
        pipeline.run(wrong)
    assert not (tmp_path / "runs").exists()


def test_a_look_needs_neither_torch_nor_transformers(home, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe(home, training__lora={"target_modules": ["q_proj"]})))
    code = (
        f"import sys; sys.argv = ['tutelage', 'validate', {str(path)!r}]\n"
        "from tutelage.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'accelerate', 'pandas', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_looked_at_is_said(home, tmp_path):
    path = tmp_path / "mine.yaml"
    changes = {
        "teacher": {"model": "somebody/model"},
        "data": {"train": "somebody/rows:main", "test": str(home / "rows.jsonl")},
    }
    path.write_text(yaml.safe_dump(recipe(home, **changes)))
    result = CliRunner().invoke(app, ["validate", str(path)])
    assert result.exit_code == 0
    said = [line for line in result.stdout.splitlines() if line.startswith("not looked at: ")]
    assert len(said) == 2
    assert "teacher.model: 'somebody/model' is not on this machine" in said[0]
    assert "data.train: 'somebody/rows:main' is no file here" in said[1]
    as_json = CliRunner().invoke(app, ["validate", str(path), "--json"])
    assert set(json.loads(as_json.stdout)["not_looked_at"]) == {"teacher.model", "data.train"}


def test_a_gguf_file_is_looked_at_once_it_was_unpacked(home, tmp_path, monkeypatch):
    """Its layers, its tokenizer and the names of its layers, in the folders of the conversion."""
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path))
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    wrong = {
        "teacher": {"model": str(file)},
        "student": {"init_from": "TEACHER", "layers": 99},
        "training__lora": {"target_modules": ["q_prj"]},
        "loss": {"top_k": 99},
    }
    seen = check_recipe(load_recipe(recipe(home, **wrong)))
    assert seen.found == []
    assert list(seen.not_seen) == ["teacher.model"]
    unpacked = tmp_path / "gguf" / content_sha256(file)[:16]
    shutil.copytree(home / "teacher", unpacked / "float32")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (unpacked / "tokenizer").mkdir(exist_ok=True)
        shutil.move(unpacked / "float32" / name, unpacked / "tokenizer" / name)
    seen = check_recipe(load_recipe(recipe(home, **wrong)))
    assert seen.not_seen == {}
    keys = [finding.key for finding in seen.found]
    assert keys == ["student.layers", "loss.top_k", "training.lora.target_modules"]
    assert all(finding.text.count(finding.key) == 1 for finding in seen.found)
