"""A search in which optuna asks: it finds what is good, and a kill changes nothing of it."""

import json
import math
import sys
import threading
from collections import Counter

import optuna
import pytest
import yaml
from made_up import STUDY, made_up
from typer.testing import CliRunner

from tutelage.cli import app
from tutelage.errors import ConfigError, MissingDependencyError
from tutelage.studies import carry, run, sampler
from tutelage.studies.board import Board
from tutelage.studies.forecast import expect
from tutelage.studies.load import load_study
from tutelage.studies.run import begun
from tutelage.studies.sampler import Asking, ask, next_count
from tutelage.studies.watch import state_of
from tutelage.studies.worker import work

FACTORS = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "loss.distill_temperature": {"low": 1, "high": 4, "step": 0.5},
    "curriculum.stages": {"low": 2, "high": 5},
    "loss.divergence": {"forward": {"kind": "forward_kl"}, "reverse": {"kind": "reverse_kl"}},
}
OPTUNA = {
    **STUDY,
    "set": {"data": {"validation": 50}},
    "arms": {"kld": {"extends": "kld"}},
    "equal": {"updates": 90},
    "seeds": 2,
    "search": {"factors": FACTORS, "sampler": "optuna", "trials": 32, "rungs": 2},
}


def quality(task):
    """Best at a learning rate of 0.004, a temperature of 2, and with reverse KL."""
    over = task.cell.over
    away = abs(math.log10(over["training.learning_rate"] / 4e-3))
    away += 0.3 * abs(over["loss.distill_temperature"] - 2)
    return -away - 0.5 * (over["loss.divergence"]["kind"] == "forward_kl") + (task.until or 90) / 90


def carried_out(loaded, board, task):
    """As the real one, but for runs."""
    if task.role == "ask":
        return real(loaded, board, task)
    return made_up(task, value=quality(task) if task.role == "search" else None)


real = carry.carry_out


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(carry, "carry_out", carried_out)
    return load_study({**OPTUNA, "output": str(tmp_path)})


