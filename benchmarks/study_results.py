"""The results page of a finished study, its numbers and picture, for ``docs/results/studies``.

tutelage study studies/methods.yaml
python benchmarks/study_results.py studies/methods.yaml [--set base=...] [--output runs]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tutelage.report.quantities import duration
from tutelage.report.svg import PANEL_WIDTH
from tutelage.studies.analysis import Analysis, CellAnalysis, analyse
from tutelage.studies.load import load_study, parse_changes
from tutelage.studies.plots import forest_figure
from tutelage.studies.table import as_dict
from tutelage.studies.verdicts import p_text
from tutelage.studies.watch import StudyState, state_of

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "studies"


def page(state: StudyState, analysis: Analysis, file: str, sets: str = "") -> str:
    """The page as Markdown; what was found is written by hand above the line.

    Args:
        state: of the finished study.
        analysis: of its runs.
        file: of the study, in ``studies``.
        sets: what its command has behind it.
    """
    study = state.loaded.study
    lines = [f"# {analysis.title}", "", f"**Claim.** {study.claim}", ""]
    lines += [f"- {sentence}" for sentence in as_dict(analysis)["verdict"]]
    name = state.loaded.study.name
    lines += ["", f"![differences to the control]({name}.png)"]
    lines += ["", *_table(analysis), "", *_how(state, analysis, file, sets), ""]
    return "\n".join(lines)


def _table(analysis: Analysis) -> list[str]:
    measures = [analysis.measures[0], *(m for m in analysis.measures if m.key == "forward_kl")]
    heads = ["cell", "chosen"]
    for measure in measures:
        heads += [measure.label, "minus control (95 %)", "p"]
    heads += ["updates", "FLOPs", "a run"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    first = measures[0].key
    for cell in sorted(analysis.cells, key=lambda one: -_mean(one, first)):
        row = [cell.name, "; ".join(cell.tuned) or "-"]
        for measure in measures:
            row += _numbers(cell, measure)
        cost = cell.cost
        if cost is not None:
            row += [f"{cost.updates:.0f}", f"{sum(cost.flops.values()):.3g}"]
            row.append(duration(sum(cost.seconds.values())))
        lines.append("| " + " | ".join(row) + " |")
    for name, scores in analysis.references.items():
        if first in scores:
            value = measures[0].metric.text(scores[first])
            lines.append(f"| {name} | - | {value}" + " | " * (len(heads) - 3) + " |")
    return lines


def _mean(cell: CellAnalysis, key: str) -> float:
    outcome = cell.outcomes.get(key)
    return float("-inf") if outcome is None else outcome.mean


def _numbers(cell: CellAnalysis, measure: Any) -> list[str]:
    outcome, metric = cell.outcomes.get(measure.key), measure.metric
    if outcome is None:
        return ["-"] * 3
    mean = f"{metric.text(outcome.mean)} ± {metric.text(outcome.spread)}"
    found = outcome.difference
    if found is None:
        return [mean, "control" if cell.is_control else "-", ""]
    between = metric.interval(found.interval, sign=True)
    adjusted = "" if outcome.adjusted_p is None else p_text(outcome.adjusted_p)
    return [mean, f"{metric.text(found.interval.mean, sign=True)} ({between})", adjusted]


def _how(state: StudyState, analysis: Analysis, file: str, sets: str) -> list[str]:
    study = state.loaded.study
    results = [state.results[name] for name in state.due.wanted if name in state.results]
    finals = [one for one in results if one.role == "final"]
    seeds = [dict(one) for one in study.seeds.all]
    spent = sum(one.ledger.seconds.get("training", 0.0) for one in finals if one.ledger)
    versions = finals[0].versions
    known = ", ".join(
        f"{name} {versions[name]}"
        for name in ("python", "torch", "transformers")
        if name in versions
    )
    return [
        f"Mean over {len(seeds)} seeds ± standard deviation; differences seed by seed, example by"
        " example, intervals over both; p of a sign-flip test over seeds, adjusted by Holm over the"
        " cells. FLOPs are of one run with all that it needs; seconds are of a machine that did"
        f" other things besides. Equal {analysis.currency}"
        f" ({study.equal.updates} updates of the control).",
        "",
        "```console",
        f"$ tutelage study studies/{file}{sets}",
        "```",
        "",
        f"{len(finals)} final runs and {len(results) - len(finals)} of the search,"
        f" {duration(spent)} of training in the final ones; {known}.",
        "",
        behind(study.name, file, [str(one["student"]) for one in seeds]),
    ]


def behind(name: str, study: str, seeds: list[str]) -> str:
    """Where every number of a page comes from.

    Args:
        name: of the page.
        study: the file of the study, in ``studies``.
        seeds: of the student, in order.
    """
    return (
        f"Behind the numbers: recipes, factors and what they are laid over in"
        f" [{study}](../../../studies/{study}), what every seed of every cell came to in"
        f" [{name}.json]({name}.json); seeds {', '.join(seeds)}."
    )


def main() -> None:
    """Write ``NAME.md``, ``NAME.json`` and ``NAME.png``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--output", default="runs")
    options = parser.parse_args()
    changes = parse_changes(options.changes)
    state = state_of(load_study(options.study, {**changes, "output": options.output}))
    wanted = [state.results[name] for name in state.due.wanted if name in state.results]
    analysis = analyse(state.loaded, wanted)
    sets = "".join(f" --set {change}" for change in options.changes)
    name = state.loaded.study.name
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = page(state, analysis, options.study.name, sets)
    (RESULTS / f"{name}.md").write_text(text)
    draw(analysis, RESULTS / f"{name}.png")
    (RESULTS / f"{name}.json").write_text(json.dumps(_rounded(as_dict(analysis)), indent=1) + "\n")


def draw(analysis: Analysis, place: Path) -> None:
    """Differences to the control in the first measure, with their intervals."""
    whole = forest_figure(analysis)
    if whole is None:
        return
    panel = whole.panels[0]
    figure = Figure(figsize=(PANEL_WIDTH / 72, panel.height / 72), layout="constrained")
    panel.draw(figure)
    figure.savefig(place, dpi=150, metadata={"Software": None})


def _rounded(value: Any) -> Any:
    """Six digits are enough, and make the file a third as large."""
    if isinstance(value, dict):
        return {key: _rounded(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_rounded(child) for child in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
