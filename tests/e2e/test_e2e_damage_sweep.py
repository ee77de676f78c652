"""Any file of a run, damaged in any way: named and mended, or refused, and never taken as it is."""

import os
import re
import shutil

import pytest
from damaging import MORE_WAYS, batches, cases, command, copy, fault, make_quick, results
from kill_points import run_to
from killing import make_models
from test_e2e_kill_points import small

from tutelage.models import load_model
from tutelage.pipeline.context import shared

STATES = {
    "teacher_training": (r"rename .*\.tmp-.* -> .*cache/teacher-[0-9a-f]+$", r"run/difficulty$"),
    "student_healing": (r"rename .*\.tmp-.* -> .*run/student_start$", r"run/difficulty$"),
    "replanned": (r"rename .*arms/\w+/replanned/after_stage_1$", r"arms/cpd_dynamic/evaluation$"),
    "best": (r"rename .*arms/\w+/student$", r"arms/cpd_dynamic/evaluation$"),
    "finished": (None, None),
}
"""Where the run is stopped, after its checkpoints, and where the command that goes on may end.

None: at its own end. What comes after that end is made from what was compared there.
"""
PARTS = 4


def everything(folder):
    """A run with a file of each kind: what is in the cache, in a start, in arms."""
    recipe = small(folder, "out")
    finetune = {"epochs": 1, "batch_size": 8, "micro_batch_size": 8, "checkpoint_every": 1}
    arm = {"curriculum": {"stages": 3}, "training": recipe["training"]}
    seqkd = {"extends": "seqkd", "supervision": {"max_new_tokens": 6}, **arm}
    return {
        **recipe,
        "student": {"model": str(folder / "calm"), "finetune": finetune},
        "controls": {"seqkd": seqkd},
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a recipe, the recipe, and the results of the unbroken run."""
    folder = tmp_path_factory.mktemp("damage")
    with pytest.MonkeyPatch.context() as patch:
        yield folder, *prepared(folder, patch)


def prepared(folder, patch):
    """The recipe and the results of its unbroken run, of which a snapshot is kept."""
    make_models(folder)
    recipe = everything(folder)
    load_model(str(folder / "calm"))  # once for all children, with what it imports
    make_quick(patch)
    # Small files are the same file in run and cache, as large ones are.
    patch.setattr(shared, "_LINKED", 1)
    code, said = command(recipe, folder / "out/run", folder / "said")
    assert code == 0, said
    copy(folder / "out", folder / "snapshot-finished")
    return recipe, results(folder / "out/run")


def snapshot(folder, recipe, state):
    """A snapshot of the run, stopped in a state."""
    place = folder / f"snapshot-{state}"
    if not place.exists():
        shutil.rmtree(folder / "out", ignore_errors=True)
        killed, done = run_to(recipe, folder / "out/run", folder, kill_before=STATES[state][0])
        assert killed, [one for one in done if "rename" in one]
        os.rename(folder / "out", place)
    return place


def chosen(folder, part, below=""):
    """The cases of a part: one file of each kind, or all of them with TUTELAGE_DAMAGE=all.

    TUTELAGE_DAMAGE_STRIDE thins them out.
    """
    stride = int(os.environ.get("TUTELAGE_DAMAGE_STRIDE", "1"))
    found = cases(folder, every=os.environ.get("TUTELAGE_DAMAGE") == "all")
    return [case for case in found if re.match(below, case[0])][part * stride :: PARTS * stride]


def sweep(folder, recipe, expected, damaged, found, run="run", *, reads_all=False, until=None):
    """The faults among cases, which are tried in batches, and one by one where something is wrong.

    Args:
        folder: where everything is.
        recipe: of the command.
        expected: results of the run where nothing was damaged.
        damaged: the snapshot in which a file is damaged.
        found: the cases.
        run: the run folder of the command.
        reads_all: whether the command reads every file in question.
        until: the operation before which the command may end.
    """

    def wrong_with(batch):
        copy(damaged, folder / "out")
        for file, way in batch:
            MORE_WAYS[way](folder / "out" / file)
        place, state = folder / "out" / run, damaged.name.removeprefix("snapshot-")
        code, said = command(recipe, place, folder / "said", until=until)
        partly = until is not None
        return fault(
            code, said, results(place), expected, batch, state, reads_all=reads_all, partly=partly
        )

    faults = []
    for batch in batches(found):
        wrong, before = wrong_with(batch), len(faults)
        if wrong is None:
            continue
        if len(batch) > 1:
            alone = [(one, wrong_with([one])) for one in batch]
            faults += [f"{one}: {reason}" for one, reason in alone if reason is not None]
        if len(faults) == before and not wrong.startswith("refused, for one"):
            faults.append(f"{batch}: {wrong}")
        for one in faults[before:]:
            print(one, flush=True)
    print(f"{damaged.name}: {len(found)} cases, {len(faults)} faults", flush=True)
    return faults


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("state", STATES)
def test_every_file_in_every_way(whole, state, part):
    folder, recipe, expected = whole
    damaged = snapshot(folder, recipe, state)
    until = STATES[state][1]
    assert not sweep(folder, recipe, expected, damaged, chosen(damaged, part), until=until)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_second_run_takes_no_damaged_part(whole, part):
    folder, recipe, expected = whole
    damaged = folder / "snapshot-finished"
    found = chosen(damaged, part, "cache/parts/")
    assert not sweep(folder, recipe, expected, damaged, found, "second", reads_all=True)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_another_recipe_learns_nothing_damaged(whole, part):
    """Its students are trained anew, from what the cache holds of teachers."""
    folder, recipe, _ = whole
    damaged, other = folder / "snapshot-finished", another(recipe)
    copy(damaged, folder / "out")
    code, said = command(other, folder / "out/other", folder / "said")
    assert code == 0, said
    expected = results(folder / "out/other")
    found = chosen(damaged, part, "cache/(store|teacher|texts)-")
    assert not sweep(folder, other, expected, damaged, found, "other")


def another(recipe):
    """A recipe that shares the teachers' work with this one, and no student."""
    return {**recipe, "name": "another", "training": {**recipe["training"], "learning_rate": 5e-3}}
