"""One table over the seeds of a run: ``python benchmarks/methods_table.py RUN_DIR RUN_DIR ...``.

The run folders must be of one recipe with different seeds of the student. Prints Markdown: for each
arm the mean over seeds of its main metric, the seeds themselves, the paired difference to an arm of
reference with a bootstrap interval over test examples, and the seconds of training.
"""

import json
import sys
from pathlib import Path

import numpy as np

BOOTSTRAPS = 2000


def load(folder: Path) -> dict:
    """Scores by example for each arm, and seconds."""
    run = json.loads((folder / "run.json").read_text())
    places = {arm: folder / "arms" / arm for arm in run["arms"]}
    places |= {p.name: p for p in (folder / "references").iterdir()}
    found = {}
    for arm, place in places.items():
        metric = next(iter(json.loads((place / "evaluation/scores.json").read_text())["scores"]))
        rows = [json.loads(line) for line in (place / "evaluation/answers.jsonl").open()]
        found[arm] = {row["id"]: row["scores"][metric] for row in rows}
    return {"arms": found, "seconds": run["seconds"], "seed": run["seeds"]["student"]}


def main(folders: list[str], reference: str = "kld") -> None:
    """Print the table."""
    runs = [load(Path(folder)) for folder in folders]
    ids = sorted(next(iter(runs[0]["arms"].values())))
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(ids), (BOOTSTRAPS, len(ids)))
    table = {
        arm: np.asarray([[run["arms"][arm][i] for i in ids] for run in runs])
        for arm in runs[0]["arms"]
    }
    print(
        f"| arm | mean, % | seeds {[run['seed'] for run in runs]} | minus {reference} | seconds |"
    )
    print("|---|---|---|---|---|")
    for arm in sorted(table, key=lambda name: -table[name].mean()):
        scores = table[arm]
        each = ", ".join(f"{100 * seed.mean():.1f}" for seed in scores)
        difference = (scores - table[reference]).mean(0)
        low, high = 100 * np.quantile(difference[draws].mean(1), [0.025, 0.975])
        seconds = [run["seconds"].get(f"training {arm}") for run in runs]
        spent = "" if None in seconds else f"{np.mean(seconds):.0f}"
        change = f"{100 * difference.mean():+.1f} ({low:+.1f} to {high:+.1f})"
        print(f"| {arm} | {100 * scores.mean():.1f} | {each} | {change} | {spent} |")


if __name__ == "__main__":
    reference = [a.removeprefix("--reference=") for a in sys.argv[1:] if a.startswith("--")]
    main([a for a in sys.argv[1:] if not a.startswith("--")], *reference)
