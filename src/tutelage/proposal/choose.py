"""From what was seen to settings, each with its reason."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tutelage.data.sources import Source
from tutelage.models import ModelSize
from tutelage.models.products import fast_in
from tutelage.pipeline.context.display import size_text
from tutelage.pipeline.context.models import device
from tutelage.pipeline.stages.memory import Sizes, memory_of, training_memory
from tutelage.proposal.look import Seen
from tutelage.recipe import Recipe, load_recipe

_ROOM = 0.6
"""Of the memory that there is, for training: the rest is for what a formula does not know."""

_UPDATES = 400
_MOST_PASSES, _LEAST_PASSES = 20, 3
_FEW = 1000
"""Rows below which none are spared for validation."""


@dataclass(frozen=True)
class Setting:
    """One line of a recipe.

    Attributes:
        key: dotted key.
        value: its value.
        reason: why.
    """

    key: str
    value: Any
    reason: str


def propose(seen: Seen, method: str | None = None) -> list[Setting]:
    """The settings of a recipe, in the order in which they are written.

    Args:
        seen: models and data.
        method: name of a shipped method; None chooses one.
    """
    method, why = (method, "as asked") if method is not None else choose_method(seen)
    base = load_recipe(method, partial=True).recipe
    validates = bool(seen.data.validation) or seen.data.rows >= _FEW or base.looks_at_validation
    found = [Setting("extends", method, why), *_models(seen), *_data(seen, validates)]
    training, dtype = _training(seen, base)
    if dtype is not None:
        found.insert(2, dtype)
    selects = validates and base.selection.metric is None
    return [*found, *training, *_judging(seen, selects)]


def choose_method(seen: Seen) -> tuple[str, str]:
    """A method that these models allow, by our evidence."""
    if seen.foreign is not None:
        return (
            "seqkd",
            "the models' tokens or ends differ, so the teacher writes answers and the student"
            " learns them as text",
        )
    return (
        "kld_states",
        "forward KL and the teacher's hidden states: ahead of all other methods in our studies"
        " (docs/choosing.md); `tutelage ls` lists the others",
    )


def _models(seen: Seen) -> Iterator[Setting]:
    yield Setting("teacher.model", seen.teacher.name, _described(seen.teacher.size))
    size = _described(seen.student.size)
    ratio = seen.teacher.size.parameters / max(seen.student.size.parameters, 1)
    if seen.layers is not None:
        yield Setting("student.init_from", "TEACHER", "the student is cut from the teacher")
        yield Setting("student.layers", seen.layers, f"evenly spaced: {size}")
    else:
        yield Setting(
            "student.model", seen.student.name, f"{size}; the teacher has {ratio:.1f} times as many"
        )


def _described(size: ModelSize) -> str:
    number = size.parameters
    text = f"{number / 1e9:.2f}B" if number >= 1e9 else f"{number / 1e6:.1f}M"
    return (
        f"{text} parameters, {size.layers} layers of width {size.hidden_size:,},"
        f" {size.vocab_size:,} rows in the head"
    )


def _data(seen: Seen, validates: bool) -> Iterator[Setting]:
    data = seen.data
    copies = f", {data.copies:,} copies among them" if data.copies else ""
    mixed = "; all rows of all of them: weights mix them (docs/data.md)" * (len(data.train) > 1)
    own = "; columns guessed, look whether they are right" * any(one.columns for one in data.train)
    yield Setting(
        "data.train",
        _written(data.train),
        f"{data.form}: {data.rows:,} examples of {data.shape}{copies}; template: {data.template}"
        f"{mixed}{own}",
    )
    if data.columns:
        yield Setting(
            "data.columns",
            dict(data.columns),
            "guessed from the names of the columns: look whether it is right",
        )
    if data.validation:
        written = _written([data.validation])
        yield Setting("data.validation", written, "selects the checkpoint")
    elif validates:
        yield Setting(
            "data.validation_share",
            _share(0.05, 500, data.rows),
            "held out, to select the checkpoint",
        )
    if data.test:
        yield Setting("data.test", _written([data.test]), f"{data.test_rows:,} examples")
    else:
        share = _share(0.1, 1000, data.rows)
        yield Setting(
            "data.test_share",
            share,
            f"held out: about {share * data.rows:.0f} examples say whether it worked",
        )
    limits = limits_of(seen)
    for key, length, found in (
        ("max_length", limits.total, data.total),
        ("max_prompt_length", limits.prompt, data.prompt),
    ):
        spoken = ", ".join(f"{q:.0%} up to {n:,}" for q, n in found.items())
        if limits.positions is not None and found[1.0] > length:
            spoken = f"{spoken}; the models have {limits.positions:,} positions"
        what = "prompt and answer" if key == "max_length" else "the prompt"
        yield Setting(f"data.{key}", length, f"tokens of {what}: {spoken}")


def _written(sources: Sequence[Source]) -> Any:
    """Sources as a recipe says them: one that is a path alone, or a list."""
    found = [
        one.path if one.columns is None else {"path": one.path, "columns": {**one.columns}}
        for one in sources
    ]
    return found[0] if len(found) == 1 and isinstance(found[0], str) else found


@dataclass(frozen=True)
class Limits:
    """Lengths in tokens.

    Attributes:
        total: of prompt and answer, as ``data.max_length``.
        prompt: of the prompt.
        answer: of an answer that is written.
        positions: of the model that has the fewest; None where none names any.
    """

    total: int
    prompt: int
    answer: int
    positions: int | None


def limits_of(seen: Seen) -> Limits:
    """Limits that keep the data, as far as the models can read them."""
    data = seen.data
    known = [model.positions.limit for model in (seen.teacher, seen.student)]
    positions = min((limit for limit in known if limit is not None), default=None)
    total = _fitting(data.total[0.99], data.total[1.0])
    prompt = _fitting(data.prompt[0.99], data.prompt[1.0])
    answer = min(1024, max(16, 8 * math.ceil(1.25 * data.answer[1.0] / 8)))
    if positions is not None:
        total, prompt = min(total, positions), min(prompt, max(positions // 2, 1))
        answer = min(answer, positions - prompt)
    return Limits(total, prompt, answer, positions)


def _share(share: float, most: int, rows: int) -> float:
    """A share of rows, that of so many at most, with two digits."""
    return float(f"{min(share, most / rows):.2g}")


def _fitting(usual: int, longest: int) -> int:
    """A limit that keeps all, unless a few are far longer than the others."""
    length = longest if longest <= 1.5 * usual else usual
    return max(16, 16 * math.ceil(length / 16))


def learning_rate(parameters: int) -> float:
    """A peak rate by the student's size, one digit: 0.008 at 0.1M parameters, 0.001 at 60M.

    Between and beyond by the cube root, which is what joins the two; above half a billion not
    above what is usual in fine-tuning, for there our studies say nothing.
    """
    rate = 8e-3 * (1e5 / max(parameters, 1e5)) ** (1 / 3)
    if parameters > 5e8:
        rate = min(rate, 1e-4)
    if parameters > 3e9:
        rate = 2e-5
    return float(f"{rate:.0e}")


def _training(seen: Seen, base: Recipe) -> tuple[list[Setting], Setting | None]:
    """Optimizer, batches and precision; and a type for the teacher's weights, if one is needed."""
    here, size = device(), seen.student.size
    fast = fast_in(torch.bfloat16, here)
    precision = "bfloat16" if fast else "float32"
    rows = seen.data.rows
    batch = next((b for b in (64, 32, 16) if rows * _MOST_PASSES / b >= _UPDATES / 2), 8)
    fit = fitting(seen, precision, batch, memory_of(here))
    passes = min(_MOST_PASSES, max(_LEAST_PASSES, math.ceil(_UPDATES * batch / rows)))
    rate = 2e-4 if fit.lora else learning_rate(size.parameters)
    found = [
        Setting(
            "training.learning_rate",
            rate,
            "usual for adapters; look for yours: `tutelage tune`"
            if fit.lora
            else "by the student's size: our studies chose 0.008 for 0.1M parameters and 0.001 for"
            " 60M (docs/choosing.md). It matters more than the method: `tutelage tune` finds yours",
        ),
        Setting("training.lr_schedule", "linear", "with the next line, as in our studies"),
        Setting("training.min_lr_ratio", 0.1, "the rate at the end, as a part of its peak"),
        Setting("training.batch_size", batch, f"examples of an update, of {rows:,}"),
        Setting("training.micro_batch_size", fit.micro, fit.reason),
        Setting(
            "training.precision",
            precision,
            f"{here.type}: {'fast' if fast else 'no instructions for bfloat16, so it is slow'} here"
            if here.type == "cpu" or not fast
            else f"fast on {here.type}",
        ),
    ]
    if fit.checkpointing:
        found.append(Setting("training.gradient_checkpointing", True, "without it, too large"))
    if fit.lora:
        found.append(Setting("training.lora.rank", 16, "all weights are too many to train here"))
    if base.curriculum.kind == "random":
        # Other curricula have stages with a meaning of their own.
        found.append(
            Setting(
                "curriculum.stages",
                passes,
                "so many passes over the data: about"
                f" {math.ceil(passes * rows / batch):,} updates; `tutelage plan` says how long that"
                " takes",
            )
        )
    dtype = None
    if fast and seen.teacher.size.parameters > 1e9:
        dtype = Setting("teacher.dtype", "bfloat16", "half of the memory")
    return found, dtype


