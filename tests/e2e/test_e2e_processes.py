"""Two processes give the trajectory of one, up to the rounding of float32."""

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from killing import make_models, run_in_child, small_recipe, students


def trajectory(run_dir, arm):
    lines = (run_dir / f"arms/{arm}/metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def launch(folder, recipe, run_dir):
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--cpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
        *("-m", "tutelage", "run", str(path), "--run-dir", str(run_dir)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_two_processes_give_the_trajectory_of_one(tmp_path):
    make_models(tmp_path)
    recipe = small_recipe(tmp_path, micro_batch_size=2)
    # Dropout draws differ between processes, so this student has none.
    recipe["student"] = {"model": str(tmp_path / "calm")}
    recipe["loss"] = {"divergence": {"kind": "reverse_kl"}, "ce_weight": 0.5}
    recipe["selection"] = {"metric": None}
    assert run_in_child(recipe, tmp_path / "one")
    launch(tmp_path, recipe, tmp_path / "two")
    for arm in ("cpd", "sft"):
        one, two = (trajectory(tmp_path / name, arm) for name in ("one", "two"))
        assert [row["step"] for row in one] == [row["step"] for row in two]
        for a, b in zip(one, two, strict=True):
            assert a["response_tokens"] == b["response_tokens"]
            for name in ("loss", "ce", "grad_norm"):
                assert a[name] == pytest.approx(b[name], rel=2e-4)
    first, second = students(tmp_path / "one"), students(tmp_path / "two")
    for key, tensor in first.items():
        torch.testing.assert_close(tensor, second[key], rtol=1e-2, atol=1e-4)
