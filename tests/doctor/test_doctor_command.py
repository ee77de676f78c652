"""The command: levels, exit codes, JSON, marks in place of colours, and one error said once."""

import json

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from tutelage.cli import app
from tutelage.doctor import CHECKS, Check, Finding, examine
from tutelage.doctor.words import diagnosis_text
from tutelage.errors import ModelError

FEW = ["data.train=60", "data.test=40", "training.num_threads=1"]
SETTINGS = [part for change in FEW for part in ("--set", change)]


def doctor(*words):
    return CliRunner().invoke(app, ["doctor", *words, "--quiet"])


@pytest.fixture(scope="module")
def found():
    return json.loads(doctor("quickstart", *SETTINGS, "--sample", "20", "--json").stdout)


def test_every_check_speaks_of_the_quickstart(found):
    """Those that yield nothing have nothing to say of models without a chat template."""
    spoken = {finding["check"] for finding in found["findings"]}
    silent = {check.name for check in CHECKS} - spoken
    assert silent == {
        "template.of_teachers", "template.system", "template.spaces", "template.stops",
        "teaching.other_tokens",
    }  # fmt: skip
    assert found["well"] and found["counts"]["error"] == 0 and not found["not_looked_at"]
    assert len(found["examples"]) == 2
    kinds = [piece["kind"] for piece in found["examples"][0]["pieces"]]
    assert kinds == ["prompt", "learned", "end"]


def test_marks_stand_in_for_colours_where_there_are_none():
    result = doctor("quickstart", *SETTINGS, "--sample", "0", "--only-faults")
    assert result.exit_code == 0
    assert "]]{{<eos>}}" in result.stdout and "\x1b" not in result.stdout
    assert "  ok " not in result.stdout and " ok\n" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_colours_on_a_terminal():
    checks = [check for check in CHECKS if check.name == "template.labels"]
    diagnosis = examine("quickstart", FEW, sample=0, quiet=True, checks=checks)
    console = Console(force_terminal=True, color_system="standard", width=60, highlight=False)
    with console.capture() as capture:
        console.print(diagnosis_text(diagnosis, colours=True))
    shown = capture.get()
    assert "\x1b[2m" in shown and "\x1b[1;32m" in shown and "[[" not in shown


def test_an_error_is_said_once_and_the_rest_is_looked_at(tmp_path):
    recipe = {
        "extends": "kld",
        "student": {"model": "embedded:arithmetic-student"},
        "teacher": {"model": "embedded:lists-strong"},
        "data": {"kind": "arithmetic", "train": 30, "test": 20},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe))
    result = doctor(str(path), "--json")
    assert result.exit_code == 2
    said = json.loads(result.stdout)
    errors = [f for f in said["findings"] if f["level"] == "error"]
    assert len(errors) == 1 and "different tokenizers" in errors[0]["saw"]
    assert said["not_looked_at"]["template.labels"] == "needs what an error above is about"
    assert {"data.duplicates", "machine.processor"} <= {f["check"] for f in said["findings"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["student.model=./nowhere"], "There is no folder './nowhere'"),
        (["training.learning_rate=-1"], "learning_rate"),
        (["teacher.model=x.gguf"], "There is no GGUF file"),
    ],
)
def test_what_cannot_be_looked_at_at_all_is_one_message(changes, words):
    result = doctor("quickstart", *[part for c in changes for part in ("--set", c)])
    said = result.output + str(result.exception or "")
    assert words in said and "Traceback" not in result.output and result.exit_code != 0


def test_a_check_that_fails_in_its_own_way_leaves_the_others_be():
    def breaks(patient):
        yield Finding("ok", "before")
        raise KeyError("own code")

    def refuses(patient):
        raise ModelError("no such thing")

    def speaks(patient):
        yield Finding("note", "after", "do this")

    checks = [Check("a.breaks", breaks), Check("a.refuses", refuses), Check("a.refuses", refuses),
              Check("a.speaks", speaks)]  # fmt: skip
    said = examine("quickstart", FEW, sample=0, examples=0, quiet=True, checks=checks)
    assert [(f.check, f.level) for f in said.findings] == [
        ("a.breaks", "ok"), ("a.breaks", "warning"), ("a.refuses", "error"), ("a.speaks", "note"),
    ]  # fmt: skip
    assert said.not_looked_at == {
        "a.breaks": "KeyError: 'own code'",
        "a.refuses": "needs what an error above is about",
    }
