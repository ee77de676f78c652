"""Results of studies as runs write them, from numbers that a test knows."""

import numpy as np

from tutelage.studies.load import load_study
from tutelage.studies.results import Result, Scores
from tutelage.types import Ledger

STUDY = {
    "name": "made",
    "title": "Is calibrated better?",
    "claim": "Calibrated sampling beats the linear one at equal updates.",
    "base": "embedded_cpd",
    "arms": {"kld": {"extends": "kld"}, "cpd": {"extends": "cpd"}},
    "seeds": 4,
    "equal": {"by": "updates", "updates": 60},
    "measures": ["test:exact_match"],
}
GRID = {
    **STUDY,
    "factors": {
        "loss.ce_weight": [0.0, 0.5],
        "training.learning_rate": [0.001, 0.002, 0.004],
    },
}


def study(**changes):
    return load_study({**STUDY, **changes})


def scores(right, prefix="q", clusters=None):
    """Scores of an exact match, with two groups of difficulty."""
    count = len(right)
    return Scores(
        ids=[f"{prefix}{i}" for i in range(count)],
        values=[float(value) for value in right],
        clusters=clusters or [""] * count,
        groups=["easy" if i < count // 2 else "hard" for i in range(count)],
    )


def ledger(steps=60, factor=1.0, **more):
    flops = {"training": 3e11 * factor, "teacher": 1e11, **more}
    seconds = {"training": 12.0 * factor, **({"difficulty": 2.0} if more else {})}
    return Ledger(round(steps * factor), 90_000, flops, seconds)


def result(cell, seed, right, **changes):
    """One final run."""
    changes = {"scores": {"test:exact_match": scores(right)}, **changes}
    given = {
        "key": f"{cell.arm}-s{seed}",
        "role": "final",
        "cell": cell.name,
        "arm": cell.arm,
        "levels": {level.factor: level.label for level in cell.levels},
        "tuned": {},
        "seeds": {"student": seed},
        "steps": 60,
        "total_steps": 60,
        "references": {"teacher": {"test:exact_match": 0.9}},
        "agreement": {"forward_kl": 0.2 + 0.01 * seed, "num_tokens": 900},
        "curve": [
            {
                "step": step,
                "seconds": 0.2 * step,
                "log_likelihood": -2 / (1 + step / 20) - 0.01 * seed,
            }
            for step in (20, 40, 60)
        ],
        "ledger": ledger(),
        "versions": {"tutelage": "1.0", "python": "3.12"},
    }
    return Result(**{**given, **changes})


def all_results(loaded, gains=None, examples=80, seeds=None, **changes):
    """A run of every cell and seed; by name of the arm how much likelier right its answers are."""
    found = []
    for number, cell in enumerate(loaded.cells):
        for place, given in enumerate(loaded.study.seeds.all):
            seed = dict(given)["student"]
            if seeds is not None and seed not in seeds:
                continue
            rng = np.random.default_rng([number, place])
            easy = np.random.default_rng(7).random(examples)
            share = 0.5 + (gains or {}).get(cell.arm, 0.0) + 0.02 * rng.standard_normal()
            found.append(
                result(cell, seed, easy + 0.3 * rng.random(examples) < share + 0.15, **changes)
            )
    return found
