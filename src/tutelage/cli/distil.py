"""Commands that carry out a recipe, or a part of it, and those that look at what runs left."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.shared import (
    JsonOption,
    QuietOption,
    RecipeArgument,
    RunDirOption,
    SetOption,
    app,
    pipeline_of,
    say,
    show,
)
from tutelage.errors import ConfigError


@app.command("run")
def run_command(
    recipe: RecipeArgument,
    set_: SetOption = None,
    run_dir: RunDirOption = None,
    quiet: QuietOption = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace finished students of another recipe in --run-dir."),
    ] = False,
) -> None:
    """Carry out a recipe: data, plan, students, evaluation, report.

    The same command again continues where it was cut off, and does nothing that is done.
    """
    pipeline = pipeline_of(recipe, set_)
    from tutelage.report import load_run, results_table

    result = pipeline.run(recipe, set_ or (), run_dir=run_dir, quiet=quiet, replace=replace)
    if int(os.environ.get("RANK", "0")) == 0:
        show(results_table(load_run(result.folder)))
        say(f"student: {result.student}")
        say(f"report:  {result.report}")


@app.command("plan")
def plan_command(
    recipe: RecipeArgument,
    set_: SetOption = None,
    difficulty: Annotated[
        Path | None,
        typer.Option(help="Plan from these scores (CSV or parquet: id, score), with no model."),
    ] = None,
    arm: Annotated[
        str | None, typer.Option(help="The arm to show; the main one otherwise.")
    ] = None,
    run_dir: RunDirOption = None,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show what a run would do before it does it.

    Stages, exposure, cost, and a picture.

    Difficulty is measured first, unless it was before or --difficulty gives it.
    """
    shown = pipeline_of(recipe, set_, partial=difficulty is not None).show_plan(
        recipe, set_ or (), arm=arm, difficulty=difficulty, run_dir=run_dir, quiet=quiet or json_
    )
    if json_:
        typer.echo(json.dumps(shown.description, indent=2))
        return
    from tutelage.report import exposure_table, plan_table

    show(plan_table(shown.description))
    show(exposure_table(shown.description))
    for line in shown.lines:
        say(line)


@app.command("profile")
def profile_command(
    recipe: RecipeArgument,
    set_: SetOption = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Compare with this difficulty, or with a file of scores; repeatable."),
    ] = None,
    run_dir: RunDirOption = None,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure how hard the data is for the untrained student."""
    shown = pipeline_of(recipe, set_).profile(
        recipe, set_ or (), compare=compare or (), run_dir=run_dir, quiet=quiet or json_
    )
    if json_:
        typer.echo(json.dumps(shown.description, indent=2))
        return
    for line in shown.lines:
        say(line)


@app.command("cache")
def cache_command(
    recipe: RecipeArgument,
    set_: SetOption = None,
    run_dir: RunDirOption = None,
    json_: JsonOption = False,
    quiet: QuietOption = False,
    part: Annotated[
        str, typer.Option(help="Make this part alone, for machines that share no folder: 1/2, 2/2.")
    ] = "1/1",
) -> None:
    """Store once what the teachers say about the data.

    Later runs need no teacher in memory.

    A run does this by itself where it pays. Several processes share the work: those of a launcher,
    and those that give this command at the same time, each with a --run-dir of its own.
    """
    from dataclasses import asdict

    pipeline = pipeline_of(recipe, set_)
    from tutelage.pipeline.stages.store_error import topk_error_text

    stores = pipeline.cache(
        recipe, set_ or (), run_dir=run_dir, quiet=quiet or json_, part=_part(part)
    )
    if int(os.environ.get("RANK", "0")):
        return
    if json_:
        typer.echo(json.dumps([asdict(store) for store in stores], indent=2, default=str))
        return
    for store in stores:
        say(
            f"{store.teacher}: {store.kind}, {store.examples:,} examples ({store.added:,} new),"
            f" {store.response_tokens:,} response tokens, {store.bytes / 1e6:.1f} MB"
            f" ({store.bytes / max(store.response_tokens, 1):.0f} bytes a token):"
            f" {f'{store.address}, kept in ' if store.address else ''}{store.folder}"
        )
        if store.errors:
            say(f"  {topk_error_text(store.errors)}")


def _part(text: str) -> tuple[int, int]:
    """``2/3`` as number from 0 and count."""
    number, _, count = text.partition("/")
    if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return int(number) - 1, int(count)
    raise ConfigError(
        f"--part is '{text}'. Give the number of this part and how many there are, such as 1/2."
    )


@app.command("report")
def report_command(
    run_dirs: Annotated[
        list[Path],
        typer.Argument(help="A run folder, finished or not; two or more are compared."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="The page; report.html in the run folder, or comparison.html here."),
    ] = None,
    all_arms: Annotated[
        bool,
        typer.Option("--all-arms", help="Of several runs compare all arms, not the main ones."),
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Write a run's report again, or one about several runs.

    Of several the first is held against the others: recipes, test data, scores, curves, answers.
    """
    if len(run_dirs) > 1:
        _report_on_several(run_dirs, output, all_arms=all_arms, json_=json_)
        return
    from tutelage.report import load_run, results_table, summary_of, write_report

    path = write_report(run_dirs[0], output)
    if json_:
        typer.echo(json.dumps({**summary_of(load_run(run_dirs[0])), "report": str(path)}, indent=2))
        return
    show(results_table(load_run(run_dirs[0])))
    say(f"report: {path}")


