"""Processes that do not see the same files are told so, and one that works beside is found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from killing import make_models, small_recipe

ELSEWHERE = """
import os, sys
if os.environ["RANK"] == "1":
    os.chdir(sys.argv[1])
sys.argv = ["tutelage", *sys.argv[2:]]
from tutelage.cli import main
main()
"""
"""The command line, whose second process works in another folder, as on another host."""


@pytest.mark.slow
def test_hosts_without_a_common_folder_are_told_so(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    make_models(tmp_path)
    recipe = {**small_recipe(tmp_path), "output": "runs"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [
            *(sys.executable, *command, tmp_path / "elsewhere.py", there),
            *("run", tmp_path / "recipe.yaml", "--run-dir", "runs/one"),
        ],
        cwd=here,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=200,
    )
    assert done.returncode != 0
    (said,) = {
        line for line in done.stderr.splitlines() if "do not" in line or "Not all of" in line
    }
    assert "Not all of the 2 processes see the same files" in said
    for folder in ("runs/one", "runs/cache"):
        assert f"'{folder}' on " in done.stderr
    assert "Traceback" not in done.stderr.split("torch/distributed")[0]
    # Nothing is left but what was there before.
    assert not [*Path(here).rglob(".seen-*"), *Path(there).rglob(".seen-*")]
    assert not (here / "runs" / "one").exists()
