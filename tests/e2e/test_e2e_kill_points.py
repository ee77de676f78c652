"""A run that is killed before any of its file operations ends as an unbroken one, litter too."""

import os
import re

import pytest
from kill_points import as_if_killed, run_to, stops
from killing import assert_same_students, make_models, methods_recipe, small_recipe

from tutelage.files import read_jsonl
from tutelage.proofs import read_sealed


def small(folder, output, **changes):
    """Little of everything: a fine-tuned teacher, stored; plans made anew; a best student."""
    recipe = small_recipe(folder)
    finetune = {"epochs": 1, "batch_size": 8, "micro_batch_size": 8, "checkpoint_every": 1}
    return {
        **recipe,
        "extends": "cpd_dynamic",
        "student": {"model": str(folder / "calm")},
        "teacher": {"model": str(folder / "teacher"), "signal": "hidden", "finetune": finetune},
        "data": {"kind": "arithmetic", "train": 16, "validation": 2, "test": 2, "max_length": 128},
        "curriculum": {"stages": 3, "total_steps": 6},
        "selection": {"metric": "exact_match", "every": 2},
        "controls": {},
        "output": str(folder / output),
        **changes,
    }


def files(folder):
    """What is there, by name; locks are not counted, and a user's name comes from its path."""
    found = {os.path.relpath(os.path.join(place, name), folder)
             for place, _, names in os.walk(folder) for name in names}  # fmt: skip
    return {re.sub(r"users/\w+", "users/run", name) for name in found if ".lock" not in name}


def records(run_dir):
    return {
        path.parent.name: [
            {k: v for k, v in row.items() if k != "seconds"} for row in read_jsonl(path)
        ]
        for path in sorted(run_dir.glob("arms/*/metrics.jsonl"))
    }


def payers(output):
    """Whom every part that other runs may take was charged to."""
    manifests = output.glob("cache/parts/*/*/manifest.json")
    return {path.relative_to(output): read_sealed(path)["paid"]["stage"] for path in manifests}


def assert_same(folder, one, two):
    assert_same_students(folder / one / "run", folder / two / "run")
    assert records(folder / one / "run") == records(folder / two / "run")
    assert payers(folder / one) == payers(folder / two)
    first, second = files(folder / one), files(folder / two)
    assert first == second, (sorted(first - second), sorted(second - first))


# In the order in which they are met: each run goes on from the one that was killed before.
POINTS = (
    r"rename .*run/recipe\.json",
    r"rename .*cache/teacher-\w+-training -> ",
    r"rename .*cache/store-\w+/manifest\.json",
    r"rename .*cache/store-\w+/seconds\.json",
    r"rename .*training/best$",
    r"rename .*replanned/after_stage_1$",
    r"rename .*cache/parts/\S+ -> .*cache/parts/student-",
    r"rename .*arms/\w+/training -> ",
)


@pytest.mark.slow  # test_e2e_clock.py has the same kills, under a clock that moves
def test_kills_where_one_thing_takes_the_place_of_another(tmp_path):
    make_models(tmp_path)
    killed, _ = run_to(small(tmp_path, "whole"), tmp_path / "whole/run", tmp_path)
    assert not killed
    for point in POINTS:
        killed, done = run_to(
            small(tmp_path, "broken"), tmp_path / "broken/run", tmp_path, kill_before=point
        )
        assert killed, (point, done)
    killed, _ = run_to(small(tmp_path, "broken"), tmp_path / "broken/run", tmp_path)
    assert not killed
    assert_same(tmp_path, "whole", "broken")


KINDS = {
    "plain": small_recipe,
    "little of everything": lambda folder: small(folder, "runs"),
    "methods": lambda folder: methods_recipe(folder, "runs"),
}
PARTS = 8


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", KINDS)
def test_kills_at_every_operation(tmp_path, kind, part):
    """Every operation is some part's; TUTELAGE_KILL_STRIDE thins them out."""
    make_models(tmp_path)
    stride = int(os.environ.get("TUTELAGE_KILL_STRIDE", "1"))

    def recipe(output):
        return {**KINDS[kind](tmp_path), "output": str(tmp_path / output)}

    def wanted(number, words):
        return number % (PARTS * stride) == part * stride

    run_to(recipe("whole"), tmp_path / "whole/run", tmp_path)
    broken = recipe("broken"), tmp_path / "broken/run", tmp_path
    faults = []
    for number, words in stops(*broken, wanted):
        with as_if_killed(tmp_path / "broken"):
            try:
                run_to(*broken)
                assert_same(tmp_path, "whole", "broken")
            except AssertionError as fault:
                faults.append(f"{number}, {words}: {fault}")
                print(faults[-1])
    assert not faults


@pytest.mark.slow
def test_kills_while_a_killed_run_recovers(tmp_path):
    make_models(tmp_path)
    run_to(small(tmp_path, "whole"), tmp_path / "whole/run", tmp_path)
    broken = small(tmp_path, "broken"), tmp_path / "broken/run", tmp_path
    for _ in stops(*broken, lambda number, words: number % 60 == 30):
        with as_if_killed(tmp_path / "broken"):
            for _ in stops(*broken, lambda number, words: number in (9, 33)):
                with as_if_killed(tmp_path / "broken"):
                    run_to(*broken)
                    assert_same(tmp_path, "whole", "broken")
