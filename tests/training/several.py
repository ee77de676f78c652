"""Trainings that one process and several ones carry out alike; run by torchrun, or imported.

Each process writes what it found to ``RESULTS/NAME.RANK_of_WORLD.json``: a record for each step,
and all weights at the end.
"""

import contextlib
import dataclasses
import functools
import json
import os
import sys
from pathlib import Path
from unittest import mock

import torch
from transformers import Gemma2Config, Gemma2ForCausalLM
from transformers.trainer_callback import TrainerCallback

sys.path.insert(0, str(Path(__file__).parents[1]))
import in_slices

from conftest_models import VOCAB, random_rows, tiny_model
from tutelage import DistillConfig, DistillTrainer
from tutelage.curriculum import CurriculumOptions, LearningRate, PlanSettings, compile_plan
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError
from tutelage.generation import GenerationSettings
from tutelage.models.shards import shard as cut
from tutelage.pipeline.context.copies import HostCopies
from tutelage.pipeline.context.processes import Processes
from tutelage.proofs import write_sealed
from tutelage.teachers import StoreSpec, begin_store, fill_store
from tutelage.teachers.store import write
from tutelage.training.callbacks import MetricsFile
from tutelage.training.own_answers import OwnAnswers
from tutelage.types import DifficultyProfile


class Stop(TrainerCallback):
    """A kill after so many steps."""

    def __init__(self, after):
        self._after = after

    def on_step_end(self, args, state, control, **keywords):
        if state.global_step == self._after:
            raise KeyboardInterrupt


COLLECTIVES = {
    "gathered": ("all_gather_single", "all_gather_into_tensor"),
    "reduced": ("reduce_scatter_single", "reduce_scatter_tensor"),
}
"""What FSDP2 calls, by version of torch."""


class CountHead(TrainerCallback):
    """How often a step gathers what is no layer, and reduces its gradient."""

    def __init__(self, trainer):
        own = {id(p) for layer in trainer.model.model.layers for p in layer.parameters()}
        self._size = sum(p.numel() for p in trainer.model.parameters() if id(p) not in own)
        self.steps = {"gathered": [], "reduced": []}
        self._now = dict.fromkeys(self.steps, 0)
        for name, calls in COLLECTIVES.items():
            call = next(one for one in calls if hasattr(torch.distributed, one))
            setattr(torch.distributed, call, self._counting(name, getattr(torch.distributed, call)))

    def _counting(self, name, collective):
        def counted(output=None, input=None, **keywords):
            whole = keywords.get("output_tensor", output) if name == "gathered" else input
            self._now[name] += whole.numel() == self._size
            return collective(*[x for x in (output, input) if x is not None], **keywords)

        return counted

    def on_step_end(self, args, state, control, **keywords):
        for name, count in self._now.items():
            self.steps[name].append(count)
        self._now = dict.fromkeys(self.steps, 0)


