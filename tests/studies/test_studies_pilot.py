"""Two short runs that say how many updates of one take as long as those of the other."""

import pytest

from tutelage.studies import pilot as module
from tutelage.studies.due import Task
from tutelage.studies.load import load_study
from tutelage.studies.pilot import pilot, seconds_of_update


def test_what_comes_once_is_no_part_of_an_update():
    assert seconds_of_update([5.0, 6.5, 7.5, 8.5, 9.5]) == pytest.approx(1.0)
    assert seconds_of_update([3.0, 4.0]) == pytest.approx(1.0)
    assert seconds_of_update([3.0]) == 3.0


def test_a_pilot_runs_both_anew(tmp_path, monkeypatch):
    study = load_study(
        {
            "name": "pilots",
            "base": "embedded_cpd",
            "set": {
                "data": {"train": 64, "validation": 0, "test": 8},
                "curriculum": {"stages": 1},
                "training": {"batch_size": 8},
                "evaluation": {"agreement": False, "teacher": False, "student_before": False},
            },
            "arms": {"kld": {"extends": "kld"}, "sft": {"extends": "sft"}},
            "equal": {"by": "seconds", "updates": 40},
            "seeds": 1,
            "output": str(tmp_path / "out"),
        }
    )
    runs = []
    inner = module.try_out
    monkeypatch.setattr(
        module,
        "try_out",
        lambda recipe, folder, until: (runs.append(recipe), inner(recipe, folder))[1],
    )
    over = {"curriculum.total_steps": 4}
    kld, sft = (study.recipe(cell, {"student": 3}, over) for cell in study.cells)
    task = Task("pilot", study.cells[1], {"student": 3}, sft, "key", amount=40.0, beside=kld)
    for _ in range(2):
        ledger, count, once, amount = pilot(task, tmp_path / "out" / "pilot")
        assert ledger.updates == 4 and 0 < once < amount and count > 0
        kept = (tmp_path / "out").rglob("student*/model.safetensors")
        assert not list(kept), "neither in the run folders nor in the cache"
    assert [recipe["loss"]["ce_weight"] for recipe in runs] == [kld["loss"]["ce_weight"], 1.0] * 2
    assert len({recipe["seeds"]["student"] for recipe in runs}) == 4, "nothing is taken from before"
