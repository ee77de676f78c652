"""What becomes of a value of another tool: ours by dotted key, or why there is none."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.importing.rows import Row

Found = dict[str, Any]
"""Ours by dotted key."""


class NoCounterpartError(Exception):
    """A value that nothing here stands for; its text says why."""


@dataclass(frozen=True)
class Context:
    """What else the file says.

    Attributes:
        given: all its settings, by dotted key, what the tool takes by default included.
        mode: trainer of the tool, or its name.
    """

    given: Mapping[str, Any]
    mode: str

    def get(self, key: str, near: str) -> Any:
        """A setting of the section in which another one stands."""
        section = near.rpartition(".")[0]
        return self.given.get(f"{section}.{key}" if section else key)


How = Callable[[Any, Row, Context], Found]


def _same(value: Any, row: Row, context: Context) -> Found:
    return {row.to: value}


def _number(value: Any, row: Row, context: Context) -> Found:
    return {row.to: float(value)}


def _count(value: Any, row: Row, context: Context) -> Found:
    if float(value) < 1 or float(value) != int(float(value)):
        raise NoCounterpartError("ours is a whole number from 1 on")
    return {row.to: int(float(value))}


def _steps(value: Any, row: Row, context: Context) -> Found:
    return {row.to: int(value), "curriculum.stages": 1} if int(value) > 0 else {}


def _course(value: Any, row: Row, context: Context) -> Found:
    name = {"cosine": "cosine", "linear": "linear", "constant": "constant"}.get(str(value))
    if name is None and value == "constant_with_warmup":
        name = "constant"
    if name is None:
        raise NoCounterpartError("training.lr_schedule is cosine, linear or constant")
    return {row.to: name}


def _warmup(value: Any, row: Row, context: Context) -> Found:
    number = float(value)
    if number < 1:
        return {row.to: number} if number else {}
    steps = context.get("max_steps", row.key) or 0
    if int(steps) <= 0:
        raise NoCounterpartError("a share of the steps here: set training.warmup_ratio")
    return {row.to: min(1.0, number / int(steps))}


def _epochs(value: Any, row: Row, context: Context) -> Found:
    if int(context.get("max_steps", row.key) or 0) > 0:
        raise NoCounterpartError("max_steps is given, and decides")
    number = float(value)
    if number == int(number):
        return {"curriculum.stages": int(number), "curriculum.passes": 1.0}
    return {"curriculum.stages": 1, "curriculum.passes": number}


def _micro(value: Any, row: Row, context: Context) -> Found:
    return {row.to: int(value)}


def _batch(value: Any, row: Row, context: Context) -> Found:
    device = context.get("per_device_train_batch_size", row.key)
    device = device or context.get("micro_batch_size", row.key) or 1
    return {row.to: int(value) * int(device)}


def _precision(value: Any, row: Row, context: Context) -> Found:
    return {row.to: "bfloat16"} if value in (True, "auto", "full", "true") else {}


def _trackers(value: Any, row: Row, context: Context) -> Found:
    named = [value] if isinstance(value, str) else list(value)
    known = [name for name in named if name in ("tensorboard", "trackio", "wandb")]
    if not known and any(name not in ("none", "all") for name in named):
        raise NoCounterpartError("training.report_to knows tensorboard, trackio and wandb")
    return {row.to: known}


def _lengths(value: Any, row: Row, context: Context) -> Found:
    # These tools know no limit for prompts; ours must not drop what theirs kept.
    return {"data.max_length": int(value), "data.max_prompt_length": int(value)}


def _beta(value: Any, row: Row, context: Context) -> Found:
    number = float(value)
    if number in (0.0, 1.0):
        return {row.to: {"kind": "reverse_kl" if number else "forward_kl"}}
    return {row.to: {"kind": "jsd", "jsd_beta": number}}


def _temperature(value: Any, row: Row, context: Context) -> Found:
    number = float(value)
    if context.mode != "trl distillation":
        return {row.to: number}
    more = {"loss.distill_temperature": number, "loss.tau2_scaling": False}
    return {row.to: number, **more}


def _seq_kd(value: Any, row: Row, context: Context) -> Found:
    if not value:
        return {}
    if float(context.given.get("lmbda") or 0) > 0:
        raise NoCounterpartError(
            "together with lmbda: choose `extends: seqkd` (the teacher's answers) or on_policy"
        )
    return {row.to: "seqkd"}


def _switch(value: Any, row: Row, context: Context) -> Found:
    return {row.to: "kld" if value else "sft"}


def _stage(value: Any, row: Row, context: Context) -> Found:
    if value != "sft":
        raise NoCounterpartError(f"'{value}' is no training of answers; the rest is as for sft")
    return {row.to: "sft"}


def _weights(value: Any, row: Row, context: Context) -> Found:
    hard = float(context.given.get("kd_ce_alpha") or 0.0)
    soft = context.given.get("kd_alpha")
    return {row.to: _share(hard, 1.0 if soft is None else float(soft))}


def _share(hard: float, soft: float) -> float:
    if hard < 0 or soft < 0 or not math.isfinite(hard + soft) or hard + soft == 0:
        raise NoCounterpartError("the two weights have no sum that they could be shares of")
    return round(hard / (hard + soft), 6)


def _topk(value: Any, row: Row, context: Context) -> Found:
    if value is None:
        return {}
    return {"teacher.top_k": int(value), "teacher.signal": "topk"}


def _share_held(value: Any, row: Row, context: Context) -> Found:
    number = float(value)
    if number >= 1:
        raise NoCounterpartError("a share of the training data here, below 1")
    return {row.to: number}


_ADAPTERS: Mapping[str, Mapping[str, float]] = {
    "trl": {"rank": 16, "alpha": 32, "dropout": 0.05},
    "llamafactory": {"rank": 8, "dropout": 0.0},
    "axolotl": {"dropout": 0.0},
}
"""By tool what its adapters are where a file is silent."""


def trains_adapters(context: Context) -> bool:
    """Whether a file trains adapters at all; what it says of them counts only then."""
    given = context.given
    if context.mode == "llamafactory":
        return given.get("finetuning_type", "lora") == "lora"
    if context.mode.startswith("axolotl"):
        return given.get("adapter") in ("lora", "qlora")
    return bool(given.get("use_peft"))


def _adapter(value: Any, row: Row, context: Context) -> Found:
    if not trains_adapters(context):
        if value in (None, "", "full", False):
            return {}
        raise NoCounterpartError("all weights are trained here, or plain LoRA adapters")
    given, tool = context.given, context.mode.partition(" ")[0]
    values = dict(_ADAPTERS.get(tool, {}))
    if tool == "llamafactory":  # its adapters are scaled by twice their rank
        values["alpha"] = 2 * int(given.get("lora_rank") or values["rank"])
    asked = {
        "rank": ("lora_r", "lora_rank"),
        "alpha": ("lora_alpha",),
        "dropout": ("lora_dropout",),
    }
    found: Found = {
        f"training.lora.{name}": number
        for name, number in values.items()
        if all(given.get(key) is None for key in asked[name])
    }
    if value == "qlora":
        found["?"] = "qlora: the base model is quantised; here it has whole weights"
    targets = ("lora_target_modules", "lora_target", "lora_target_linear")
    if tool == "trl" and all(given.get(key) is None for key in targets):
        found["?"] = (
            "no lora_target_modules: peft then takes those of the architecture (mostly q_proj and"
            " v_proj), and ours are all linear layers: see training.lora.target_modules"
        )
    return found


def _modules(value: Any, row: Row, context: Context) -> Found:
    if value in ("all", "all-linear") or value == ["all"]:
        return {row.to: "all-linear"}
    if isinstance(value, str) and "," in value:
        value = [name.strip() for name in value.split(",")]
    return {row.to: [value] if isinstance(value, str) else value}


def _linear(value: Any, row: Row, context: Context) -> Found:
    return {row.to: "all-linear"} if value else {}


def _dtype(value: Any, row: Row, context: Context) -> Found:
    if value not in ("float32", "bfloat16"):
        raise NoCounterpartError("student.dtype is float32 or bfloat16")
    return {row.to: value}


def _revision(value: Any, row: Row, context: Context) -> Found:
    return {} if value == "main" else {row.to: value}


def _config(value: Any, row: Row, context: Context) -> Found:
    names = ("dataset_name", "dataset.train_dataset.repo_id")
    name = next((context.given[key] for key in names if key in context.given), None)
    if name is None:
        raise NoCounterpartError("a data set's name is missing")
    return {row.to: f"{name}:{value}"}


def _split(value: Any, row: Row, context: Context) -> Found:
    if value in ("train", "test", "validation"):
        return {}
    raise NoCounterpartError(row.note)


def _sources(value: Any, row: Row, context: Context) -> Found:
    names = [one.strip() for one in value.split(",")] if isinstance(value, str) else list(value)
    return {row.to: names if len(names) > 1 else names[0]}


def _datasets(value: Any, row: Row, context: Context) -> Found:
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        raise NoCounterpartError("name the sources in data.train: see docs/data.md")
    found = [_dataset(number, dict(one)) for number, one in enumerate(value)]
    places = [one.pop("data.train") for one in found]
    if len(places) > 1 and not all(places):
        raise NoCounterpartError("one of these data sets has no path: give each one in data.train")
    said = [text for one in found if (text := one.pop("?", None))]
    if any(one.get("data.template") != found[0].get("data.template") for one in found):
        raise NoCounterpartError(
            "these data sets are read in several ways, and here one template holds for all of"
            " data.train: give the files one shape"
        )
    if any(one != found[0] for one in found):
        named = [one.pop("data.columns", None) for one in found]
        places = [
            place if columns is None else {"path": place, "columns": columns}
            for place, columns in zip(places, named, strict=True)
        ]
    train = places if len(places) > 1 else places[0]
    return {"data.train": train, **found[0], **({"?": "; ".join(said)} if said else {})}


def _dataset(number: int, one: Found) -> Found:
    kind = str(one.pop("type", ""))
    found: Found = {"data.train": one.pop("path", None)}
    if one.get("name"):
        found["data.train"] = f"{found['data.train']}:{one.pop('name')}"
    if kind.startswith("alpaca"):
        found["data.template"] = "alpaca"
    elif "chat_template" in kind:
        found["data.template"] = "chat"
    messages = one.pop("field_messages", None)
    if messages and messages != "messages":
        found["data.columns"] = {"messages": messages}
    one.pop("split", None) if one.get("split") == "train" else None
    if one or not found["data.train"]:
        # What else it says must not be lost: it may be what the rows mean.
        found["?"] = (
            f"datasets[{number}] also says {', '.join(sorted(one)) or 'no path'}: see docs/data.md"
        )
    return found


_FUNCTIONS = {"kl": "forward_kl", "jsd": "jsd", "tvd": "tvd"}


def _functions(value: Any, row: Row, context: Context) -> Found:
    losses = [dict(one) for one in value]
    hard = sum(float(one["weight"]) for one in losses if one["function"] == "cross_entropy")
    soft = [one for one in losses if one["function"] != "cross_entropy"]
    known = [one for one in soft if one["function"] in _FUNCTIONS]
    if not soft:
        return {"loss.ce_weight": 1.0}
    if len(known) != 1:
        raise NoCounterpartError(
            "one divergence beside cross-entropy (kl, jsd, tvd); hidden states are"
            " loss.state_weight, a second divergence loss.second_divergence"
        )
    one = known[0]
    found: Found = {
        "loss.divergence": {"kind": _FUNCTIONS[one["function"]]},
        "loss.ce_weight": _share(hard, float(one["weight"])),
    }
    if one.get("temperature") is not None:
        found["loss.distill_temperature"] = float(one["temperature"])
    others = [other["function"] for other in soft if other is not one]
    keys = sorted({key for one in losses for key in one} - {"function", "weight", "temperature"})
    said = [f"the further losses {', '.join(others)} have none (see loss.state_weight)"] * bool(
        others
    )
    said += [f"{', '.join(keys)}: the tail of a truncated teacher is one token here"] * bool(keys)
    if said:
        found["?"] = "; ".join(said)
    return found


HOW: dict[str, How] = {
    "same": _same, "number": _number, "count": _count, "steps": _steps, "course": _course,
    "warmup": _warmup, "epochs": _epochs, "micro": _micro, "batch": _batch,
    "precision": _precision, "trackers": _trackers, "lengths": _lengths, "beta": _beta,
    "temperature": _temperature, "seq_kd": _seq_kd, "switch": _switch, "stage": _stage,
    "weights": _weights, "topk": _topk, "share": _share_held, "adapter": _adapter,
    "modules": _modules, "linear": _linear, "dtype": _dtype, "revision": _revision,
    "config": _config, "split": _split, "sources": _sources, "datasets": _datasets,
    "functions": _functions,
}  # fmt: skip
"""What becomes of values, by name."""