@dataclass(frozen=True)
class Fit:
    """How a training fits into memory.

    Attributes:
        micro: examples in memory at once.
        reason: with the numbers.
        checkpointing: whether layers are run again in the backward pass.
        lora: whether adapters are trained, and not all weights.
    """

    micro: int
    reason: str
    checkpointing: bool = False
    lora: bool = False


def fitting(seen: Seen, precision: str, batch: int, there: int | None) -> Fit:
    """The largest micro-batch that fits; with less in memory where none does.

    Args:
        seen: models and data.
        precision: type of the products.
        batch: examples of an update.
        there: bytes of memory; None where nobody says.
    """
    longest = min(seen.data.total[1.0], limits_of(seen).total)

    def need(micro: int, checkpointing: bool, lora: bool) -> int:
        size = seen.student.size
        trained = 2 * 2 * 7 * size.layers * 16 * size.hidden_size if lora else size.parameters
        return training_memory(
            _sizes(size),
            _sizes(seen.teacher.size),
            trainable=min(trained, size.parameters),
            tokens=micro * longest,
            live=seen.foreign is None,
            precision=precision,
            checkpointed=checkpointing,
        ).total

    ways = ((False, False), (True, False), (True, True))
    for checkpointing, lora in ways:
        for micro in (m for m in (64, 32, 16, 8, 4, 2, 1) if m <= batch):
            taken = need(micro, checkpointing, lora)
            if there is None or taken <= _ROOM * there:
                said = f"examples at once: about {size_text(taken)}"
                beside = f" of {size_text(there)}" if there is not None else ""
                return Fit(micro, said + beside, checkpointing, lora)
    taken = need(1, True, True)
    return Fit(
        1,
        f"even so about {size_text(taken)} are needed, and this machine has"
        f" {size_text(there or 0)}: see docs/scale.md",
        True,
        True,
    )


def _sizes(size: ModelSize) -> Sizes:
    return Sizes(size.parameters, size.outside, size.layers, size.hidden_size, size.vocab_size)


def _judging(seen: Seen, selects: bool) -> Iterator[Setting]:
    data = seen.data
    if selects:
        name = "log_likelihood" if seen.foreign is not None else "neg_forward_kl"
        yield Setting(
            "selection.metric",
            name,
            "the checkpoint nearest to the teacher on the validation data is kept"
            if seen.foreign is None
            else "the checkpoint that finds the validation answers likeliest is kept",
        )
    if data.metric is not None:
        name, why = data.metric
        yield Setting("evaluation.metrics", {name: {}}, why)
    longest = limits_of(seen).answer
    yield Setting(
        "evaluation.max_new_tokens",
        longest,
        f"answers have {data.answer[0.5]:,} tokens by the median and {data.answer[1.0]:,} at most",
    )
    if seen.foreign is not None:
        yield Setting("supervision.max_new_tokens", longest, "of the answers that it writes")
        if data.metric is not None:
            yield Setting(
                "supervision.verifier", {"kind": data.metric[0]}, "tells right answers from wrong"
            )
            yield Setting("supervision.on_wrong", "drop", "wrong ones are not learned")