def table(loaded):
    """All that a study came to, by name; ``took`` alone depends on the clock."""
    state = state_of(loaded)
    assert state.finished and not state.failures
    return {name: (one.asked, one.value, one.tuned) for name, one in state.results.items()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one worker makes that nobody disturbs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(carry, "carry_out", carried_out)
        loaded = load_study({**OPTUNA, "output": str(tmp_path_factory.mktemp("alone"))})
        events = []
        work(loaded, tell=events.append)
    return loaded, table(loaded), [e for e in events if e["event"] == "done"]


def test_it_finds_the_best_region_and_all_trials_come_to_the_first_rung(alone):
    loaded, found, events = alone
    (chosen,) = state_of(loaded).due.chosen.values()
    settings = {level.factor: level.changes[0][1] for level in chosen.tuned}
    assert 1.5e-3 < settings["training.learning_rate"] < 1e-2
    assert settings["loss.distill_temperature"] in (1.5, 2.0, 2.5)
    assert settings["loss.divergence"] == {"kind": "reverse_kl"}
    asked = [settings for settings, _ in state_of(loaded).due.told["kld"].told]
    assert len(asked) == sum(len(values) for values, *_ in found.values()) == 32
    steps = [event["name"].partition("@")[2] for event in events if event["role"] == "search"]
    assert steps.count("30") == 32 and steps.count("90") == 11  # a third goes on
    # What is asked for later is better than what is drawn at random first.
    first, last = asked[:8], asked[-8:]
    assert sum(near(one) for one in last) > sum(near(one) for one in first)


def near(settings):
    return abs(math.log10(settings["training.learning_rate"] / 4e-3)) < 0.5


def test_numbers_are_those_that_people_read(alone):
    _, found, _ = alone
    for values, _, tuned in found.values():
        for one in values:
            assert isinstance(one["curriculum.stages"], int)
            assert one["loss.distill_temperature"] * 2 == round(one["loss.distill_temperature"] * 2)
            assert 1e-4 <= one["training.learning_rate"] <= 1e-1
        if "training.learning_rate" in tuned:
            label = tuned["training.learning_rate"]
            assert any(
                one["training.learning_rate"] == float(label) and f"{float(label):g}" == label
                for values, *_ in found.values()
                for one in values
            )


def test_two_workers_ask_for_what_one_does(alone, study):
    crew = [
        threading.Thread(target=work, args=(study,), kwargs={"tell": lambda event: None})
        for _ in range(2)
    ]
    for one in crew:
        one.start()
    for one in crew:
        one.join(100)
    assert table(study) == alone[1]


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_killed_anywhere_it_asks_for_the_same(alone, study, monkeypatch):
    """Also between asking and writing down what was asked for, and before any of its runs."""
    write, seen, kills = Board.write, Counter(), []

    def dies(board, name, result):
        seen[result.role] += 1
        if seen[result.role] in (1, 5):
            kills.append(("before", result.role))
            raise Killed
        write(board, name, result)
        if seen[result.role] in (2, 7):
            kills.append(("after", result.role))
            raise Killed

    monkeypatch.setattr(Board, "write", dies)
    while not state_of(study).finished:
        try:
            work(study, tell=lambda event: None)
        except Killed:
            continue
    assert {"ask", "search"} <= {role for when, role in kills if when == "before"}
    assert {"ask", "search", "final"} == {role for when, role in kills if when == "after"}
    assert table(study) == alone[1]


def test_more_trials_go_on_from_those_that_are_there(alone):
    loaded, *_ = alone
    longer = load_study({**OPTUNA, "output": loaded.study.output}, {"search.trials": 36})
    ready = state_of(longer).due.ready
    assert [task.role for task in ready if task.role != "search"] == ["ask"]
    assert ready[-1].title == "kld: optuna asks for settings 33 to 36"


def test_optunas_own_tools_can_read_the_journal(alone):
    loaded, *_ = alone
    (journal,) = (loaded.folder / "optuna").glob("*.journal")
    state = state_of(loaded)
    sampler.write_journal(state.due.told["kld"], journal)
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    (name,) = optuna.get_all_study_names(optuna.storages.JournalStorage(backend))
    read = optuna.load_study(study_name=name, storage=optuna.storages.JournalStorage(backend))
    assert len(read.trials) == 32
    values = {
        one.value for one in state.results.values() if one.role == "search" and one.steps == 30
    }
    assert {trial.value for trial in read.trials} == values
    assert read.best_trial.params["loss.divergence"] == "reverse"


def test_runs_that_diverge_are_told_as_the_worst(tmp_path):
    space = {"rate": {"low": 1e-4, "high": 1e-1, "log": True, "step": None}}
    rates = [1e-4 * 10 ** (n / 4) for n in range(12)]
    told = [({"rate": one}, -abs(one / 1e-3 - 1) if one < 2e-3 else None) for one in rates]
    found = ask(Asking(space, tuple(told), 8, 0), tmp_path / "one.journal")
    # Of numbers that are drawn at random 3 or 4 would be.
    assert sum(one["rate"] < 2e-3 for one in found) >= 6


@pytest.mark.parametrize(("trials", "batches"), [(3, [3]), (8, [8]), (10, [8, 2]), (16, [8, 4, 4])])
def test_how_many_are_asked_for_together(trials, batches):
    asked, found = 0, []
    while count := next_count(asked, trials):
        found.append(count)
        asked += count
    assert found == batches


def test_what_can_all_be_tried_is(tmp_path):
    search = {**OPTUNA["search"], "factors": {"training.learning_rate": [1e-3, 2e-3]}}
    loaded = load_study({**OPTUNA, "search": search})
    assert [task.role for task in state_of(loaded).due.ready] == ["search", "search"]


def test_a_dry_run_knows_how_many(study, monkeypatch):
    from tutelage.pipeline import trial

    monkeypatch.setattr(trial, "estimate", lambda recipe, folder: (None, None))
    (expected,) = expect(state_of(study))
    assert expected.trials == 32 and expected.search == pytest.approx((32 * 30 + 11 * 60) / 90)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampler": "grid"}, "only a search with `sampler: optuna` chooses from ranges"),
        ({"factors": {"training.learning_rate": {"low": 1, "high": 0.1}}}, "must be below `high`"),
        ({"factors": {"training.learning_rate": {"low": 0, "high": 1, "log": True}}}, "above 0"),
        ({"factors": {"training.learning_rate": {"low": "a", "high": 1}}}, "must be of numbers"),
        ({"factors": {"warm": {"low": 0.1, "high": 1.0}}}, "no dotted key"),
        ({"factors": {"training.learning_rate": {"low": -1.0, "high": 1.0}}}, "learning_rate"),
    ],
)
def test_a_mistake_is_one_message(change, message):
    with pytest.raises(ConfigError) as error:
        load_study({**OPTUNA, "search": {**OPTUNA["search"], **change}})
    assert message in str(error.value)


def test_ranges_are_no_levels_of_the_table():
    with pytest.raises(ConfigError, match=r"is a range, and only a search"):
        load_study({**OPTUNA, "factors": {"loss.ce_weight": {"low": 0.0, "high": 1.0}}})


def test_without_optuna_there_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tutelage\[optuna\]'"):
        begun({**OPTUNA, "output": str(tmp_path)})
    grid = {**OPTUNA["search"], "sampler": "grid", "factors": {}}
    begun({**OPTUNA, "search": grid, "output": str(tmp_path)})


def test_the_command_shows_what_was_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(carry, "carry_out", carried_out)
    path = tmp_path / "mine.yaml"
    search = {**OPTUNA["search"], "trials": 8}
    plain = {**OPTUNA, "search": search, "output": str(tmp_path / "runs"), "name": "mine"}
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    monkeypatch.setattr(run, "thread_variables", lambda threads: {})
    found = CliRunner().invoke(app, ["study", str(path), "--worker", "--json"])
    assert found.exit_code == 0, found.output
    (race,) = json.loads(found.stdout)["races"]
    assert len(race["trials"]) == 8 and sum(one["chosen"] for one in race["trials"]) == 1
    assert "kld: optuna asks for settings 1 to 8" in found.stderr
