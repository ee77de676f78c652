"""What several models scored in several suites, as a table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.table import Table

from tutelage.report.comparison import shown_as
from tutelage.report.quantities import duration


class Scored(Protocol):
    """What one model scored in one suite; ``pipeline.evals.Result`` is one."""

    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def suite(self) -> str: ...  # noqa: D102
    @property
    def num_examples(self) -> int: ...  # noqa: D102
    @property
    def scores(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def truncated(self) -> float: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102


def evaluations_table(results: Sequence[Scored]) -> Table:
    """A row for each metric of each suite and model; suites together, so that models compare."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("suite", "metric", "model"):
        table.add_column(title, overflow="fold")
    for title in ("score", "95 %", "n", "cut %", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    suites = list(dict.fromkeys(result.suite for result in results))
    for suite in suites:
        of_suite = [result for result in results if result.suite == suite]
        for metric in of_suite[0].scores:
            shown = shown_as(metric, [result.scores[metric]["mean"] for result in of_suite])
            unit = " %" if shown.scale == 100 else ""
            for result in of_suite:
                score = result.scores[metric]
                low, high = score["interval"]
                table.add_row(
                    suite,
                    metric,
                    result.model,
                    shown.text(score["mean"]) + unit,
                    f"{shown.text(low)}-{shown.text(high)}",
                    f"{result.num_examples:,}",
                    f"{100 * result.truncated:.1f}",
                    duration(result.seconds),
                )
    return table