def softcapped():
    torch.manual_seed(1)
    return Gemma2ForCausalLM(
        Gemma2Config(
            **{"vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 32, "head_dim": 8},
            **{"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2},
            **{"max_position_embeddings": 64, "initializer_range": 0.3, "pad_token_id": 0},
            **{"final_logit_softcapping": 2.0, "sliding_window": 8},
        )
    )


def with_lora(targets):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    options = LoraConfig(
        r=2, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False
    )
    return get_peft_model(tiny_model(seed=1), options)


def plan_of(rows, **options):
    profile = DifficultyProfile(tuple(rows["id"]), torch.linspace(0.5, 3.0, len(rows)).numpy())
    options = {"ce_weight": 0.3, "learning_rate": LearningRate("constant"), **options}
    curriculum = CurriculumOptions("calibrated", 2, passes=1)
    return compile_plan(profile, PlanSettings(curriculum, batch_size=7, **options))


STUDENTS = {
    "untied": functools.partial(tiny_model, seed=1),
    "tied": functools.partial(tiny_model, seed=1, tie_word_embeddings=True),
    "softcap": softcapped,
    "lora": functools.partial(with_lora, ["q_proj", "down_proj"]),
    "lora_head": functools.partial(with_lora, ["q_proj", "lm_head"]),
}

ADAPTIVE = {"kind": "distillm", "init": 0.9, "epsilon": 0.0, "fresh": "constant", "capacity": 8,
            "every": 2}  # fmt: skip
"""Fresh text, kept text and the data in a few steps."""

SCENARIOS = {
    **{name: {"student": name} for name in STUDENTS},
    "accumulated": {
        **{"student": "tied", "micro": 2, "accumulation": 2},
        "micro_batch_tokens": 12,  # parts of micro-batches, too
    },
    "in_parts": {"student": "untied", "micro_batch_tokens": 12},
    "empty": {"student": "untied", "micro": 1, "accumulation": 5},
    "averaged": {"student": "untied", "average": {"kind": "ema", "decay": 0.5}},
    "states": {"student": "untied", "state_weight": 1.0, "ce_weight": 0.2},
    "on_policy": {"student": "untied", "on_policy": 1.0},
    "reused": {"student": "untied", "on_policy": 1.0, "own": {"reuse": 2}, "micro": 2},
    "adaptive": {
        **{"student": "untied", "on_policy": 1.0, "own": {"adaptive": ADAPTIVE}},
        "kill_after": 5,  # what it goes on with are kept answers alone
    },
    "killed": {"student": "tied", "kill_after": 3},
}


def trainer_of(name, folder, *, shard="none", callbacks=(), teacher=None):
    """The trainer of a scenario, which logs into a folder."""
    told = dict(SCENARIOS[name])
    student = STUDENTS[told.pop("student")]()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    micro, accumulation = told.pop("micro", 4), told.pop("accumulation", 1)
    share, ce_weight = told.pop("on_policy", 0.0), told.pop("ce_weight", 0.3)
    told.pop("kill_after", None)
    own, more = None, told.pop("own", {})
    if share:
        settings = GenerationSettings(max_new_tokens=4, sampling_temperature=1.0)
        own = OwnAnswers(build_tokenizer(), settings, seed=5, **more)
    rows = random_rows(28)
    return DistillTrainer(
        student,
        DistillConfig(
            output_dir=str(folder / "work"),
            learning_rate=1e-2,
            per_device_train_batch_size=micro * (2 if world == 1 else 1),
            gradient_accumulation_steps=accumulation,
            save_strategy="steps" if "kill_after" in SCENARIOS[name] else "no",
            save_steps=2,
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            seed=7,
            shard=shard,
            **told,
        ),
        rows,
        teacher=teacher or tiny_model(seed=2, hidden=24, layers=3),
        plan=plan_of(rows, on_policy=share, ce_weight=ce_weight),
        eval_dataset=random_rows(5, seed=3),
        own_answers=own,
        callbacks=[MetricsFile(folder / "metrics.jsonl"), *callbacks],
    )


def carried_out(name, folder, shard="none"):
    """A training, killed and gone on with where its scenario says so; its trainer."""
    folder.mkdir(parents=True, exist_ok=True)
    kill = SCENARIOS[name].get("kill_after")
    if kill:
        with contextlib.suppress(KeyboardInterrupt):
            trainer_of(name, folder, shard=shard, callbacks=[Stop(kill)]).train()
    trainer = trainer_of(name, folder, shard=shard)
    count = CountHead(trainer) if name == "accumulated" and trainer.shards is not None else None
    if count is not None:
        trainer.add_callback(count)
    trainer.train(resume_from_checkpoint=bool(kill))
    if count is not None:
        (folder / "counts.json").write_text(json.dumps(count.steps))
    return trainer


def weights(trainer):
    """All weights of a trained student, by name."""
    with trainer.whole():
        if trainer.shards is not None:
            return trainer.shards.state()
        return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def found(name, folder, shard="none"):
    """What a training comes to."""
    trainer = carried_out(name, folder, shard)
    evaluated = trainer.evaluate()
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [{k: row[k] for k in ("step", "loss", "ce", "grad_norm")} for row in log]
    return {"log": rows, "eval": evaluated["eval_loss"]}, weights(trainer)


STORES = {"hidden": StoreSpec("hidden", {"is": "tiny"}, "letters", VOCAB, dtype="float32")}
STORES["topk"] = dataclasses.replace(STORES["hidden"], kind="topk", top_k=5)


def filled(kind, folder):
    """Fill a store in batches of 8 tokens, by a teacher that is cut where there are several."""
    spec, rows, teacher = STORES[kind], random_rows(61), tiny_model(seed=2, hidden=24, layers=3)
    processes = Processes()
    processes.by_first(begin_store, folder, spec, teacher)
    several = processes.count > 1
    if several:
        cut(teacher, torch.device("cpu"))
    with mock.patch.object(write, "SMALLEST_SHARD", 2048):  # so that each has other shards
        fill_store(
            folder,
            spec,
            teacher,
            rows,
            batch_tokens=8,
            process=processes.index,
            processes=processes.count,
            by_first=processes.by_first if several else None,
        )
    processes.wait()


def listing(folder):
    """What is in a folder, by name, with its size."""
    return {str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*") if p.is_file()}


def copied(base, rank):
    """What a host that sees another folder has after each step; the first one's beside it."""
    run, cache = base / "run", base / "cache"
    group = torch.distributed.new_group(backend="gloo")
    found = []

    def note(*folders):
        found.append([listing(folder) for folder in folders or (run, cache)])

    def write(path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    run.mkdir(parents=True)
    copies = HostCopies(run, cache, rank, [0, 1], group, group)
    work = run / "training"
    if rank == 0:
        write_sealed(run / "cache.json", {"names": ["store"]})
        write(run / "part" / "large", bytes(40_000_000))
        write(run / "part" / "empty", b"")
        write(cache / "store" / "shard", b"12345")
        write(cache / "of_another_run" / "shard", b"12345")
    else:
        write(run / "old", b"1")
        write(cache / "own" / "shard", b"1")
    copies.bring()
    note()
    if rank == 0:
        (run / "part" / "empty").unlink()
        write(run / "part" / "large", b"now small")
        write(work / "checkpoint-2" / "model", b"123")
    else:
        write(work / "checkpoint-1" / "random_1", b"1")
        write(work / "checkpoint-2" / "random_1", b"12")
        write(work / "rollouts" / "of_1", b"1")
    copies.collect(work / "checkpoint-2", work / "rollouts")
    copies.bring()
    note()
    copies.bring_work(work)
    note(work)
    write(work / "rollouts" / f"later_{rank}", b"123")
    copies.collect(work / "rollouts", everywhere=True)
    note(work / "rollouts")
    if rank == 0:
        write(run / ".scratch", b"")
    try:
        copies.bring()
    except ConfigError as error:
        found.append(str(error))
    return found


if __name__ == "__main__":
    folder, shard, *names = sys.argv[1:]
    torch.set_num_threads(1)
    for name in names or SCENARIOS:
        place = Path(folder) / name
        said, state = found(name, place, shard)
        if os.environ["RANK"] == "0":
            place.joinpath("found.json").write_text(json.dumps(said))
            torch.save(state, place / "weights.pt")
            print(name, said["log"][-1], flush=True)
    if shard == "both":
        rank = int(os.environ["RANK"])
        sums = {name: in_slices.sliced(told, rank) for name, told in in_slices.CASES.items()}
        torch.save(sums, Path(folder) / f"slices_{rank}.pt")
        base = Path(folder) / f"host_{rank}"
        base.with_suffix(".json").write_text(json.dumps(copied(base, rank)))
        for kind in STORES:
            filled(kind, Path(folder) / kind)
    torch.distributed.destroy_process_group()
