"""Run a recipe in child processes that are killed without warning, until one gets through."""

import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import torch

from conftest_models import tiny_model
from tutelage.data.arithmetic import build_tokenizer

STAGES = ("data", "difficulty", "arms/cpd/plan", "references", "arms/cpd/student", "report.html")


def make_models(folder):
    """Tiny models of the embedded task with their tokenizer; ``calm`` is without dropout."""
    tokenizer = build_tokenizer()
    for name, options in {
        "teacher": {"seed": 2, "hidden": 24},
        "student": {"seed": 1, "attention_dropout": 0.1},
        "calm": {"seed": 1},
    }.items():
        model = tiny_model(vocab=len(tokenizer), **options)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def small_recipe(folder, **training):
    """A whole run in a few seconds: accumulation, checkpoints, validation, a control."""
    return {
        "extends": "cpd",
        "name": "small",
        "student": {"model": str(folder / "student")},
        "teacher": {"model": str(folder / "teacher")},
        "data": {"kind": "arithmetic", "train": 40, "validation": 6, "test": 10, "max_length": 128},
        "curriculum": {"stages": 3, "passes": 2},
        "training": {
            "learning_rate": 1e-2,
            "batch_size": 8,
            "micro_batch_size": 2,
            "checkpoint_every": 2,
            "log_every": 1,
            "num_threads": 1,
            **training,
        },
        "selection": {"metric": "exact_match", "every": 4},
        "evaluation": {"metrics": {"exact_match": {"after": "#"}}, "max_new_tokens": 8},
        "controls": {"sft": {"extends": "sft", "curriculum": {"stages": 3}}},
        "output": str(folder / "runs"),
    }


ADAPTIVE = {"init": 0.9, "epsilon": 0.0, "fresh": "constant", "capacity": 8, "every": 3}
"""Fresh text, kept text and the data in a few steps."""


def methods_recipe(folder, output):
    """Arms that plan anew, move their share, write their own answers, or learn from a teacher's."""
    recipe = small_recipe(folder)
    arm = {"curriculum": {"stages": 3}, "training": recipe["training"]}
    recipe["controls"] = {
        "dynamic": {"extends": "cpd_dynamic", **arm},
        "taid": {"extends": "taid", **arm},
        "gkd": {
            "extends": "gkd",
            "on_policy": {"max_new_tokens": 6, "reuse": 2, "importance": 2.0},
            **arm,
        },
        "distillm": {
            "extends": "distillm_skl",
            "on_policy": {"max_new_tokens": 6, "adaptive": ADAPTIVE},
            **arm,
        },
        "seqkd": {
            "extends": "seqkd",
            "supervision": {"max_new_tokens": 6, "sampling_temperature": 1.0},
            **arm,
        },
        "pocl": {
            "extends": "pocl",
            "difficulty": {"of": [{"kind": "rouge_l", "max_new_tokens": 6}, {"kind": "dds"}]},
            **arm,
        },
    }
    return {**recipe, "output": str(folder / output)}


def run_in_child(recipe, run_dir, kill_after=None):
    """Fork, run, and kill the child after some seconds; whether it finished by itself."""
    child = os.fork()
    if child == 0:
        try:
            from tutelage.pipeline import run

            run(recipe, run_dir=run_dir)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    started = time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, "the child failed by itself"
            return True
        if kill_after is not None and time.monotonic() - started > kill_after:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.002)


def in_processes(count, *arguments):
    """Give a command to several processes on this machine; what they wrote to standard error."""
    command = ["-m", "torch.distributed.run", "--nproc-per-node", str(count), "--standalone"]
    script = Path(__file__).with_name("one_of_several.py")
    done = subprocess.run(
        [sys.executable, *command, str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def stage_reached(run_dir):
    """Which stage a killed run was in, by what is there."""
    done = [stage for stage in STAGES if (Path(run_dir) / stage).exists()]
    return f"after {done[-1]}" if done else "before data"


def killed_run(recipe, run_dir, *, seed, mean_life, max_kills):
    """Kill at random moments until the run gets through; kills by the stage that they hit."""
    rng = random.Random(seed)
    kills = Counter()
    while sum(kills.values()) < max_kills:
        if run_in_child(recipe, run_dir, kill_after=rng.expovariate(1 / mean_life)):
            return kills
        kills[stage_reached(run_dir)] += 1
    assert run_in_child(recipe, run_dir)
    return kills


def students(run_dir):
    """All weights of all students of a run."""
    from safetensors.torch import load_file

    return {
        (str(path.relative_to(run_dir)), name): tensor
        for path in sorted(Path(run_dir).glob("arms/*/student*/model.safetensors"))
        for name, tensor in load_file(path).items()
    }


def assert_same_students(first, second):
    """Both runs ended with the same students, bit for bit."""
    a, b = students(first), students(second)
    assert a and a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key