def _report_on_several(
    run_dirs: list[Path], output: Path | None, *, all_arms: bool, json_: bool
) -> None:
    from tutelage.report.runs_page import RUNS_NAME, compare_runs, write_runs_page

    runs = compare_runs(run_dirs, all_arms=all_arms)
    path = write_runs_page(runs, output or Path(RUNS_NAME))
    described = runs.as_dict()
    if json_:
        typer.echo(json.dumps({**described, "page": str(path)}, indent=2, default=str))
        return
    for key, values in described["recipes_differ_in"].items():
        say(f"{key}: {', '.join(f'{value}' for value in values.values())}")
    for line in (*described["test_data"], *described["verdict"]):
        say(line)
    for suite, found in described["suites"].items():
        for line in found["not_compared"]:
            say(f"{suite}: not compared: {line}")
    say(f"page: {path}")


@app.command("runs")
def runs_command(
    output: Annotated[Path, typer.Option(help="Where the run folders are.")] = Path("runs"),
    clean: Annotated[
        bool, typer.Option("--clean", help="Say what no run needs, and remove it with --yes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")] = False,
    json_: JsonOption = False,
) -> None:
    """List the runs, or clean what is left of them."""
    from dataclasses import asdict

    from tutelage.pipeline.context.display import size_text
    from tutelage.pipeline.runs import leftovers, list_runs, remove

    if not clean:
        runs = list_runs(output)
        if json_:
            typer.echo(json.dumps([asdict(run) for run in runs], indent=2, default=str))
            return
        for run in runs:
            scores = [f"{name} {mean:.3f}" for name, mean in run.scores.items()]
            words = [run.recipe, run.when, run.state, size_text(run.bytes), *scores]
            say(f"{run.folder}: {', '.join(words)}")
        return
    left = leftovers(output)
    total = size_text(sum(one.bytes for one in left))
    if json_:
        typer.echo(json.dumps([asdict(one) for one in left], indent=2, default=str))
    for one in left if not json_ else ():
        say(f"{one.path}: {one.why}, {size_text(one.bytes)}")
    if not left:
        typer.echo("there is nothing to clean", err=True)
    elif yes or (sys.stdin.isatty() and not json_ and typer.confirm(f"Remove this ({total})?")):
        say(f"removed: {size_text(remove(output, left))}", err=True)
    else:
        typer.echo(f"nothing was removed; --yes removes this ({total})", err=True)
