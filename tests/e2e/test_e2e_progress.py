"""What a person sees while a run goes on, in a log and on a terminal of 80 columns."""

import io
import re
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from tutelage.pipeline.context.display import Display
from tutelage.training.callbacks import ProgressReport


@pytest.fixture
def now(monkeypatch):
    passed = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])

    def move(seconds):
        passed[0] += seconds

    return move


def in_a_log():
    file = io.StringIO()
    return Display(console=Console(file=file, width=80)), file


def on_a_terminal():
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None)
    return Display(console=console), file


def train(report, first, last, total, now=lambda seconds: None):
    """What the trainer tells: a record every second step, a validation at step 4."""
    told = ProgressReport(report)
    state = SimpleNamespace(global_step=first, max_steps=total)
    told.on_train_begin(None, state, None)
    for step in range(first + 1, last + 1):
        now(10)
        state.global_step = step
        told.on_step_end(None, state, None)
        if step % 2 == 0:
            logs = {"loss": 0.53219, "kd": 0.41, "token_agreement": 0.934, "grad_norm": 1.0}
            told.on_log(None, state, None, logs=logs)
        if step == 4:
            told.on_evaluate(None, state, None, metrics={"eval_exact_match": 0.4125})


def test_a_log_shows_losses_validation_and_time_left(now):
    display, file = in_a_log()
    with display.task("Training cpd") as report:
        train(report, 0, 8, 10, now)
    lines = file.getvalue().splitlines()
    assert lines[0] == "Training cpd ..." and lines[-1] == "Training cpd: done in 1 min 20 s"
    assert lines[-2] == (
        "Training cpd: 8 of 10, 20 s left; loss 0.532, KD 0.41, agreement 93%;"
        " validation at 4: exact match 0.412"
    )


def test_steps_of_an_earlier_process_say_nothing_about_the_time_left(now):
    display, file = in_a_log()
    with display.task("Training cpd") as report:
        train(report, 500, 506, 1000, now)
    assert "506 of 1,000, 1 h 22 min left" in file.getvalue()


def test_a_terminal_shows_bar_and_values_within_80_columns():
    display, file = on_a_terminal()
    with display.task("Evaluating the student before distillation, last checkpoint") as outer:
        outer(1, 2_000_000)
        with display.task("Training a-rather-long-name-of-an-arm \x1b[2J[bold]") as report:
            train(report, 0, 8, 1_234_567)
            display._shown.refresh()
        display.note("Loading the student: \x1b]0;title\x07")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert "loss 0.532, KD 0.41, agreement 93%; validation at 4: exact match 0.412" in text
    assert "8/1234567" in text and "left" in text
    assert max(len(line) for line in re.split(r"[\r\n]", text)) <= 80
    assert "\x1b]0;" not in text and "\\x1b]0;title\\x07" in text


def test_quiet_shows_nothing_and_still_beats():
    display, file = in_a_log()
    display.quiet = True
    beats = []
    display.beat = lambda: beats.append(1)
    with display.task("Training cpd") as report:
        train(report, 0, 4, 4)
    assert file.getvalue() == "" and len(beats) >= 4
