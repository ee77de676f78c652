"""What is due follows from the results alone: a search played through with made-up values."""

import math

from tutelage.studies.load import load_study
from tutelage.studies.results import Result
from tutelage.studies.tasks import Planner
from tutelage.types import Ledger

RATES = [1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2]
STUDY = {
    "name": "small",
    "base": "embedded_cpd",
    "set": {
        "curriculum": {"stages": 5},
        "evaluation": {"suites": ["test"]},
        "data": {"validation": 50},
    },
    "arms": {"kld": {"extends": "kld"}, "sft": {"extends": "sft"}},
    "equal": {"updates": 90},
    "seeds": 2,
    "search": {"factors": {"training.learning_rate": RATES}, "rungs": 3, "least": 1},
}


def result(task, **found):
    return Result(
        key=task.key,
        role=task.role,
        cell=task.cell.name,
        arm=task.cell.arm,
        levels={},
        tuned={level.factor: level.label for level in task.cell.tuned},
        seeds=task.seeds,
        steps=task.until or 90,
        total_steps=90,
        **found,
    )


def quality(task):
    """Best at 0.004 for kld and at 0.001 for sft; more training helps all alike."""
    rate = task.cell.over["training.learning_rate"]
    best = {"kld": 4e-3, "sft": 1e-3}[task.cell.arm]
    return -abs(math.log(rate / best)) + (task.until or 90) / 90


def played(study, value=quality, order=1):
    """All tasks of a study in the order in which they come due, and what was left at the end."""
    planner, results, done = Planner(load_study(study)), {}, []
    while (due := planner.due(results)).ready:
        for task in due.ready[::order]:
            done.append(task)
            found = {} if task.role == "final" else {"value": value(task)}
            results[task.result] = result(task, **found)
    assert not due.open and set(due.wanted) == set(results)
    return done, due


def test_a_third_goes_on_and_the_best_gets_the_final_runs():
    done, due = played(STUDY)
    for arm in ("kld", "sft"):
        steps = [task.until for task in done if task.role == "search" and task.cell.arm == arm]
        assert steps == [10] * 6 + [30] * 2 + [90]
    finals = {(task.cell.trial, task.seeds["student"]) for task in done if task.role == "final"}
    assert finals == {
        ("kld, learning_rate 0.004", 0),
        ("kld, learning_rate 0.004", 1),
        ("sft, learning_rate 0.001", 0),
        ("sft, learning_rate 0.001", 1),
    }
    assert {name: cell.trial for name, cell in due.chosen.items()} == {
        "kld": "kld, learning_rate 0.004",
        "sft": "sft, learning_rate 0.001",
    }


def test_the_order_of_the_results_changes_nothing():
    there, back = played(STUDY), played(STUDY, order=-1)
    assert {task.result for task in there[0]} == {task.result for task in back[0]}
    assert there[1].chosen == back[1].chosen


def test_a_rung_goes_on_in_the_folder_of_the_one_before():
    done, due = played(STUDY)
    best = [
        task
        for task in done
        if task.role == "search" and task.cell.trial.endswith("kld, learning_rate 0.004")
    ]
    assert [task.until for task in best] == [10, 30, 90]
    assert len({task.key for task in best}) == 1 and len({str(task.recipe) for task in best}) == 1
    # Validated at every tenth update, so that there is a value at each rung.
    assert best[0].recipe["selection"] == {
        "metric": "log_likelihood",
        "every": 10,
        "keep": "last",
    }
    searched = {task.key for task in done if task.role == "search"}
    assert set(due.losers) == searched  # folders that nobody needs when the search is over
    assert not searched & {task.key for task in done if task.role == "final"}


def test_runs_that_diverge_are_out():
    def value(task):
        return None if task.cell.over["training.learning_rate"] > 3e-3 else quality(task)

    _, due = played(STUDY, value)
    assert due.chosen["kld"].trial == "kld, learning_rate 0.002"


def test_in_one_race_of_all_arms_the_control_has_its_best_beside_the_winner():
    search = {**STUDY["search"], "across_arms": True}
    done, due = played({**STUDY, "search": search})
    steps = [task.until for task in done if task.role == "search"]
    assert steps == [10] * 12 + [30] * 4 + [90] * 2
    assert {cell.trial for cell in due.chosen.values()} == {"kld, learning_rate 0.004"}

    def sft_wins(task):
        return quality(task) + (task.cell.arm == "sft")

    _, due = played({**STUDY, "search": search}, sft_wins)
    assert [cell.trial for cell in due.chosen.values()] == [
        "kld, learning_rate 0.004",
        "sft, learning_rate 0.001",
    ]


def test_several_seeds_decide_together():
    search = {**STUDY["search"], "seeds": [100, 101], "rungs": 1}

    def value(task):
        lucky = task.cell.over["training.learning_rate"] == 3.2e-2 and task.seeds["student"] == 100
        return 1.5 if lucky else quality(task)

    _, due = played({**STUDY, "search": search}, value)
    assert due.chosen["kld"].trial == "kld, learning_rate 0.004"


def test_equal_cost_asks_what_the_control_spends():
    study = {**STUDY, "equal": {"by": "flops", "updates": 90}, "search": None}
    planner, results = Planner(load_study(study)), {}
    due = planner.due(results)
    (first,) = (task for task in due.ready if task.role == "price")
    assert due.open and first.cell.arm == "kld" and first.amount is None
    assert first.recipe["curriculum"]["total_steps"] == 90
    # The control's own final runs need not wait.
    finals = [task for task in due.ready if task.role == "final"]
    assert {task.cell.arm for task in finals} == {"kld"}
    ledger = Ledger(90, 9000, {"training": 540.0, "teacher": 40.0}, {})
    results[first.result] = result(first, value=90.0, ledger=ledger)
    due = planner.due(results)
    (second,) = (task for task in due.ready if task.role == "price")
    assert second.cell.arm == "sft" and second.amount == 580.0
    results[second.result] = result(second, value=123.0, ledger=ledger)
    due = planner.due(results)
    counts = {t.cell.arm: t.recipe["curriculum"]["total_steps"] for t in due.ready}
    assert counts == {"kld": 90, "sft": 123} and not due.open


def test_equal_seconds_pilots_each_arm_beside_the_control():
    study = {**STUDY, "equal": {"by": "seconds", "updates": 90}}
    planner, results = Planner(load_study(study)), {}
    due = planner.due(results)
    (pilot,) = (task for task in due.ready if task.role == "pilot")
    assert pilot.cell.arm == "sft" and pilot.amount == 90, "one for all learning rates"
    assert pilot.beside["loss"]["ce_weight"] < pilot.recipe["loss"]["ce_weight"] == 1.0
    for recipe in (pilot.recipe, pilot.beside):
        assert recipe["curriculum"]["total_steps"] == 9
    # All rates of the control have its updates, whatever a clock says.
    tried = [task for task in due.ready if task.role == "search"]
    assert {task.cell.arm for task in tried} == {"kld"}
    assert {task.recipe["curriculum"]["total_steps"] for task in tried} == {90}
    results[pilot.result] = result(pilot, value=123.0)
    due = planner.due(results)
    tried = [task for task in due.ready if task.cell.arm == "sft"]
    assert {task.recipe["curriculum"]["total_steps"] for task in tried} == {123}
