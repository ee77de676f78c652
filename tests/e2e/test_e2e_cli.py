"""The command line as a user meets it: results on stdout, one clear message and exit code 2."""

import errno
import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from killing import make_models, small_recipe

from conftest_models import tiny_model
from conftest_pictures import leave_out_pictures
from tutelage.errors import RunFolderError
from tutelage.files import atomic_directory, atomic_write_text, disk_errors


def tutelage(capsys, *arguments):
    """Run a command in this process; its exit code, stdout and stderr."""
    from tutelage.cli import main

    before = sys.argv
    sys.argv = ["tutelage", *map(str, arguments)]
    try:
        main()
        code = 0
    except SystemExit as exit_:
        code = exit_.code or 0
    finally:
        sys.argv = before
    output = capsys.readouterr()
    return code, output.out, output.err


@pytest.fixture
def recipe_file(tmp_path):
    """A small run; the function writes it with changes and gives its path."""
    make_models(tmp_path)

    def write(**changes):
        recipe = small_recipe(tmp_path)
        for section, values in changes.items():
            if isinstance(values, dict) and "kind" not in values:
                recipe[section] = {**recipe.get(section, {}), **values}
            else:
                recipe[section] = values
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        return path

    return write


def test_from_plan_to_report(pictures, monkeypatch, capsys, tmp_path, recipe_file):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = recipe_file()
    code, out, _ = tutelage(capsys, "plan", path, "--json")
    plan = json.loads(out)
    assert code == 0 and plan["recipe"] == "small"
    keys = {"recipe", "fingerprint", "num_examples", "total_steps", "baseline_steps"}
    keys |= {"stages", "exposure"}
    assert keys <= set(plan)
    assert plan["num_examples"] == 40 and len(plan["stages"]) == 3 and len(plan["exposure"]) == 10
    assert sum(stage["steps"] for stage in plan["stages"]) == plan["total_steps"]
    assert plan["cost"]["tokens"] > 0

    code, out, _ = tutelage(capsys, "profile", path, "--json")
    assert code == 0 and json.loads(out)["num_examples"] == 40

    code, out, err = tutelage(capsys, "run", path)
    assert code == 0, err
    folder = next((tmp_path / "runs").glob("small-*"))
    page = (folder / "report.html").read_text()
    assert str(folder / "report.html") in out
    assert "<h1" in page and "http-equiv" in page
    for arm in ("cpd", "sft"):
        assert (folder / f"arms/{arm}/student/model.safetensors").is_file()
        assert (folder / f"arms/{arm}/student/tokenizer.json").is_file()
        assert "distil" in (folder / f"arms/{arm}/student/README.md").read_text().lower()
        assert not (folder / f"arms/{arm}/training").exists()
        student = AutoModelForCausalLM.from_pretrained(folder / f"arms/{arm}/student")
        tokenizer = AutoTokenizer.from_pretrained(folder / f"arms/{arm}/student")
        assert student.config.vocab_size == len(tokenizer)

    leave_out_pictures(monkeypatch)  # they have been drawn
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")}
    code, out, err = tutelage(capsys, "run", path)
    assert code == 0 and "Training" not in err and "Measuring" not in err
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")}

    code, out, _ = tutelage(capsys, "report", folder)
    assert code == 0 and "report.html" in out


@pytest.mark.parametrize("merge", [pytest.param(True, marks=pytest.mark.slow), False])
def test_lora_students_are_evaluated_merged_or_not(
    capsys, monkeypatch, tmp_path, recipe_file, merge
):
    lora = {"rank": 2, "dropout": 0.0, "merge": merge}
    path = recipe_file(training={"lora": lora}, controls={})
    (tmp_path / "student" / "generation_config.json").write_text('{"eos_token_id": 7}')
    code, _, err = tutelage(capsys, "run", path, "--quiet", "--run-dir", tmp_path / "here")
    assert code == 0, err
    arm = tmp_path / "here" / "arms" / "cpd"
    assert (arm / "student" / "model.safetensors").is_file() is merge
    assert (arm / "student" / "adapter_model.safetensors").exists() is not merge
    assert (arm / "evaluation" / "agreement.json").is_file()
    assert not (arm / "student" / "check.json").exists()
    inputs = json.loads((arm / "evaluation" / "manifest.json").read_text())["inputs"]
    assert ("base" in inputs["model"]) is not merge
    assert "model.safetensors" in inputs["teacher"]["files"]
    # As its card loads it, it stops where it was evaluated to stop.
    monkeypatch.chdir(arm / "student")
    card = (arm / "student" / "README.md").read_text()
    loaded = {}
    exec(re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0], loaded)
    ends = {7, loaded["tokenizer"].eos_token_id}
    assert set(loaded["model"].generation_config.eos_token_id) == ends


