"""Studies with real runs: what is stopped goes on bit for bit, and equal cost is equal."""

import json

import pytest
import yaml
from killing import make_models, small_recipe
from typer.testing import CliRunner

from tutelage.cli import app
from tutelage.pipeline.trial import price, try_out
from tutelage.studies.board import Board
from tutelage.studies.load import load_study
from tutelage.studies.watch import state_of
from tutelage.studies.worker import work


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with models, a base recipe, and the study that is written over it."""
    folder = tmp_path_factory.mktemp("study")
    make_models(folder)
    recipe = small_recipe(folder)
    recipe["student"]["model"] = str(folder / "calm")
    del recipe["selection"]
    (folder / "base.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def study(folder, **more):
    return load_study(
        {
            "name": "small",
            "base": str(folder / "base.yaml"),
            "set": {"curriculum": {"stages": 3}},
            "arms": {"kld": {"extends": "kld"}, "dynamic": {"extends": "cpd_dynamic"}},
            "equal": {"updates": 9},
            "seeds": 1,
            "output": str(folder / "runs"),
            **more,
        }
    )


def values(results):
    """What results say without what depends on the clock, by arm."""
    found = {}
    for one in results.values():
        curve = [{k: v for k, v in row.items() if k != "seconds"} for row in one.curve]
        found[one.arm] = (one.value, one.scores, curve, one.agreement, one.steps)
    return found


@pytest.mark.slow
def test_a_run_that_a_search_stops_goes_on_bit_for_bit(home, tmp_path):
    search = {"factors": {"training.learning_rate": [1e-3, 3e-3, 1e-2]}, "rungs": 3, "least": 1}
    loaded = study(home, name="searched", search=search)
    events = []
    work(loaded, tell=events.append)
    state = state_of(loaded)
    assert state.finished and not state.failures
    rungs = [one for one in state.results.values() if one.role == "search"]
    assert sorted(one.steps for one in rungs) == 6 * [1] + 2 * [3] + 2 * [9]
    for arm in ("kld", "dynamic"):  # the second one plans anew after each stage
        last = next(one for one in rungs if one.arm == arm and one.steps == 9)
        recipe = loaded.recipe(
            next(
                t
                for c in loaded.cells
                for t in loaded.trials(c)
                if c.arm == arm and {one.factor: one.label for one in t.tuned} == last.tuned
            ),
            last.seeds,
            {
                "curriculum.total_steps": 9,
                "selection.metric": "log_likelihood",
                "selection.every": 1,
                "selection.keep": "last",
            },
        )
        whole = try_out(recipe, tmp_path / arm, until=9)
        assert [*last.curve] == whole.validations and len(whole.validations) == 9
    assert not [*Board(loaded.folder).path.glob("runs/search-*")]  # nobody needs them any more


def test_the_same_study_twice_does_nothing_and_another_name_takes_its_runs(home):
    first, second = study(home, name="one"), study(home, name="two")
    work(first, tell=lambda event: None)
    events = []
    work(first, tell=events.append)
    assert events == []
    work(second, tell=events.append)
    assert values(state_of(first).results) == values(state_of(second).results)


def test_equal_flops_are_equal_and_all_that_an_arm_needs_is_counted(home):
    arms = {
        "kld": {"extends": "kld"},
        "sft": {"extends": "sft"},
        "dynamic": {"extends": "cpd_dynamic"},
    }
    loaded = study(home, name="equal", arms=arms, equal={"by": "flops", "updates": 24})
    work(loaded, tell=lambda event: None)
    state = state_of(loaded)
    assert state.finished
    finals = {one.arm: one for one in state.results.values() if one.role == "final"}
    spent = {arm: one.ledger.amount("flops") for arm, one in finals.items()}
    # An update of so few cannot be cut in two.
    for arm, amount in spent.items():
        assert abs(amount - spent["kld"]) <= 0.6 * amount / finals[arm].steps
    assert finals["kld"].steps == 24 < finals["sft"].steps
    assert {*finals["sft"].ledger.flops} == {"training"}
    assert {*finals["kld"].ledger.flops} == {"training", "teacher"}
    # Measured before the first stage and after the first two of three.
    recipe = loaded.recipe(loaded.cells[2], {"student": 0}, {"curriculum.total_steps": 24})
    once = price({**recipe, "difficulty": {"kind": "student_loss"}}, home / "once").flops
    assert finals["dynamic"].ledger.flops["difficulty"] == pytest.approx(3 * once["difficulty"])
    # A teacher that is stored is not asked again for a difficulty that needs its loss.
    teachers = {"kind": "dds"}
    stored = price({**recipe, "difficulty": teachers}, home / "stored").flops
    assert stored["difficulty"] == pytest.approx(once["difficulty"])
    live = {**recipe, "difficulty": teachers, "teacher": {**recipe["teacher"], "signal": "live"}}
    assert price(live, home / "live").flops["difficulty"] > 2 * stored["difficulty"]


def test_the_command_says_what_came_out_and_leaves_page_and_table(home, tmp_path):
    path = tmp_path / "mine.yaml"
    plain = study(home).study.model_dump(exclude={"name"}, exclude_none=True)
    path.write_text(
        yaml.safe_dump({**plain, "seeds": 2, "output": str(tmp_path / "runs")}, sort_keys=False)
    )
    runner = CliRunner()
    expected = runner.invoke(app, ["study", str(path), "--dry-run", "--json"])
    assert [row["cell"] for row in json.loads(expected.stdout)] == ["kld", "dynamic"]
    assert not state_of(load_study(path)).results
    done = runner.invoke(app, ["study", str(path), "--workers", "1"])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert "kld 2 0.0" in said and "dynamic 2 0.0" in said  # untrained models score nothing
    folder = tmp_path / "runs" / "studies" / "mine"
    assert (folder / "study.html").is_file()
    rows = (folder / "study.csv").read_text().splitlines()
    assert len(rows) == 1 + 4
    numbers = json.loads((folder / "study.json").read_text())
    assert [cell["name"] for cell in numbers["cells"]] == ["kld", "dynamic"]
