"""The trainers that are compared, set up alike: same rows in the same order, same optimizer."""

import time
from pathlib import Path
from typing import Any

from common import cpu_seconds, device_of, finish
from stored import store_bytes, stored_signal

CONTENDERS = {
    "plain": "transformers Trainer, fine-tuning",
    "trl_sft": "TRL SFTTrainer, no gradient checkpointing",
    "trl_sft_defaults": "TRL SFTTrainer, its default gradient checkpointing",
    "live": "Tutelage KD, teacher beside the student",
    "stored": "Tutelage KD, stored teacher",
    "trl_gkd": "TRL GKDTrainer lmbda=0 beta=0, no gradient checkpointing",
    "trl_gkd_defaults": "TRL GKDTrainer lmbda=0 beta=0, its default gradient checkpointing",
}
WITH_TEACHER = ("live", "stored", "trl_gkd", "trl_gkd_defaults")


def ordered(rows: Any, options: Any) -> tuple[Any, Any]:
    """The plan of a plain shuffled run, and the rows in its order for trainers without plans."""
    from tutelage.training import DistillConfig
    from tutelage.training.plain import plain_plan

    config = DistillConfig(
        "unused",
        num_train_epochs=options["passes"],
        max_steps=options["steps"] or -1,
        per_device_train_batch_size=options["batch_size"],
        seed=options["seed"],
        use_cpu=device_of(options) == "cpu",
    )
    plan = plain_plan(config, list(rows["id"]))
    return plan, rows.select(plan.visits.tolist())


def settings_of(task: dict[str, Any], folder: str) -> dict[str, Any]:
    """Arguments of training that all contenders have."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": task["batch_size"],
        "num_train_epochs": 1,
        "learning_rate": 1e-4,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": device_of(task) == "cpu",
        "bf16": task["precision"] == "bfloat16",
        "disable_tqdm": True,
        "seed": task["seed"],
    }


# The rows are in the plan's order already; a trainer that knows no plan must not shuffle them.
_AS_THEY_ARE = {"train_sampling_strategy": "sequential"}


def stopwatch(task: dict[str, Any], skip: int = 0) -> Any:
    """A callback that notes wall and processor time at the end of every step.

    On an accelerator it waits for the device after the steps that are not counted and at the end
    alone, so that work may overlap between them.
    """
    from transformers import TrainerCallback

    class Stopwatch(TrainerCallback):
        def __init__(self) -> None:
            self.wall: list[float] = []
            self.cpu: list[float] = []

        def _note(self) -> None:
            self.wall.append(time.perf_counter())
            self.cpu.append(cpu_seconds())

        def on_train_begin(self, *unused: Any, **keywords: Any) -> None:
            self._note()

        def on_step_end(self, args: Any, state: Any, *unused: Any, **keywords: Any) -> None:
            if state.global_step in (skip, state.max_steps):
                finish(device_of(task))
            self._note()

    return Stopwatch()


def _plain(student: Any, rows: Any, settings: dict[str, Any]) -> Any:
    import functools

    from transformers import Trainer, TrainingArguments

    from tutelage.data.collate import collate

    return Trainer(
        student,
        TrainingArguments(**settings, **_AS_THEY_ARE),
        train_dataset=rows.select_columns(["input_ids", "labels"]),
        data_collator=functools.partial(collate, pad_token_id=0),
    )


def _trl(name: str, student: Any, teacher: Any, rows: Any, settings: Any, tokenizer: Any) -> Any:
    checkpointing = {"gradient_checkpointing": name.endswith("_defaults"), "max_length": None}
    settings = {**settings, **_AS_THEY_ARE}
    if name.startswith("trl_sft"):
        from trl import SFTConfig, SFTTrainer

        return SFTTrainer(
            student,
            SFTConfig(**settings, **checkpointing),
            train_dataset=rows.select_columns(["input_ids", "labels"]),
            processing_class=tokenizer,
        )
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    # With skip_prepare_dataset rows reach the collator as they are; max_length is not applied.
    return GKDTrainer(
        student,
        teacher,
        GKDConfig(**settings, **checkpointing, lmbda=0.0, beta=0.0),
        train_dataset=rows.select_columns(["input_ids", "completion_mask", "prompt"]),
        processing_class=tokenizer,
    )


def _distill(
    student: Any, teacher: Any, rows: Any, plan: Any, settings: dict[str, Any], vocabulary: int
) -> Any:
    from tutelage.training import DistillConfig, DistillTrainer

    return DistillTrainer(
        student,
        DistillConfig(**settings),
        rows,
        teacher=teacher,
        plan=plan,
        vocab_size=vocabulary,
    )


def measure(
    task: dict[str, Any], student: Any, teacher: Any, rows: Any, tokenizer: Any, folder: str
) -> dict[str, Any]:
    """Train one contender and tell seconds: of the store, of the whole, and of each step.

    Args:
        task: ``contender``, ``precision``, ``batch_size``, ``seed``, ``passes``, ``steps``.
        student: to be trained.
        teacher: a model, or None.
        rows: a data set with ``id``, ``input_ids`` and ``labels``.
        tokenizer: the peers want one.
        folder: for whatever is written.
    """
    import torch

    name, settings = task["contender"], settings_of(task, folder)
    vocabulary = student.get_output_embeddings().weight.shape[0]
    autocast = torch.bfloat16 if settings["bf16"] else None
    plan, in_order = ordered(rows, task)
    if name.startswith("trl_gkd"):
        # Its collator takes the labels from the mask, and wants a prompt, which it then leaves.
        in_order = in_order.map(
            lambda row: {"completion_mask": [int(x != -100) for x in row["labels"]], "prompt": "-"}
        )
    watch, built, size = stopwatch(task, task.get("skip", 0)), 0.0, None
    start, start_cpu = time.perf_counter(), cpu_seconds()
    if name == "stored":
        teacher, built = stored_signal(
            teacher, rows, vocabulary, autocast, Path(folder) / "teacher_store"
        )
        size = store_bytes(teacher, Path(folder) / "teacher_store")
    if name in ("live", "stored"):
        settings["padding_free"] = task.get("padding_free")
        settings["state_weight"] = task.get("state_weight", 0.0)
        trainer = _distill(student, teacher, rows, plan, settings, vocabulary)
    elif name == "plain":
        trainer = _plain(student, in_order, settings)
    else:
        trainer = _trl(name, student, teacher, in_order, settings, tokenizer)
    trainer.add_callback(watch)
    trainer.train()
    whole, cpu = time.perf_counter() - start, cpu_seconds() - start_cpu
    assert len(watch.wall) == plan.total_steps + 1, "every contender makes the plan's steps"
    return {
        "whole": whole,
        "whole_cpu": cpu,
        "store": built,
        "store_bytes": size,
        "steps": [b - a for a, b in zip(watch.wall, watch.wall[1:], strict=False)],
        "steps_cpu": [b - a for a, b in zip(watch.cpu, watch.cpu[1:], strict=False)],
        "losses": [log["loss"] for log in trainer.state.log_history if "loss" in log],
    }
