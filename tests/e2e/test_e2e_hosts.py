"""Hosts that share no folder: one run, of which the others keep copies."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from killing import ADAPTIVE, make_models, run_in_child, small_recipe, students


def on_two_hosts(base, *arguments, kill_after=0):
    """Run a recipe in two processes that work in two folders; how it ended, and what was said."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).with_name("one_elsewhere.py")
    done = subprocess.run(
        [
            *(sys.executable, *command, script, base / "there", str(kill_after)),
            *("run", base / "recipe.yaml", "--run-dir", "runs/one", *arguments),
        ],
        cwd=base / "here",
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    return done.returncode, done.stderr


def listed(folder):
    """Files of a run folder by name, but for what each host has for itself."""
    own = (".lock", ".scratch")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in own
    }


def trajectories(folder):
    """The training records of all arms, without their times."""
    found = {}
    for path in folder.glob("arms/*/metrics.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.parent.name] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    return found


@pytest.fixture
def base(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    make_models(tmp_path)
    recipe = {**small_recipe(tmp_path, micro_batch_size=2), "output": "runs"}
    # Dropout draws differ between processes, so this student has none.
    recipe["student"] = {"model": str(tmp_path / "calm")}
    recipe["controls"] = {
        name: {"extends": method, "curriculum": recipe["controls"]["sft"]["curriculum"], **more}
        for name, method, more in (
            ("own", "on_policy", {"on_policy": {"max_new_tokens": 6, "reuse": 2}}),
            ("skl", "distillm_skl", {"on_policy": {"max_new_tokens": 6, "adaptive": ADAPTIVE}}),
        )
    }
    recipe["data"] |= {"validation": 4, "test": 4}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path


@pytest.mark.slow
def test_hosts_without_a_common_folder_train_as_one_that_is_killed_and_goes_on(base):
    recipe = yaml.safe_load((base / "recipe.yaml").read_text())
    recipe["output"] = str(base / "alone")
    assert run_in_child(recipe, base / "whole")
    code, said = on_two_hosts(base, kill_after=3)
    assert code and "a copy of what the run needs is kept there in 'runs/one'" in said
    assert "continuing at step" not in said
    code, _ = on_two_hosts(base, kill_after=4)
    assert code
    shutil.rmtree(base / "there")  # the copy is no more than that
    (base / "there").mkdir()
    code, said = on_two_hosts(base)
    assert code == 0, said[-3000:]
    assert "continuing at step" in said
    here, there = base / "here" / "runs", base / "there" / "runs"
    assert listed(here / "one") == listed(there / "one")
    one, two = trajectories(base / "whole"), trajectories(here / "one")
    assert one.keys() == two.keys() == {"cpd", "own", "skl"}
    for arm, rows in one.items():
        assert [row["step"] for row in rows] == [row["step"] for row in two[arm]]
        for a, b in zip(rows, two[arm], strict=True):
            assert b["response_tokens"] == a["response_tokens"]
            for name in ("loss", "ce", "grad_norm"):
                assert b[name] == pytest.approx(a[name], rel=2e-4)
    for key, tensor in students(base / "whole").items():
        torch.testing.assert_close(students(here / "one")[key], tensor, rtol=1e-2, atol=1e-4)
    # Both filled the store, and the second one's shards are where the first one's are.
    (mine,), (theirs,) = (list(place.glob("cache/store-*")) for place in (here, there))
    shards = {path.name for path in mine.glob("shard-*")}
    assert shards and shards == {path.name for path in theirs.glob("shard-*")}


@pytest.mark.slow
@pytest.mark.parametrize("in_the_way", ["a file", "half of it"])
def test_hosts_that_have_something_else_there_are_told_so(base, in_the_way):
    place = base / "there" / "runs"
    if in_the_way == "a file":
        (place / "one").mkdir(parents=True)
        (place / "one" / "thesis.txt").write_text("mine")
        expected = "is not empty, and no copy of a run"
    else:
        (base / "here" / "runs" / "cache").mkdir(parents=True)
        place.mkdir()
        (place / "cache").symlink_to(base / "here" / "runs" / "cache")
        expected = "'runs/one' on "
    code, said = on_two_hosts(base)
    assert code
    (line,) = {line for line in said.splitlines() if "Not all of" in line}
    assert "Not all of the 2 processes see the same files" in line
    assert expected in " ".join(said.split())
    assert "Traceback" not in said.split("torch/distributed")[0]
    if in_the_way == "a file":
        assert (place / "one" / "thesis.txt").read_text() == "mine"
    # Nothing is left but what was there before.
    assert not list(base.rglob(".tmp-*"))
    assert not (base / "here" / "runs" / "one").exists()
