"""Any file of a run, damaged in any way: named and mended, or refused, and never taken as it is."""

import os
import shutil

import pytest
from damaging import WAYS, cases, command, copy, fault, results
from kill_points import run_to
from killing import make_models
from test_e2e_kill_points import small

from tutelage.pipeline.context import shared

STATES = {
    "teacher_training": r"rename .*cache/teacher-\w+-training -> ",
    "student_healing": r"rename .*run/student_start-training -> ",
    "replanned": r"rename .*arms/\w+/replanned/after_stage_1$",
    "best": r"rename .*arms/\w+/student$",
    "finished": None,
}
"""Where the run is stopped, after its checkpoints; None: not at all."""
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
    """The recipe, its folder, and the results of the unbroken run."""
    folder = tmp_path_factory.mktemp("damage")
    make_models(folder)
    recipe = everything(folder)
    with pytest.MonkeyPatch.context() as patch:
        # Small files are the same file in run and cache, as large ones are.
        patch.setattr(shared, "_LINKED", 1)
        code, said = command(recipe, folder / "out/run", folder / "said")
        assert code == 0, said
        copy(folder / "out", folder / "snapshot-finished")
        yield folder, recipe, results(folder / "out/run")


def stopped(folder, recipe, state):
    """A snapshot of the run, stopped in a state."""
    snapshot = folder / f"snapshot-{state}"
    if not snapshot.exists():
        shutil.rmtree(folder / "out", ignore_errors=True)
        killed, done = run_to(recipe, folder / "out/run", folder, kill_before=STATES[state])
        assert killed, [one for one in done if "rename" in one]
        os.rename(folder / "out", snapshot)
    return snapshot


def sweep(folder, recipe, expected, state, part, run="run", below=""):
    """The faults among the cases of a part; TUTELAGE_DAMAGE_STRIDE thins them out."""
    stride = int(os.environ.get("TUTELAGE_DAMAGE_STRIDE", "1"))
    snapshot = stopped(folder, recipe, state)
    chosen = [case for case in cases(snapshot) if case[0].startswith(below)]
    faults, chosen = [], chosen[part * stride :: PARTS * stride]
    for file, way in chosen:
        copy(snapshot, folder / "out")
        WAYS[way](folder / "out" / file)
        code, said = command(recipe, folder / "out" / run, folder / "said")
        found = fault(code, said, folder / "out" / run, expected, file, way, reads_all=bool(below))
        if found is not None:
            faults.append(f"{way} {file}: {found}")
            print(faults[-1])
    print(f"{state}: {len(chosen)} cases, {len(faults)} faults")
    return faults


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("state", STATES)
def test_every_file_in_every_way(whole, state, part):
    assert not sweep(*whole, state, part)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_second_run_takes_no_damaged_part(whole, part):
    assert not sweep(*whole, "finished", part, run="second", below="cache/parts/")
