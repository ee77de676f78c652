"""Twenty steps of a tiny model, stored: a change of numerics shows here and must be explained.

To store them anew: ``python tests/numerics/test_numerics_trajectory.py`` and a line under
Numerics in the changelog that says why.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest_models import random_rows, tiny_model
from tutelage import DistillConfig, DistillTrainer
from tutelage.curriculum import (
    CurriculumOptions,
    LearningRate,
    PlanSettings,
    compile_plan,
    plan_fingerprint,
)
from tutelage.training.callbacks import MetricsFile
from tutelage.types import DifficultyProfile

STORED = Path(__file__).with_name("trajectories.json")
NAMES = ("loss", "ce", "kd", "grad_norm", "learning_rate", "token_agreement")

ARMS = {
    "cpd": {
        "curriculum": CurriculumOptions("calibrated", 5, total_steps=20),
        "student_share": {"kind": "shifted"},
        "distill_temperature": {"kind": "linear", "start": 1.0, "end": 2.0},
        "ce_weight": 0.3,
    },
    "kld": {"curriculum": CurriculumOptions("random", 1, total_steps=20), "ce_weight": 0.3},
    "rkl": {
        "curriculum": CurriculumOptions("random", 1, total_steps=20),
        "divergence": "reverse_kl",
    },
    "sft": {"curriculum": CurriculumOptions("random", 1, total_steps=20), "ce_weight": 1.0},
}


def trajectory(arm):
    rows = random_rows(32, seed=4)
    options = dict(ARMS[arm])
    divergence = options.pop("divergence", "forward_kl")
    scores = np.random.default_rng(0).gamma(4, 0.5, 32)
    plan = compile_plan(
        DifficultyProfile(tuple(rows["id"]), scores),
        PlanSettings(
            options.pop("curriculum"),
            batch_size=8,
            learning_rate=LearningRate("cosine", warmup_ratio=0.1),
            seed=5,
            **options,
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = DistillTrainer(
            tiny_model(seed=1),
            DistillConfig(
                folder,
                learning_rate=5e-3,
                per_device_train_batch_size=4,
                gradient_accumulation_steps=2,
                divergence=divergence,
                save_strategy="no",
                logging_steps=1,
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
            ),
            rows,
            teacher=tiny_model(seed=2, hidden=24, layers=3) if arm != "sft" else None,
            plan=plan,
            callbacks=[MetricsFile(Path(folder) / "metrics.jsonl")],
        )
        trainer.train()
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines]
    return {
        "plan": plan_fingerprint(plan)[:16],
        **{name: [row[name] for row in log] for name in NAMES if name in log[0]},
    }


@pytest.mark.parametrize("arm", sorted(ARMS))
def test_trajectory_is_the_stored_one(arm):
    stored, now = json.loads(STORED.read_text())["arms"][arm], trajectory(arm)
    assert now["plan"] == stored["plan"], "the plan changed: other examples at some step"
    for name in NAMES:
        if name in stored:
            # Other processors round otherwise; a change of the formula is far larger.
            assert now[name] == pytest.approx(stored[name], rel=2e-3, abs=2e-5), name


if __name__ == "__main__":
    import torch

    versions = {"torch": torch.__version__, "numpy": np.__version__}
    stored = {"versions": versions, "arms": {arm: trajectory(arm) for arm in ARMS}}
    STORED.write_text(json.dumps(stored, indent=1) + "\n")
