"""Which method, which learning rate: a study made to measure for a recipe and a span of time."""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tutelage.errors import ConfigError, RunFolderError, unknown_name
from tutelage.files import atomic_write_text, remove_directory
from tutelage.recipe import LoadedRecipe, load_recipe, shipped, to_yaml
from tutelage.recipe.loss_checks import check_states
from tutelage.recipe.sections import FileData, Loss
from tutelage.recipe.words import SettingError
from tutelage.studies.cells import Cell
from tutelage.studies.load import load_study
from tutelage.studies.run import run_study
from tutelage.studies.search import search_updates
from tutelage.studies.watch import StudyState

AS_IS = "as_is"
"""The arm that is the recipe as it was given; all are held against it."""

METHODS = ("kld_states", "kld", "skl", "sft")
"""What is tried beside the recipe's own method, unless methods are named; hidden states only where
the teacher has them."""

_ARMS: dict[str, dict[str, Any]] = {
    "kld": {"extends": "kld", "loss": {"ce_weight": 0.0}},
    "kld_ce": {"extends": "kld"},
}
"""Arms that are no recipe of their own name as it is."""

_RATES = {5: (0.25, 0.5, 1.0, 2.0, 4.0), 3: (0.5, 1.0, 2.0)}
_KEEP = 1 / 3
_RUNGS = 3
_LEAST = 3
"""Runs that reach the last rung."""

_SIZES = ((5, 10), (5, 5), (3, 5), (3, 3))
"""Learning rates for each method, and seeds of the final runs: the first that fits is taken."""

_LEAST_PART = 0.1
"""Shorter runs than such a part of the recipe's own would tell nothing of it."""

_TO_ANSWER = 0.4
"""Evaluating a student takes about such a part of its training: known only afterwards."""

_USED = 0.8
"""Part of the budget that is planned for; runs differ in what they take."""


@dataclass(frozen=True)
class Fitted:
    """How large a study fits into the time.

    Attributes:
        rates: learning rates for each method.
        seeds: final runs of the winner, and of the recipe as it is.
        updates: of each run.
        whole: updates that the recipe itself makes.
        seconds: what it will take, about.
    """

    rates: int
    seeds: int
    updates: int
    whole: int
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes:
        state: the study as it ended.
        fitted: how large it was.
        best: the winner of the search with the settings that were chosen; None when the time ended
            before there was one.
        file: the recipe that it recommends, written; None when there is no winner.
    """

    state: StudyState
    fitted: Fitted
    best: Cell | None
    file: Path | None


def fit(budget: float, workers: int, updates: int, per_update: float, methods: int) -> Fitted:
    """The largest study that fits into some seconds.

    Args:
        budget: seconds that are left.
        workers: runs at once.
        updates: of the recipe.
        per_update: seconds of one.
        methods: how many are tried, with the recipe's own.

    Raises:
        ConfigError: not even the smallest one with the shortest runs does.
    """

    def seconds(rates: int, seeds: int, count: int) -> float:
        return _seconds(rates, seeds, count, per_update, methods) / workers

    time_there = budget * _USED
    for rates, seeds in _SIZES:
        if seconds(rates, seeds, updates) <= time_there:
            return Fitted(rates, seeds, updates, updates, seconds(rates, seeds, updates))
    rates, seeds = _SIZES[-1]
    count = math.floor(updates * time_there / seconds(rates, seeds, updates))
    if count < max(1, _LEAST_PART * updates):
        need = seconds(rates, seeds, math.ceil(_LEAST_PART * updates)) / _USED
        raise ConfigError(
            f"The budget cannot tell anything: an update of this recipe takes {per_update:.2g} s"
            f" here and it makes {updates:,}; trying {methods} methods with a tenth of them takes"
            f" about {need / 60:.0f} minutes. Give --budget more, name fewer --methods, or tune"
            " a smaller recipe (--set data.limit_train=..., curriculum.total_steps=...)."
        )
    return Fitted(rates, seeds, count, updates, seconds(rates, seeds, count))


def _seconds(rates: int, seeds: int, updates: int, per_update: float, methods: int) -> float:
    """What a study takes with one worker, its search and its final runs."""
    search = search_updates(updates, methods * rates + 1, _RUNGS, _KEEP, _LEAST) * per_update
    return search + 2 * seeds * updates * per_update * (1 + _TO_ANSWER)


def tune(
    recipe: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    budget: float,
    methods: Sequence[str] | None = None,
    workers: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Tuned:
    """Find the method and the learning rate for a recipe's models and data within some time.

    Methods and learning rates race by successive halving on the likelihood of the validation data's
    answers; then the winner and the recipe as it is are trained with fresh seeds and asked the test
    data, which no decision saw.

    Args:
        recipe: as :func:`tutelage.run` takes it.
        overrides: ``a.b=c``.
        budget: seconds in all.
        methods: names of shipped methods, or ``kld_ce``; None for ``METHODS``.
        workers: runs at once; None for one for each core.
        say: called with lines on what goes on.

    Raises:
        TutelageError: the recipe cannot be run, or the budget is too small to tell anything.
    """
    began = time.time()
    loaded = load_recipe(recipe, overrides)
    methods = _methods(loaded) if methods is None else methods
    _check(loaded, methods)
    methods = _others(loaded, methods)
    count = workers or os.cpu_count() or 1
    base, folder = _base(loaded)
    say(f"tune: how long an update of '{loaded.recipe.name}' takes")
    updates, per_update = _pilot(base, folder, loaded)
    left = budget - (time.time() - began)
    fitted = fit(left, count, updates, per_update, len(methods) + 1)
    say(_plan_words(fitted, methods, loaded))
    study = _study(loaded, base, fitted, methods, count)
    state = run_study(study, workers=count, budget=left, say=say)
    best = next(reversed(state.due.chosen.values()), None)
    file = None if best is None else _write(folder, state, best, fitted, loaded)
    return Tuned(state, fitted, best, file)


def _methods(loaded: LoadedRecipe) -> Sequence[str]:
    """Those that a recipe's teachers allow."""
    recipe = loaded.recipe
    wants = Loss(state_weight=1.0)
    try:
        check_states(wants, recipe.ladder.values(), recipe.teacher_schedule)
    except SettingError:
        return [name for name in METHODS if name != "kld_states"]
    return METHODS


