"""Does successive halving find what the full grid finds, and for how much of its updates?

Reads the results of ``studies/search_grid.yaml``: every cell was run to its end and looked at on
the way, so what halving would have decided at each rung is known without running it again (a run
that is stopped and goes on is the same bit for bit, which ``tests/e2e/test_e2e_study.py`` shows).

    tutelage study studies/search_grid.yaml
    python benchmarks/halving.py studies/search_grid.yaml [--output runs] [--rungs 3] [--json FILE]
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.statistics import paired_difference
from tutelage.studies.load import load_study
from tutelage.studies.results import Result
from tutelage.studies.search import going_on, ranking, rung_steps, rung_value, spent
from tutelage.studies.watch import state_of


def halved(
    runs: Sequence[Result], measure: str, rungs: Sequence[int], keep: float
) -> tuple[int, list[int]]:
    """The place of the run that halving ends with, and how many runs each rung had."""
    running, entered = list(range(len(runs))), []
    for number, step in enumerate(rungs):
        entered.append(len(running))
        values = [rung_value(runs[i].curve, measure, step, best=False) for i in running]
        best = ranking(values)[:1] if number == len(rungs) - 1 else going_on(values, keep)
        running = [running[place] for place in best]
    return running[0], entered


def one_search(runs: Sequence[Result], measure: str, num_rungs: int, keep: float) -> dict[str, Any]:
    """Halving beside the full grid, over the cells of one seed."""
    total = runs[0].total_steps
    every = int(runs[0].curve[0]["step"])
    rungs = rung_steps(total, num_rungs, keep)
    if any(step % every for step in rungs[:-1]):
        raise SystemExit(f"the curves look at every {every} updates, and the rungs are {rungs}")
    found, entered = halved(runs, measure, rungs, keep)
    ends = [rung_value(run.curve, measure, total, best=False) for run in runs]
    full = ranking(ends)[0]
    name, theirs = next(iter(runs[full].scores.items()))
    ours = runs[found].scores[name]
    difference = paired_difference(by_id(ours), by_id(theirs))
    assert difference is not None
    return {
        "seed": runs[0].seeds["student"],
        "full_grid": runs[full].cell,
        "halving": runs[found].cell,
        "place_in_full_grid": ranking(ends).index(found) + 1,
        "updates_of_the_grid": spent(rungs, entered) / (total * len(runs)),
        "measure": {"full_grid": ends[full], "halving": ends[found]},
        "test": {
            "metric": name,
            "full_grid": theirs.mean,
            "halving": ours.mean,
            "difference": difference.interval.mean,
            "interval": [difference.interval.low, difference.interval.high],
        },
    }


def by_id(scores: Any) -> Mapping[str, float]:
    """Values of a measure by example."""
    return dict(zip(scores.ids, scores.values, strict=True))


def main() -> None:
    """Print a line for each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--output", default="runs")
    parser.add_argument("--rungs", type=int, default=3)
    parser.add_argument("--keep", type=float, default=1 / 3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    loaded = load_study(options.study, {"output": options.output})
    state = state_of(loaded)
    if not state.finished:
        raise SystemExit("the study is not finished; carry it out first")
    finals = [state.results[name] for name in state.due.wanted]
    searches = []
    for seeds in loaded.study.seeds.all:
        of_seed = [run for run in finals if dict(run.seeds) == dict(seeds)]
        search = one_search(of_seed, loaded.study.curve_measure, options.rungs, options.keep)
        searches.append(search)
        test = search["test"]
        print(
            f"seed {search['seed']}: halving ends with '{search['halving']}', number"
            f" {search['place_in_full_grid']} of {len(of_seed)} in the full grid"
            f" ('{search['full_grid']}'), for {100 * search['updates_of_the_grid']:.0f} % of its"
            f" updates; {test['metric']} {100 * test['halving']:.1f} against"
            f" {100 * test['full_grid']:.1f} ({100 * test['difference']:+.1f}, 95 %"
            f" {100 * test['interval'][0]:+.1f} to {100 * test['interval'][1]:+.1f})"
        )
    if options.json is not None:
        facts = {"study": options.study.stem, "searches": searches, "versions": finals[0].versions}
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