def test_misspelt_lora_targets_are_named_before_anything_is_made(capsys, tmp_path, recipe_file):
    path = recipe_file(training={"lora": {"target_modules": ["q_proj", "v_prj"]}}, controls={})
    code, _, err = tutelage(capsys, "run", path, "--run-dir", tmp_path / "here")
    assert code == 2 and "'v_prj'" in err and "Did you mean 'v_proj'?" in err, err
    assert not (tmp_path / "here" / "data").exists()


def test_plan_from_a_file_of_scores_needs_no_model(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"e{i:02d},{0.1 * (i + 1)}\n" for i in range(50))
    (tmp_path / "scores.csv").write_text("id,score\n" + rows)
    arguments = ("--difficulty", "scores.csv", "--set", "training.batch_size=4")
    code, out, _ = tutelage(capsys, "plan", "cpd_paper", *arguments, "--json")
    plan = json.loads(out)
    assert code == 0 and plan["num_examples"] == 50 and plan["stages"][-1]["teacher"] == ""
    code, out, _ = tutelage(capsys, "plan", "cpd_paper", *arguments)
    assert code == 0 and "no teacher's signal" in " ".join(out.split())
    assert (tmp_path / plan["picture"]).is_file()


def test_ls(capsys):
    code, out, _ = tutelage(capsys, "ls", "--json")
    listed = json.loads(out)
    assert code == 0
    assert {"forward_kl", "reverse_kl"} <= {row["name"] for row in listed["divergences"]}
    named = {"name", "summary", "paper"}
    for family, rows in listed.items():
        own = set() if family in ("recipes", "methods") else {"options"}
        assert all(set(row) == named | own for row in rows)
    (gsm8k,) = (row for row in listed["suites"] if row["name"] == "gsm8k")
    assert gsm8k["options"][:2] == [{"name": "data"}, {"name": "shots", "default": 8}]
    assert tutelage(capsys, "ls", "divergnces")[0] == 2


def test_one_family_is_listed_with_its_options_and_all_of_them_without(capsys):
    code, out, _ = tutelage(capsys, "suites")
    assert code == 0 and out == tutelage(capsys, "ls", "suites")[1]
    assert 'options: data (required), shots=8, examples="", shots_seed=0, prompt=auto,' in out
    assert "options:" not in tutelage(capsys, "ls")[1]
    # The batch size takes the place of this one's default.
    assert "min_examples" not in tutelage(capsys, "ls", "curricula")[1]


JSONL = '{"prompt": "1+1", "completion": "2"}\n'


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("data.jsonl", JSONL + '{"prompt": "1+1", "completion": \n', "data.jsonl', line 2"),
        ("data.jsonl", JSONL + '{"prompt": "1+1"}\n', "completion"),
        ("data.jsonl", "", "no"),
        ("data.csv", "a,b\n1,2\n", "columns"),
    ],
)
def test_bad_data_is_named_with_its_line(capsys, tmp_path, recipe_file, name, text, words):
    (tmp_path / name).write_text(text)
    path = recipe_file(
        data={"kind": "files", "train": str(tmp_path / name)}, selection={"metric": None}
    )
    code, _, err = tutelage(capsys, "run", path, "--run-dir", tmp_path / "here")
    assert code == 2 and words in err and "Traceback" not in err
    assert not (tmp_path / "here" / "data").exists()


