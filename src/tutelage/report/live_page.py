"""The page of a run while it goes on: where it is, how long it takes, curves, and answers so far.

It loads nothing and refreshes itself with a few lines of script of its own: from where it was
served, or, opened as a file, by loading the file again where the reader had scrolled to.
"""

import base64
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.errors import TutelageError
from tutelage.report import page_tables as views
from tutelage.report.comparison import Comparison, compare
from tutelage.report.live import LiveArm, LiveRun
from tutelage.report.live_study import LiveStudy
from tutelage.report.outcome_plots import curves_figure
from tutelage.report.page_tables import Cell, Row, View
from tutelage.report.quantities import MISSING, count, duration, metric_words, number, percent
from tutelage.report.run import load_run
from tutelage.report.samples import SAMPLE_RULE, choose_samples, sample_view
from tutelage.report.templating import render

_CURVES = (
    ("loss", "Loss"),
    ("kd", "Divergence from the target"),
    ("learning_rate", "Learning rate"),
)
_SCRIPT = Path(__file__).parent / "templates" / "live.js"
_TONES = {"failed": "wrong", "killed": "wrong", "stalled": "wrong", "finished": "right"}
_MOST_SAMPLES = 4


class LivePage:
    """Draws the page of a run again and again; answers are read when there are new ones.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._evaluated: tuple[Any, ...] | None = None
        self._found: dict[str, Any] = {"results": [], "samples": []}

    def render(self, run: LiveRun, *, every: float) -> str:
        """The page as text.

        Args:
            run: as it is now.
            every: seconds after which the page looks for a newer one; 0: never.
        """
        self._read_answers()
        return render(
            "live.html",
            **_refreshing(0 if run.is_over else every),
            title=run.title or run.name,
            state=run.state,
            tone=_TONES.get(run.state, ""),
            doing=_doing(run),
            facts=_facts(run),
            sections=[],
            arms=_arms_view(run.arms) if run.arms else None,
            curves=curves_figure(
                {arm.name: arm.metrics for arm in run.arms},
                {arm.name: arm.validation for arm in run.arms},
                _CURVES,
            ),
            report="report.html" if (self._folder / "report.html").is_file() else "",
            sample_rule=SAMPLE_RULE,
            **self._found,
        )

    def _read_answers(self) -> None:
        """Results and answers of what was evaluated, when that has changed."""
        stamps = []
        for path in sorted(self._folder.glob("*/*/evaluation*/scores.json")):
            try:
                found = path.stat()
            except OSError:  # a part is being replaced
                continue
            stamps.append((str(path), found.st_mtime_ns, found.st_size))
        if tuple(stamps) == self._evaluated:
            return
        found = {"results": [], "samples": []}
        if stamps:
            try:
                comparison = compare(load_run(self._folder))
            except (TutelageError, OSError, ValueError):
                return  # a part was replaced meanwhile: the next look finds it whole
            found = _answers(comparison)
        self._evaluated, self._found = tuple(stamps), found


def render_study(study: LiveStudy, *, every: float) -> str:
    """The page of a study while it goes on, as text; ``every`` as of ``LivePage.render``."""
    failed = f" {count(len(study.failed))} failed." if study.failed else ""
    return render(
        "live.html",
        **_refreshing(every),
        title=study.name,
        state=study.state,
        tone="",
        doing=f"So far {study.stage}.{failed}",
        facts=[],
        sections=[],
        arms=study.view(),
        curves=None,
        report="study.html" if (study.folder / "study.html").is_file() else "",
        sample_rule="",
        results=[],
        samples=[],
    )


def _refreshing(every: float) -> dict[str, Any]:
    """The script that looks for a newer page, and what allows it and no other."""
    script = _SCRIPT.read_text(encoding="utf-8").strip()
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return {"every": every, "script": script, "digest": digest}


def _answers(comparison: Comparison) -> dict[str, Any]:
    """Scores so far, and a few answers: where the main arm has none yet, of the first that has."""
    results = views.results_views(comparison)
    if comparison.models and comparison.of_kind("main") is None:
        first = dataclasses.replace(comparison.models[0], kind="main")
        comparison = dataclasses.replace(comparison, models=(first, *comparison.models[1:]))
    samples = choose_samples(comparison)[:_MOST_SAMPLES]
    return {"results": results, "samples": [sample_view(one, comparison) for one in samples]}


def _doing(run: LiveRun) -> str:
    """What the run is doing, or what became of it, in a sentence."""
    return f"{run.doing[:1].upper()}{run.doing[1:]}." if run.state == "running" else run.message


def _facts(run: LiveRun) -> list[dict[str, str]]:
    """The few numbers that somebody waits for."""
    facts = []

    def fact(name: str, text: str, note: str = "") -> None:
        facts.append({"name": name, "text": text, "note": note})

    if run.left is not None:
        fact("Time left", f"about {duration(run.left)}", "by the plans' cost at the speed so far")
    if run.spent:
        fact("Time so far", duration(run.spent))
    now = run.training
    if now is not None and now.tokens_per_second:
        fact("Speed", f"{count(now.tokens_per_second)} / s", "response tokens learned")
    if run.memory:
        fact("Memory", _bytes(run.memory[0]), f"at most {_bytes(run.memory[-1])} so far")
    if run.gpu_memory is not None:
        fact("GPU memory", _bytes(run.gpu_memory))
    if run.quiet_for is not None and run.state in ("stalled", "killed"):
        fact("Silent for", duration(run.quiet_for))
    return facts


def _bytes(number_: float) -> str:
    return f"{number_ / 1e9:.1f} GB" if number_ >= 1e9 else f"{number_ / 1e6:.0f} MB"


def _arms_view(arms: Sequence[LiveArm]) -> View:
    """How far each arm is."""
    rows = []
    for arm in arms:
        last = arm.metrics[-1] if arm.metrics else {}
        done = percent(arm.step / arm.planned, 0) if arm.planned else ""
        cells = (
            Cell(arm.state),
            Cell(f"{count(arm.step)} of {count(arm.planned)}", done),
            Cell(number(last.get("loss"))),
            Cell(_validated(arm.validation)),
            Cell(number(last.get("learning_rate"))),
            Cell(count(arm.tokens_per_second)),
            Cell(duration(float(last["seconds"])) if last.get("seconds") else MISSING),
        )
        rows.append(Row(arm.name, cells, "main" if arm is arms[0] else ""))
    headers = ("arm", "state", "steps", "loss", "validation", "learning rate", "tokens / s", "time")
    caption = "The arms up to their last records; losses of different methods are not on one scale"
    return View(caption, headers, tuple(rows))


def _validated(rows: Sequence[Mapping[str, Any]]) -> str:
    found = {k: v for k, v in (rows[-1] if rows else {}).items() if k != "step"}
    name = next(iter(found), "")
    return f"{metric_words(name)} {number(found[name])}" if name else MISSING
