"""A made-up run folder with every file that a report reads."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ARMS = ("cpd", "sft", "forward_kl")
# Chance to solve level 1 .. 5, by model: the control "forward_kl" wins over the main arm "cpd".
SKILL = {
    "teacher": (0.99, 0.98, 0.97, 0.95, 0.93),
    "student_before": (0.60, 0.20, 0.05, 0.01, 0.0),
    "cpd": (0.97, 0.92, 0.80, 0.58, 0.35),
    "sft": (0.93, 0.83, 0.62, 0.40, 0.22),
    "forward_kl": (0.97, 0.93, 0.83, 0.66, 0.47),
    "last": (0.96, 0.92, 0.79, 0.57, 0.36),
}
RECIPE = """name: fake
seed: 13
training: {learning_rate: 0.001, note: "a <b>bold</b> & brave value"}
"""


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _interval(values: np.ndarray) -> list[float]:
    half = 1.96 * float(values.std()) / len(values) ** 0.5
    return [max(0.0, float(values.mean()) - half), min(1.0, float(values.mean()) + half)]


def write_evaluation(folder: Path, model: str, tests: int, *, agreement: bool) -> None:
    """scores.json, answers.jsonl and agreement.json of one model."""
    rng = np.random.default_rng(sum(map(ord, model)))
    level = np.arange(tests) % 5
    solved = (rng.random(tests) < np.array(SKILL[model])[level]).astype(float)
    overlap = np.clip(0.4 + 0.5 * solved + 0.1 * rng.random(tests), 0, 1)
    rows, scores = [], {}
    for i in range(tests):
        a, b = 13 + i, 7 + 3 * i
        answer = a + b if solved[i] else a + b + 10
        rows.append(
            {
                "id": f"test-{i:04d}",
                "prompt": f"{a}+{b}=?",
                "reference": f"{a}+{b}={a + b}\nanswer: {a + b}",
                "answer": f"{a}+{b}={answer}\nanswer: {answer}",
                "group": f"level {level[i] + 1}",
                "scores": {"exact_match": solved[i], "rouge_l": overlap[i]},
            }
        )
    for metric, values in (("exact_match", solved), ("rouge_l", overlap)):
        scores[metric] = {
            "mean": float(values.mean()),
            "seeds": [float(values.mean())],
            "interval": _interval(values),
            "groups": {f"level {k + 1}": float(values[level == k].mean()) for k in range(5)},
        }
    _write(folder / "scores.json", {"num_examples": tests, "truncated": 0.01, "scores": scores})
    _write_rows(folder / "answers.jsonl", rows)
    if agreement:
        _write(
            folder / "agreement.json",
            {
                "forward_kl": 0.0712,
                "reverse_kl": 0.0815,
                "top1_agreement": 0.964,
                "student_nll": 0.213,
                "teacher_nll": 0.151,
                "num_tokens": 20411,
            },
        )


def make_plan(arm: str, scores: np.ndarray, steps: int) -> tuple[dict, dict]:
    """plan.json and the columns of steps.parquet for one arm."""
    ordered, total = np.sort(scores), len(scores)
    running = np.cumsum(ordered) / np.arange(1, total + 1)
    count = 4 if arm == "cpd" else 1
    teacher = "" if arm == "sft" else "strong"
    stages = []
    for k in range(1, count + 1):
        target = running[0] + (running[-1] - running[0]) * k / count
        size = min(total, int(np.searchsorted(running, target)) + 1) if k < count else total
        stages.append(
            {
                "stage": k,
                "num_examples": size,
                "mean_difficulty": float(running[size - 1]),
                "target_difficulty": float(target) if count > 1 else None,
                "passes": steps / count * 8 / size,
                "steps": steps // count,
                "student_share": (k - 1) / count,
                "distill_temperature": 1 + (k - 1) / count if teacher else 1.0,
                "ce_weight": 0.3 if teacher else 1.0,
                "teacher": teacher,
            }
        )
    done = sum(stage["steps"] for stage in stages)
    of_stage = np.repeat(np.arange(count), [stage["steps"] for stage in stages])
    columns = {key: [stages[k][key] for k in of_stage] for key in stages[0] if key != "steps"}
    columns["step"] = list(range(done))
    columns["lr_factor"] = [0.5 * (1 + float(np.cos(np.pi * s / done))) for s in range(done)]
    keep = ("step", "stage", "student_share", "distill_temperature", "ce_weight", "lr_factor")
    exposure = []
    plain = done * 8 / total
    for decile in range(10):
        reached = [s for s in stages if s["num_examples"] > decile * total / 10]
        visits = sum(s["steps"] * 8 / s["num_examples"] for s in reached)
        late = len(reached) / count
        exposure.append(
            {
                "decile": decile + 1,
                "visits": visits * total / 10,
                "lr_visits": visits * 0.5 * late**2 * total / 10,
                "teacher_visits": (visits * 0.4 * late**4 if teacher else 0.0) * total / 10,
                "plain_visits": plain * total / 10,
                "plain_lr_visits": plain * 0.5 * total / 10,
            }
        )
    plan = {
        "recipe": "fake",
        "fingerprint": "ab12" * 16,
        "num_examples": total,
        "total_steps": done,
        "baseline_steps": done,
        "stages": stages,
        "exposure": exposure,
        "warnings": ["Decile 10 gets almost nothing: <2 % of a plain run."] if count > 1 else [],
    }
    return plan, {key: columns[key] for key in (*keep, "teacher")}


def _write_arm(folder: Path, arm: str, scores: np.ndarray, steps: int, tests: int) -> None:
    rng = np.random.default_rng(len(arm))
    pace = 0.1 + 0.02 * len(arm)
    plan, columns = make_plan(arm, scores, steps)
    (folder / "plan").mkdir(exist_ok=True)
    _write(folder / "plan" / "plan.json", plan)
    pq.write_table(pa.table(columns), folder / "plan" / "steps.parquet")
    rows = []
    for step in range(plan["total_steps"]):
        ce = 0.25 + 1.2 * float(np.exp(-step / (pace * steps))) + 0.02 * rng.standard_normal()
        kd = None if arm == "sft" else 0.6 * ce
        rows.append(
            {
                "step": step + 1,
                "stage": columns["stage"][step],
                "loss": ce if kd is None else 0.3 * ce + 0.7 * kd,
                "ce": ce,
                "kd": kd,
                "student_share": columns["student_share"][step],
                "distill_temperature": columns["distill_temperature"][step],
                "ce_weight": columns["ce_weight"][step],
                "learning_rate": 1e-3 * columns["lr_factor"][step],
                "grad_norm": 1.0 + 0.1 * rng.random(),
                "token_agreement": None if kd is None else 0.97 - 0.3 * kd,
                "teacher": columns["teacher"][step],
                "response_tokens": 640,
                "seconds": 0.05,
            }
        )
    _write_rows(folder / "metrics.jsonl", rows)
    every = max(1, steps // 8)
    checks = range(every, steps + 1, every)
    _write_rows(
        folder / "validation.jsonl",
        [
            {"step": step, "exact_match": 0.8 * (1 - float(np.exp(-0.5 * step / pace / steps)))}
            for step in checks
        ],
    )
    write_evaluation(folder / "evaluation", arm, tests, agreement=arm != "sft")


def make_run(folder: Path, *, examples: int = 200, steps: int = 40, tests: int = 60) -> Path:
    """Write a whole run folder of a given size and return its path."""
    rng = np.random.default_rng(0)
    scores = np.sort(rng.gamma(2.0, 0.35, examples))[rng.permutation(examples)]
    groups = [f"level {1 + int(4.99 * (scores < s).mean())}" for s in scores]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    versions = {"tutelage": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "threads": 2}
    _write(folder / "versions.json", versions)
    _write(
        folder / "run.json",
        {
            "name": "quickstart",
            "title": "Quickstart: arithmetic with a written-out rationale",
            "description": "A small student learns chained arithmetic <script>alert(1)</script>.",
            "paper": "Zhang and Liu 2026, Calibrated Progressive Distillation",
            "main_arm": "cpd",
            "arms": list(ARMS),
            "fingerprint": "ab12" * 16,
            "seed": 13,
            "started": "2026-01-05T10:00:00+00:00",
            "finished": "2026-01-05T10:03:10+00:00",
            "seconds": {"data": 1.2, "difficulty": 9.5, "train cpd": 60.1, "evaluate cpd": 12.0},
            "student": {"name": "assets/student", "parameters": 412_032},
            "teacher": {"name": "assets/strong", "parameters": 1_310_976},
            "baseline_steps": steps,
        },
    )
    split = {
        "loaded": examples + 12,
        "kept": examples,
        "dropped": {"longer than 128 tokens": 10, "empty response": 2},
        "dropped_ids": {},
        "duplicates": 1,
        "prompt_tokens": examples * 12,
        "response_tokens": examples * 40,
        "total_tokens": examples * 52,
        "template": "{prompt}",
        "groups": {f"level {k}": examples // 5 for k in range(1, 6)},
    }
    _write(folder / "data" / "summary.json", {"train": split, "validation": split, "test": split})
    (folder / "difficulty").mkdir()
    table = {
        "id": [f"train-{i}" for i in range(examples)],
        "score": scores,
        "num_tokens": [40] * examples,
        "group": groups,
    }
    pq.write_table(pa.table(table), folder / "difficulty" / "profile.parquet")
    quantiles = {
        q: float(np.quantile(scores, float(q))) for q in ("0.1", "0.25", "0.5", "0.75", "0.9")
    }
    _write(
        folder / "difficulty" / "summary.json",
        {
            "measure": "student_loss",
            "unit": "nats per token",
            "num_examples": examples,
            "mean": float(scores.mean()),
            "std": float(scores.std()),
            "min": float(scores.min()),
            "max": float(scores.max()),
            "quantiles": quantiles,
            "groups": {
                group: {
                    "mean": float(
                        np.mean([s for s, g in zip(scores, groups, strict=True) if g == group])
                    ),
                    "count": groups.count(group),
                }
                for group in sorted(set(groups))
            },
            "seconds": 9.5,
            "tokens_per_second": 4321.0,
        },
    )
    for arm in ARMS:
        (folder / "arms" / arm).mkdir(parents=True)
        _write_arm(folder / "arms" / arm, arm, scores, steps, tests)
    write_evaluation(folder / "arms" / "cpd" / "evaluation_last", "last", tests, agreement=True)
    for model in ("teacher", "student_before"):
        write_evaluation(
            folder / "references" / model / "evaluation", model, tests, agreement=False
        )
    return folder


@pytest.fixture(scope="session")
def new_run() -> Callable[..., Path]:
    """``make_run``: tests cannot import it, because there are several modules called conftest."""
    return make_run


@pytest.fixture(scope="session")
def new_ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with three teachers; to read from."""
    folder = make_run(tmp_path_factory.mktemp("ladder") / "run", examples=30, steps=8, tests=20)
    info = json.loads((folder / "run.json").read_text())
    info["ladder"] = {name: f"models/{name}" for name in ("weak", "middle", "strong")}
    _write(folder / "run.json", info)
    for name, like in (("middle", "cpd"), ("weak", "sft")):
        place = folder / "references" / f"teacher-{name}" / "evaluation"
        write_evaluation(place, like, 20, agreement=False)
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder to read from; tests that write make their own."""
    return make_run(tmp_path_factory.mktemp("fake") / "quickstart-ab12cd34")
