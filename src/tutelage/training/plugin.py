"""A plan inside somebody else's trainer: order of the data, learning rate and scheduled values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer
from transformers.trainer_callback import TrainerCallback, TrainerState

from tutelage.curriculum.options import LOSS_VALUES
from tutelage.data.lengths import count_tokens
from tutelage.errors import ConfigError, DataError, did_you_mean, unknown_name
from tutelage.training.batches import PlanSampler, join_by_id, planned_loader
from tutelage.training.optimizer import plan_scheduler, restart_where_planned
from tutelage.types import Plan

Setter = Callable[[float], None]


def follow_plan(
    trainer: Trainer,
    plan: Plan,
    *,
    ids: Sequence[str] | None = None,
    values: Mapping[str, str | Setter] | None = None,
    learning_rate: bool = True,
) -> None:
    """Make any ``transformers.Trainer`` carry out a plan; call it before ``train``.

    Batches, their order and their cut into accumulation steps and processes become those of the
    plan; so do the number of updates, the learning rate and optimizer restarts. Before every update
    the plan's values are handed to whatever of the trainer can take them, and every record of the
    log says what they were. A resumed run continues the plan where it was.

    What this relies on: ``Trainer`` calls its own ``get_train_dataloader``, ``create_scheduler``
    and ``log`` by name, which are replaced on this instance alone, and ``on_step_begin``. The loss
    stays the trainer's own, with its own averaging.

    Args:
        trainer: any ``transformers.Trainer``, set up with its data, and not yet trained.
        plan: what to do at which step. Each step needs at least one example for every micro-batch
            of every process: compile it with ``remainder="drop"``.
        ids: id of each row of the training data, in its order; not needed when the trainer's
            data set has a column ``id``.
        values: for each of ``LOSS_VALUES`` that the trainer can use, the dotted path of one of its
            attributes (``"temperature"``, ``"args.beta"``) or a function to call with the value.
        learning_rate: let the plan rule the learning rate; False keeps the trainer's schedule.

    Raises:
        ConfigError: an unknown value or attribute, steps that are too small to cut up, or a plan
            with what no loss of another trainer does.
        DataError: rows cannot be told by id, or the plan names examples that the data lacks.

    Example:
        >>> trainer = SFTTrainer(model, args, train_dataset=rows)  # doctest: +SKIP
        >>> follow_plan(trainer, plan, ids=rows["id"])  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
    """
    _check_alone(plan)
    args = trainer.args
    parts = args.gradient_accumulation_steps * args.world_size
    fewest = int(np.diff(plan.offsets).min())
    if fewest < parts:
        raise ConfigError(
            f"A step of the plan has {fewest} examples, and this trainer cuts steps into {parts}"
            " micro-batches, none of which may be empty. Compile the plan with remainder='drop', or"
            " use a larger batch or less accumulation."
        )
    setters = {name: _setter(trainer, name, where) for name, where in (values or {}).items()}
    sampler = PlanSampler(
        plan,
        join_by_id(plan, _ids(trainer, ids)),
        _lengths(trainer.train_dataset),
        args.gradient_accumulation_steps,
        args.world_size,
        args.process_index,
    )
    # The plan holds every pass over the data, so it is one epoch to transformers.
    args.num_train_epochs, args.max_steps = 1, -1
    hooks: Any = trainer
    hooks.get_train_dataloader = lambda: _loader(trainer, _Rows(sampler))
    if learning_rate:
        hooks.create_scheduler = lambda num_training_steps, optimizer=None: plan_scheduler(
            trainer, plan, optimizer
        )
    hooks.log = _logging(trainer, plan, trainer.log)
    trainer.add_callback(_HandOver(trainer, plan, setters))


def _check_alone(plan: Plan) -> None:
    """Refuse what would be left out without a word: another trainer knows nothing of it."""
    lost = {
        "weights of examples (`curriculum.weights`)": len(plan.visit_weight) > 0,
        "steps on the student's own answers (`on_policy`)": bool(plan.on_policy.any()),
    }
    for what in (what for what, is_planned in lost.items() if is_planned):
        raise ConfigError(
            f"The plan has {what}, which another trainer would leave out. Compile it without them,"
            " or use DistillTrainer."
        )


class _Rows(Sampler[list[int]]):
    """Rows of each micro-batch."""

    def __init__(self, inner: PlanSampler) -> None:
        self._inner = inner

    def __len__(self) -> int:
        return len(self._inner)

    def __iter__(self) -> Iterator[list[int]]:
        for visits in self._inner:
            yield [row for row, _, _ in visits]


def _ids(trainer: Trainer, ids: Sequence[str] | None) -> Sequence[str]:
    rows: Any = trainer.train_dataset
    if rows is None or not hasattr(rows, "__len__"):
        raise DataError(
            "A plan needs a training data set whose rows can be addressed; this trainer has"
            f" {'none' if rows is None else 'a stream'}. Load the data whole."
        )
    if "id" in (getattr(rows, "column_names", None) or ()):
        return [str(one) for one in rows["id"]]
    if ids is None:
        raise DataError(
            "The trainer's data set has no column 'id' (its set-up may have removed it), so rows"
            " cannot be told apart. Pass ids=, one for each row in order."
        )
    if len(ids) != len(rows):
        raise DataError(
            f"{len(ids)} ids were passed for {len(rows)} rows: the trainer has packed, split or"
            " dropped rows while it was set up. Switch packing off, and filter the data before."
        )
    return list(ids)


def _lengths(rows: Any) -> np.ndarray:
    """Tokens of each row, where rows are tokens; equal lengths otherwise."""
    if "input_ids" in (getattr(rows, "column_names", None) or ()):
        return count_tokens(rows)
    return np.ones(len(rows), dtype=np.int64)


def _setter(trainer: Trainer, name: str, where: str | Setter) -> Setter:
    if name not in LOSS_VALUES:
        raise unknown_name("scheduled value", name, LOSS_VALUES)
    if not isinstance(where, str):
        return where
    *path, last = where.split(".")
    owner: Any = trainer
    for part in path:
        owner = getattr(owner, part, None)
    if not hasattr(owner, last):
        known = [attribute for attribute in dir(owner) if not attribute.startswith("_")]
        raise ConfigError(
            f"{type(trainer).__name__} has no attribute '{where}' to put {name} into."
            f"{did_you_mean(last, known)} Name one that its loss reads, or a function."
        )
    return lambda value: setattr(owner, last, value)


def _loader(trainer: Any, batches: _Rows) -> DataLoader:
    """The plan's micro-batches of the trainer's rows."""
    rows = trainer.train_dataset
    remove = getattr(trainer, "_remove_unused_columns", None)
    if remove is not None and hasattr(rows, "column_names"):
        rows = remove(rows, description="training")
    return planned_loader(rows, batches, trainer.data_collator, trainer.args)


def _logging(trainer: Trainer, plan: Plan, log: Callable[..., None]) -> Callable[..., None]:
    def with_values(logs: dict[str, Any], *given: Any, **named: Any) -> None:
        if "loss" in logs:
            step = trainer.state.global_step - 1
            stage = plan.stage_of(step)
            now = {name: float(getattr(plan, name)[step]) for name in LOSS_VALUES}
            logs = {**logs, "stage": stage.stage, **now}
        log(logs, *given, **named)

    return with_values


class _HandOver(TrainerCallback):
    """Hand the plan's values over before each update, and restart the optimizer where it says."""

    def __init__(self, trainer: Any, plan: Plan, setters: Mapping[str, Setter]) -> None:
        self._trainer = trainer
        self._plan = plan
        self._setters = setters

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **keywords: Any) -> None:
        """Before the first micro-batch of an update."""
        restart_where_planned(self._trainer, self._plan)
        for name, put in self._setters.items():
            put(float(getattr(self._plan, name)[state.global_step]))