def test_missing_file(capsys, tmp_path, recipe_file):
    path = recipe_file(data={"kind": "files", "train": "nowhere.jsonl"}, selection={"metric": None})
    code, _, err = tutelage(capsys, "run", path)
    assert code == 2 and "nowhere.jsonl" in err


def test_nothing_left_to_learn(capsys, tmp_path, recipe_file):
    (tmp_path / "d.jsonl").write_text(JSONL)
    data = {"kind": "files", "train": str(tmp_path / "d.jsonl"), "max_length": 2}
    path = recipe_file(data=data, selection={"metric": None})
    code, _, err = tutelage(capsys, "run", path)
    assert code == 2 and "max_length" in err


def test_other_tokenizer(capsys, tmp_path, recipe_file):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {"<eos>": 0, "a": 1, "b": 2}
    other = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="a")), eos_token="<eos>"
    )
    tiny_model(vocab=3).save_pretrained(tmp_path / "other")
    other.save_pretrained(tmp_path / "other")
    path = recipe_file(teacher={"model": str(tmp_path / "other")})
    code, _, err = tutelage(capsys, "run", path)
    assert code == 2 and "different tokenizers" in err and "text-level" in err


def test_a_folder_that_is_no_run(capsys, tmp_path, recipe_file):
    path = recipe_file()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    code, _, err = tutelage(capsys, "run", path, "--run-dir", other)
    assert code == 2 and "no run folder" in err


def test_a_folder_in_use(capsys, tmp_path, recipe_file):
    import fcntl

    path, here = recipe_file(), tmp_path / "here"
    here.mkdir()
    with (here / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = tutelage(capsys, "run", path, "--run-dir", here)
    assert code == 2 and "in use" in err


def test_a_loss_that_is_not_finite(capsys, tmp_path, recipe_file):
    path = recipe_file(training={"learning_rate": 1e18, "max_grad_norm": 0.0})
    code, _, err = tutelage(capsys, "run", path, "--run-dir", tmp_path / "here")
    assert code == 2 and "NaN or infinite" in err
    record = json.loads((tmp_path / "here/arms/cpd/training/non_finite_0.json").read_text())
    assert record["ids"]


def test_a_full_disk_is_one_message(tmp_path):
    with pytest.raises(RunFolderError, match="disk is full"), disk_errors(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_half_a_folder_is_never_seen(tmp_path):
    atomic_write_text(tmp_path / "part" / "old.txt", "old")
    with pytest.raises(KeyError), atomic_directory(tmp_path / "part") as folder:
        (folder / "new.txt").write_text("new")
        raise KeyError
    assert [p.name for p in (tmp_path / "part").iterdir()] == ["old.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["part"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_weights_and_their_neighbours_have_the_modes_of_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        with atomic_directory(tmp_path / "student") as folder:
            tiny_model().save_pretrained(folder)  # safetensors writes for the owner alone
        atomic_write_text(tmp_path / "student" / "README.md", "card")
    finally:
        os.umask(before)
    files = list((tmp_path / "student").iterdir())
    assert len(files) >= 4
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}
    assert (tmp_path / "student").stat().st_mode & 0o777 == 0o777 & ~umask


def test_bad_arguments_have_no_traceback():
    for arguments in (["run"], ["plan", "nope"], ["frobnicate"]):
        command = [sys.executable, "-m", "tutelage", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2 and "Traceback" not in done.stderr


@pytest.mark.parametrize("stop", [2])
def test_quickstart_with_two_steps(capsys, tmp_path, stop):
    changes = [
        *("--set", f"training.max_steps={stop}", "--set", "data.train=130"),
        *("--set", "data.test=10", "--set", "evaluation.max_new_tokens=6"),
        *("--set", f"output={tmp_path}"),
    ]
    code, out, err = tutelage(
        capsys, "run", "quickstart", *changes, "--run-dir", tmp_path / "quick"
    )
    assert code == 0, err
    for arm in ("kld_states", "sft", "kld", "cpd"):
        log = (tmp_path / f"quick/arms/{arm}/metrics.jsonl").read_text().splitlines()
        assert json.loads(log[-1])["step"] == stop
    assert "report" in out
