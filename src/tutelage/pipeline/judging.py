"""Let a judge say whose answers are better: what ``tutelage judge`` does."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.checks.places import check_folder_can_be
from tutelage.errors import ConfigError, DataError
from tutelage.evaluation.compare import Answers, check_same_questions
from tutelage.evaluation.judge import (
    Estimate,
    JudgeReport,
    JudgeSettings,
    Pair,
    estimate_pairs,
    judge_pairs,
    kept_verdicts,
)
from tutelage.files import atomic_write_json
from tutelage.generation import make_engine
from tutelage.generation.engines.server_calls import checked_url
from tutelage.generation.engines.table import CONCURRENCY
from tutelage.pipeline.context.display import Display, quiet_libraries
from tutelage.pipeline.context.subjects import served, slug_of, subjects_of

VERDICTS, REPORTS = "verdicts", "judged"
"""In the folder of the results: all that judges said, by content, and what it amounts to."""


@dataclass(frozen=True)
class Judged:
    """What a judge said of two models' answers.

    Attributes:
        first: title of the model whose win rate it is.
        second: title of the model that it is held against.
        estimate: what was still to be asked, and what that takes at most.
        report: rates, bias, verdicts; None where only the estimate was wanted.
        path: of the report.
    """

    first: str
    second: str
    estimate: Estimate
    report: JudgeReport | None
    path: Path | None


def judge_answers(
    first: str | Path,
    second: str | Path,
    model: str,
    settings: JudgeSettings,
    *,
    server: Mapping[str, Any] | None = None,
    limit: int | None = None,
    out: str | Path = "evals",
    estimate_only: bool = False,
    quiet: bool | None = None,
) -> Judged:
    """Judge the answers that two models gave to the same questions, pair by pair.

    Args:
        first: folder of an evaluation of the model whose win rate is wanted.
        second: folder of one of the model that it is held against.
        model: the judge: a name on the server, or a model to be run here.
        settings: orders, lengths, prices, the limit.
        server: options of the engine ``server``; None runs the judge here.
        limit: judge the first so many questions that both have answered.
        out: where verdicts are kept and the report is written.
        estimate_only: ask nobody.
        quiet: show no progress; None shows it on a terminal and in a notebook.

    Raises:
        DataError: there are no answers, or none to the same questions.
        ServerError: the judge is away; what it said is kept.
        SpendingLimitError: the limit is reached; what was said is kept.
    """
    display = Display(quiet)
    quiet_libraries()
    check_folder_can_be(Path(out))
    answers = [Answers.read(folder, _title(Path(folder))) for folder in (first, second)]
    pairs = pairs_of(*answers, limit=limit)
    # Two servers may call different models by one name.
    where = "" if server is None else f" at {checked_url(server['base_url'])}"
    settings = dataclasses.replace(settings, judge=settings.judge or f"{model}{where}")
    cache = kept_verdicts(Path(out) / VERDICTS)
    at_once = 1 if server is None else server.get("concurrency", CONCURRENCY)
    estimate = estimate_pairs(pairs, settings, cache, concurrency=at_once)
    title = f"{answers[0].model} against {answers[1].model}"
    display.note(f"{title}: {_words(estimate, settings)}")
    if estimate_only:
        return Judged(answers[0].model, answers[1].model, estimate, None, None)
    kind = "local" if server is None else "server"
    options = {} if server is None else {**server, "model": model}
    subject = (
        subjects_of([model], {"dtype": "float32", "trust_remote_code": False}, display)[0]
        if server is None
        else served([model], options)[0]
    )
    engine = make_engine(kind, options, subject.asked)
    with display.task(f"Judging {title}") as report:
        found = judge_pairs(engine, pairs, settings, cache, report)
    path = Path(out) / REPORTS / _report_name(Path(first), Path(second), model)
    atomic_write_json(
        path, {"first": str(first), "second": str(second), "title": title, **found.as_json()}
    )
    return Judged(answers[0].model, answers[1].model, estimate, found, path)


def pairs_of(first: Answers, second: Answers, limit: int | None = None) -> list[Pair]:
    """The answers to the questions that two models share, those of the first seed.

    Raises:
        DataError: they share none, or a question of one id is not the same.
    """
    check_same_questions(first, second)
    shared = [example for example in first.rows if example in second.rows][:limit]
    if not shared:
        raise DataError(
            f"{first.model} and {second.model} have answered no question in common, so there is"
            " nothing to judge. Evaluate both with the same suite and data."
        )
    return [
        Pair(
            example,
            str(first.rows[example]["prompt"]),
            str(first.rows[example]["answer"]),
            str(second.rows[example]["answer"]),
            str(first.rows[example].get("cluster") or ""),
        )
        for example in shared
    ]


def _report_name(first: Path, second: Path, judge: str) -> str:
    """A file for each two models, what they were asked, and who judged: none replaces another."""
    asked = dict.fromkeys(slug_of(folder.resolve().name) for folder in (first, second))
    models = [slug_of(_title(folder)) for folder in (first, second)]
    return "--".join([*models, *asked, slug_of(judge)[-60:].strip("-.")]) + ".json"


def _title(folder: Path) -> str:
    """``evals/MODEL/SUITE`` and ``arms/NAME/evaluation`` are called by the folder above."""
    place = folder.resolve()
    if not place.is_dir():
        raise ConfigError(
            f"'{folder}' is no folder. Give the folder of an evaluation: MODEL/SUITE of"
            " `tutelage eval`, or arms/NAME/evaluation of a run."
        )
    return place.parent.name


def _words(estimate: Estimate, settings: JudgeSettings) -> str:
    """An estimate for a person."""
    from tutelage.report.quantities import count, duration

    words = [f"{count(estimate.calls)} questions to the judge ({estimate.kept:,} are answered)"]
    if estimate.calls:
        words.append(
            f"at most {estimate.prompt_tokens + estimate.most_answer_tokens:,} tokens and"
            f" {duration(estimate.most_seconds)}"
        )
        if settings.price_in + settings.price_out:
            words.append(f"at most {estimate.most_cost:.2f} by the prices given")
    return ", ".join(words)
