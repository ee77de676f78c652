"""Settings that optuna asks for: the next ones, from what is known of those before.

What is asked depends on the results that are told and on the seed alone, and is written down as a
result before any run of it is begun: killed anywhere, a study asks for the same again. Optuna's own
journal in the study's folder is made anew from the results each time, so that no kill leaves half a
line in it, and no worker waits for the lock of one that is gone.

References:
    Akiba et al., Optuna, KDD 2019, arXiv:1907.10902; the tree-structured Parzen estimator:
    Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011.
"""

import contextlib
import importlib.util
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tutelage.errors import MissingDependencyError
from tutelage.files import atomic_write_bytes
from tutelage.proofs import fingerprint
from tutelage.studies.spaces import Range

FIRST = 8
"""Trials that are drawn at random before anything is known."""

AT_ONCE = 4
"""Trials that are asked for together afterwards: so many workers have something to do."""


@dataclass(frozen=True)
class Asking:
    """A question to the sampler.

    Attributes:
        space: by factor the bounds of a range, or labels; see ``Space.plain``.
        told: settings that were tried, in the order in which they were asked for, with their
            values, higher being better; None for a run that diverged.
        count: how many more are asked for.
        seed: of the search.
    """

    space: Mapping[str, Any]
    told: Sequence[tuple[Mapping[str, Any], float | None]]
    count: int
    seed: int

    @property
    def key(self) -> str:
        """The same for the same question."""
        return fingerprint(asdict(self))


def next_count(asked: int, trials: int) -> int:
    """How many settings are asked for when so many were."""
    return min(AT_ONCE if asked else FIRST, trials - asked)


def has_optuna() -> bool:
    """Whether optuna is there."""
    try:
        return importlib.util.find_spec("optuna") is not None
    except ValueError:  # what is there is no module
        return False


def need_optuna() -> None:
    """Make sure that optuna is there.

    Raises:
        MissingDependencyError: it is not.
    """
    if not has_optuna():
        raise MissingDependencyError(
            "The study's search has `sampler: optuna`, and the package 'optuna' is not installed."
            " Install it: pip install 'tutelage[optuna]'. Or search a grid (`sampler: grid`)."
        )


def journal_of(folder: Path, cell: str) -> Path:
    """Where optuna's journal of the search of a cell is, in the folder of a study."""
    name = re.sub(r"[^A-Za-z0-9._+]+", "_", cell).strip("_")
    return folder / "optuna" / f"{name[:100]}-{fingerprint(cell)[:6]}.journal"


def ask(asking: Asking, journal: Path) -> list[dict[str, Any]]:
    """The next settings to try.

    Args:
        asking: what is known.
        journal: optuna's journal of the search, in which they are put.

    Returns:
        By factor a number of its range, or the label of a level.
    """
    import optuna

    distributions, found = _distributions(asking.space), []
    with _study(asking, journal) as study:
        for number in range(len(asking.told), len(asking.told) + asking.count):
            # A seed of its own for each, so that it does not matter in whose process it is drawn.
            seed = int(fingerprint([asking.seed, number])[:8], 16)
            study.sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=FIRST, constant_liar=True
            )
            found.append(_readable(asking.space, study.ask(distributions).params))
    return found


def write_journal(asking: Asking, journal: Path) -> None:
    """Put what is known of a search into optuna's journal, for its own tools."""
    with _study(asking, journal):
        pass


@contextlib.contextmanager
def _study(asking: Asking, journal: Path) -> Iterator[Any]:
    """What is known as a study of optuna, whose journal is kept when the block ends well."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        path = Path(folder) / "journal"
        backend = JournalFileBackend(str(path))
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name=journal.stem,
            direction="maximize",
        )
        distributions = _distributions(asking.space)
        for settings, value in asking.told:
            worth = float("-inf") if value is None else value
            study.add_trial(
                optuna.create_trial(params=dict(settings), distributions=distributions, value=worth)
            )
        yield study
        atomic_write_bytes(journal, path.read_bytes())


def _distributions(space: Mapping[str, Any]) -> dict[str, Any]:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    found: dict[str, Any] = {}
    for factor, one in space.items():
        if not isinstance(one, Mapping):
            found[factor] = CategoricalDistribution(list(one))
        elif Range(**one).whole:
            found[factor] = IntDistribution(**{**one, "step": one["step"] or 1})
        else:
            found[factor] = FloatDistribution(**one)
    return found


def _readable(space: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {
        factor: Range(**one).nearest(chosen[factor]) if isinstance(one, Mapping) else chosen[factor]
        for factor, one in space.items()
    }
