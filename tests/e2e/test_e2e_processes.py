"""Two processes give the trajectory of one, up to the rounding of float32."""

import json
import subprocess
import sys

import pytest
import torch
import yaml
from killing import ADAPTIVE, in_processes, make_models, run_in_child, small_recipe, students

from tutelage.errors import ConfigError
from tutelage.pipeline.context.processes import Processes
from tutelage.teachers import TeacherStore


def trajectory(run_dir, arm):
    lines = (run_dir / f"arms/{arm}/metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module", params=["hidden", pytest.param("live", marks=pytest.mark.slow)])
def folder(request, tmp_path_factory):
    """A run ``one`` of one process and a run ``two`` of two, which share nothing."""
    folder = tmp_path_factory.mktemp("processes")
    make_models(folder)
    recipe = small_recipe(folder, micro_batch_size=2)
    # Dropout draws differ between processes, so this student has none.
    recipe["student"] = {"model": str(folder / "calm")}
    recipe["teacher"]["signal"] = request.param
    recipe["loss"] = {"divergence": {"kind": "reverse_kl"}, "ce_weight": 0.5}
    recipe["selection"] = {"metric": None}
    recipe["data"] |= {"validation": 4, "test": 4}
    own = {"max_new_tokens": 6, "reuse": 2, "importance": 2.0}
    if request.param == "live":  # the slow one
        recipe["controls"]["own"] = {
            **{"extends": "on_policy", "on_policy": own},
            "curriculum": recipe["controls"]["sft"]["curriculum"],
        }
    recipe["controls"]["states"] = {
        **{"extends": "kld_states", "loss": {"ce_weight": 0.3}, "training": {"shard": "both"}},
        "curriculum": recipe["controls"]["sft"]["curriculum"],
    }
    if request.param == "live":
        recipe["controls"]["distillm"] = {
            **{"extends": "distillm_skl", "on_policy": {"max_new_tokens": 6, "adaptive": ADAPTIVE}},
            "curriculum": recipe["controls"]["sft"]["curriculum"],
        }
    assert run_in_child({**recipe, "output": str(folder / "alone")}, folder / "one")
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**recipe, "output": str(folder / "together")}))
    said = in_processes(2, "run", path, "--run-dir", folder / "two")
    assert said.count("2 processes share the training") == 1 and "reused" not in said
    ends = [json.loads(line) for line in said.splitlines() if line.startswith('{"first"')]
    assert {end["first"]: end["how"] for end in ends} == {True: "this cannot be", False: "quietly"}
    assert len({end["pid"] for end in ends}) == 1, "both have what the first one found"
    return folder


def test_two_processes_give_the_trajectory_of_one(folder):
    for path in (folder / "one" / "arms").iterdir():
        arm = path.name
        one, two = (trajectory(folder / name, arm) for name in ("one", "two"))
        assert [row["step"] for row in one] == [row["step"] for row in two]
        for a, b in zip(one, two, strict=True):
            assert a["response_tokens"] == b["response_tokens"]
            for name in ("loss", "ce", "grad_norm"):
                assert a[name] == pytest.approx(b[name], rel=2e-4)
            assert a.get("state_gap", 0) == pytest.approx(b.get("state_gap", 0), rel=2e-4)
            for name in ("fresh_steps", "replayed_steps", "own_text_chance"):
                assert a.get(name) == b.get(name)
            own = [name for name in a if name.startswith("own_")]
            assert own == [name for name in b if name.startswith("own_")]
            assert bool(own) == (arm not in ("cpd", "sft", "states"))
            for name in own:
                assert a[name] == pytest.approx(b[name], rel=2e-4)
        assert any("state_gap" in row for row in one) == (arm == "states")
        if arm == "distillm":
            assert {row["fresh_steps"] - row["replayed_steps"] for row in one} == {1, 0, -1}
    first, second = students(folder / "one"), students(folder / "two")
    assert first
    for key, tensor in first.items():
        torch.testing.assert_close(tensor, second[key], rtol=1e-2, atol=1e-4)


def test_two_processes_fill_one_store(folder):
    stores = [list((folder / name / "cache").glob("store-*")) for name in ("alone", "together")]
    if json.loads((folder / "two/signal/signal.json").read_text()) == {"cpd": "live"}:
        assert stores == [[], []]
        return
    (one,), (two,) = ([TeacherStore(place) for place in places] for places in stores)
    assert one.location.keys.tolist() == two.location.keys.tolist()
    for position in range(one.examples):
        first = one.read([position])["hidden"]
        torch.testing.assert_close(first, two.read([position])["hidden"])


def accelerate(*arguments):
    """What a process finds that ``accelerate launch`` started on this machine, as JSON."""
    found = "import os, json; print(json.dumps(dict(os.environ)))"
    command = [sys.executable, "-m", "accelerate.commands.launch", *arguments]
    done = subprocess.run(
        [*command, "--no_python", sys.executable, "-c", found],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return json.loads(done.stdout)


LAUNCHERS = ("ACCELERATE_", "MASTER_", "WORLD_SIZE", "RANK", "LOCAL_RANK")


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        (("--cpu", "--num_processes", "2"), "asked for several processes"),
        (("--num_processes", "1"), None),
    ],
)
def test_processes_that_a_launcher_did_not_start_are_missed(monkeypatch, arguments, refused):
    both = ("--num_machines", "1", "--mixed_precision", "bf16", "--dynamo_backend", "no")
    left = {k: v for k, v in accelerate(*arguments, *both).items() if k.startswith(LAUNCHERS)}
    assert left
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    if refused:
        with pytest.raises(ConfigError, match=refused):
            Processes()
    else:
        assert Processes().asked_precision == "bf16"


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "context .* training.shard"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "several processes"),
    ],
)
def test_launchers_that_would_be_misunderstood(monkeypatch, said, refused):
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=refused):
        Processes()
