"""A student and a teacher that are cut over two processes train as in one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import in_slices
import pytest
import several
import torch
from filelock import FileLock

from conftest_models import random_rows, tiny_model
from tutelage import DistillConfig
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError
from tutelage.generation import GenerationSettings
from tutelage.models.shards import layers_of
from tutelage.teachers import TeacherStore
from tutelage.training.on_policy import OnPolicySteps
from tutelage.training.own_answers import OwnAnswers

try:
    from torch.distributed.fsdp import FSDPModule
except ImportError:
    FSDPModule = None
pytestmark = pytest.mark.skipif(
    not hasattr(FSDPModule, "set_reshard_after_forward"),
    reason="shards are refused with this torch",
)
FAST = ("accumulated", "empty", "lora_head", "on_policy", "adaptive", "killed")
OWN = ("on_policy", "reused", "adaptive")
"""Learn from their own answers."""
SLOW = tuple(name for name in several.SCENARIOS if name not in FAST)


def in_two(folder, shard, names):
    """Let two processes carry out some trainings."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = str(Path(several.__file__))
    done = subprocess.run(
        [sys.executable, *command, script, str(folder), shard, *names],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Made by the first worker of pytest that needs it, for all of them."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "both"
    with FileLock(f"{place}.lock"):
        if not (place / "whole").exists():
            in_two(place, "both", FAST)
            (place / "whole").touch()
    return place


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    folder = tmp_path_factory.mktemp("others")
    return {shard: in_two(folder / shard, shard, SLOW) for shard in ("none", "student", "teacher")}


def check(name, found, alone):
    """What two processes found is what one finds, but for rounding."""
    one, weights = several.found(name, alone / name)
    two = json.loads((found / name / "found.json").read_text())
    cut = torch.load(found / name / "weights.pt", weights_only=True)
    assert [row["step"] for row in two["log"]] == [row["step"] for row in one["log"]]
    for a, b in zip(one["log"], two["log"], strict=True):
        assert b == pytest.approx(a, rel=3e-5 if name in OWN else 2e-6)
    assert two["eval"] == pytest.approx(one["eval"], rel=2e-6)
    assert set(cut) == set(weights)
    for key, tensor in weights.items():
        torch.testing.assert_close(cut[key], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAST)
def test_two_processes_train_as_one(both, tmp_path, name):
    check(name, both, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["none", "student", "teacher"])
@pytest.mark.parametrize("name", SLOW)
def test_two_processes_train_as_one_in_every_way(others, tmp_path, name, shard):
    check(name, others[shard], tmp_path)


def test_the_head_is_gathered_and_reduced_once_a_step(both):
    counts = json.loads((both / "accumulated" / "counts.json").read_text())
    assert counts == {"gathered": [1] * 6, "reduced": [1] * 6}


@pytest.mark.parametrize("name", in_slices.CASES)
def test_a_head_in_slices_gives_the_loss_and_the_gradients_of_the_whole_one(both, name):
    whole = in_slices.whole(in_slices.CASES[name])
    first, second = (torch.load(both / f"slices_{rank}.pt")[name] for rank in (0, 1))
    close = {"rtol": 1e-12, "atol": 1e-12} if whole["hidden"].dtype == torch.float64 else {}
    for key in ("total", "parts", "hidden"):
        for found in (first, second):
            torch.testing.assert_close(found[key], whole[key], **close)
    for key in ("weight", "bias"):
        if whole[key] is None:
            assert first[key] is None and second[key] is None
        else:
            torch.testing.assert_close(torch.cat([first[key], second[key]]), whole[key], **close)
    assert whole["total"] > 0 or "(1.0, 1.0, 0.0)" in name


@pytest.mark.parametrize("kind", several.STORES)
def test_a_teacher_in_parts_fills_a_store(both, tmp_path, kind):
    several.filled(kind, tmp_path)
    assert len(list(tmp_path.glob("shard-*.json"))) > 2
    one, two = (TeacherStore(place, several.STORES[kind]) for place in (tmp_path, both / kind))
    assert one.location.keys.tolist() == two.location.keys.tolist()
    whole, parts = (store.read(range(store.examples)) for store in (one, two))
    assert whole.keys() == parts.keys()
    for name, values in whole.items():
        torch.testing.assert_close(parts[name], values)


def test_a_host_that_sees_another_folder_has_what_it_needs(both):
    first, second = (json.loads((both / f"host_{rank}.json").read_text()) for rank in (0, 1))
    (run, cache), (copy, cached) = first[0], second[0]
    assert copy.pop(".scratch") and copy == run
    assert run.keys() == {"cache.json", "part/large", "part/empty"}
    assert run["part/large"] == 40_000_000
    assert cached == {"store/shard": 5, "own/shard": 1} and "of_another_run/shard" in cache
    # Of another checkpoint nothing is collected, and no checkpoint is sent while training goes on.
    (run, _), (copy, _) = first[1], second[1]
    kept = {"training/checkpoint-2/random_1": 2, "training/rollouts/of_1": 1}
    assert run == {
        **kept,
        "cache.json": run["cache.json"],
        "part/large": len(b"now small"),
        "training/checkpoint-2/model": 3,
    }
    assert copy.pop(".scratch") and copy == {k: run[k] for k in ("cache.json", "part/large", *kept)}
    assert first[2] == [{"checkpoint-2/model": 3, "checkpoint-2/random_1": 2, "rollouts/of_1": 1}]
    assert first[3] == [{"of_1": 1, "later_0": 3, "later_1": 3}]
    assert first[2:4] == second[2:4]
    assert all("that several hosts share" in said[4] for said in (first, second))


def test_a_checkpoint_of_parts_goes_on_in_one_process(both, tmp_path):
    work = both / "killed" / "work"
    whole = work / "checkpoint-4"
    assert (whole / "model.safetensors").is_file()
    trainer = several.trainer_of("tied", tmp_path)
    trainer.train(resume_from_checkpoint=str(whole))
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    two = json.loads((both / "killed" / "found.json").read_text())["log"]
    assert [row["step"] for row in log] == [5, 6]
    for a, b in zip(two[4:], log, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=2e-6)


def test_models_that_do_not_say_what_their_layers_are():
    with pytest.raises(ConfigError, match="Linear does not say"):
        layers_of(torch.nn.Linear(2, 2))
    assert len(layers_of(tiny_model(layers=3))) == 3


def test_answers_that_a_teacher_in_parts_mends_are_refused(tmp_path, monkeypatch):
    args = DistillConfig(str(tmp_path), shard="teacher", use_cpu=True, report_to=[])
    monkeypatch.setattr(type(args), "world_size", 2)
    own = OwnAnswers(build_tokenizer(), GenerationSettings(), 0, teacher_top_k=2)
    plan = several.plan_of(random_rows(28), on_policy=1.0)
    trainer = type("T", (), {"plan": plan, "own_answers": own, "args": args, "eval_dataset": None})
    with pytest.raises(ConfigError, match="equally often"):
        OnPolicySteps.of(trainer, 0)