def _others(loaded: LoadedRecipe, methods: Sequence[str]) -> Sequence[str]:
    """Those that are not the recipe's own, which is tuned with all that the recipe says of it."""
    return [name for name in methods if name != loaded.recipe.arm]


def _check(loaded: LoadedRecipe, methods: Sequence[str]) -> None:
    known = {*_ARMS, *shipped()}
    for method in methods:
        if method not in known:
            raise unknown_name("method", method, sorted(known))
    data = loaded.recipe.data_section
    held_out = data.validation or (isinstance(data, FileData) and data.validation_share)
    if not held_out:
        raise ConfigError(
            "Tuning decides on validation data and judges on test data, and the recipe has no"
            " validation data. Add --set data.validation=FILE or --set data.validation_share=0.1"
            " (of the embedded task --set data.validation=200)."
        )


def _base(loaded: LoadedRecipe) -> tuple[Path, Path]:
    """The recipe in a file of its own, and the folder of the tuning."""
    recipe = loaded.recipe
    folder = Path(recipe.output) / "studies" / f"tune-{recipe.name}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "base.yaml"
    atomic_write_text(path, to_yaml(loaded))
    return path.resolve(), folder


def _pilot(base: Path, folder: Path, loaded: LoadedRecipe) -> tuple[int, float]:
    """Updates that the recipe makes, and seconds of one, from the first few."""
    from tutelage.pipeline.trial import price
    from tutelage.studies.pilot import timed

    plain = load_study(_alone(loaded, base)).recipe(Cell(AS_IS), {"student": 0})
    place = folder / "pilot"
    updates = price(plain, place).updates
    plain["selection"] = {"metric": None}
    _, each, _ = timed(plain, place, until=min(updates, max(4, updates // 20)))
    remove_directory(place)
    return updates, max(1e-3, each)


def _alone(loaded: LoadedRecipe, base: Path) -> dict[str, Any]:
    return {
        "name": f"tune-{loaded.recipe.name}",
        "base": str(base),
        "arms": {AS_IS: {}},
        "output": loaded.recipe.output,
        "equal": {"updates": max(1, loaded.recipe.curriculum.stages)},
    }


def _study(
    loaded: LoadedRecipe, base: Path, fitted: Fitted, methods: Sequence[str], workers: int
) -> dict[str, Any]:
    """The study that fits."""
    rate = loaded.recipe.training.learning_rate
    rates = [float(f"{rate * factor:.3g}") for factor in _RATES[fitted.rates]]
    stages = min(loaded.recipe.curriculum.stages, max(1, fitted.updates // 2))
    arms: dict[str, Any] = {AS_IS: {}, loaded.recipe.arm: {}}
    arms |= {name: _ARMS.get(name, {"extends": name}) for name in methods}
    return {
        **_alone(loaded, base),
        "title": f"Tuning {loaded.recipe.name}",
        "claim": "Another method or learning rate is better than the recipe as it is.",
        "set": {"curriculum": {"stages": stages}},
        "arms": arms,
        "control": AS_IS,
        "equal": {"updates": fitted.updates},
        "seeds": fitted.seeds,
        "threads": max(1, (os.cpu_count() or 1) // workers),
        "search": {
            "factors": {"training.learning_rate": rates},
            "arms": {AS_IS: {}},
            "rungs": _RUNGS,
            "keep": _KEEP,
            "least": _LEAST,
            "across_arms": True,
        },
    }


def _plan_words(fitted: Fitted, methods: Sequence[str], loaded: LoadedRecipe) -> str:
    part = ""
    if fitted.updates < fitted.whole:
        part = (
            f" of {fitted.whole:,} that the recipe makes (the budget holds no more; what is best"
            " for short runs need not be best for long ones)"
        )
    names = ", ".join([loaded.recipe.arm, *methods])
    return (
        f"tune: {names}, each with {fitted.rates} learning rates, in runs of {fitted.updates:,}"
        f" updates{part}; then {fitted.seeds} seeds each of the winner and of the recipe as it is;"
        f" about {fitted.seconds / 60:.0f} minutes"
    )


def _write(
    folder: Path, state: StudyState, best: Cell, fitted: Fitted, loaded: LoadedRecipe
) -> Path:
    """The winner as a recipe that runs: the given one with its changes, at its own length."""
    if best.arm == AS_IS:
        plain = yaml.safe_load((folder / "base.yaml").read_text(encoding="utf-8"))
    else:
        plain = state.loaded.recipe(best, {"student": loaded.recipe.student_seed})
        plain["curriculum"] = {**plain["curriculum"], "total_steps": fitted.whole}
    plain |= {"name": f"{loaded.recipe.name}-tuned", "seeds": loaded.recipe.all_seeds}
    plain["output"] = loaded.recipe.output
    path = folder / "tuned.yaml"
    head = f"# {best.trial}: what `tutelage tune` recommends; its evidence is beside it.\n"
    atomic_write_text(path, head + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    try:
        load_recipe(path)
    except ConfigError as error:  # no user can cause it
        raise RunFolderError(f"The tuned recipe '{path}' cannot be read again: {error}") from error
    return path
