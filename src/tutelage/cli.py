"""The command line. Heavy imports happen inside the commands, so that ``--help`` answers at once.

Standard output is for results; progress and messages go to standard error. Exit codes: 0 done, 2
a mistake that the user can mend (one message, no traceback), 130 interrupted (143 by SIGTERM), 1
anything else.
"""

import json
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from tutelage.errors import TutelageError
from tutelage.interrupts import Interrupted, interruptible
from tutelage.printing import Printable, printable

app = typer.Typer(
    name="tutelage",
    help="Distil a large language model into a small one with a curriculum.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipeArgument = Annotated[
    str, typer.Argument(help="Name of a shipped recipe (see `tutelage ls recipes`) or a YAML file.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one value, as in --set training.learning_rate=1e-4."),
]
RunDirOption = Annotated[
    Path | None, typer.Option(help="The run folder; by default one of its own for each recipe.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Distil a large language model into a small one with a curriculum."""
    if version:
        from tutelage import __version__

        typer.echo(__version__)
        raise typer.Exit


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
    """Carry out a recipe: data, difficulty, plan, students, evaluation, report.

    The same command again continues where it was cut off, and does nothing that is done.
    """
    pipeline = _pipeline(recipe, set_)
    from tutelage.report import load_run, results_table

    result = pipeline.run(recipe, set_ or (), run_dir=run_dir, quiet=quiet, replace=replace)
    if int(os.environ.get("RANK", "0")) == 0:
        _print(results_table(load_run(result.folder)))
        _say(f"student: {result.student}")
        _say(f"report:  {result.report}")


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
    """Show what a run would do before it does it: stages, exposure, cost, and a picture.

    Difficulty is measured first, unless it was before or --difficulty gives it.
    """
    shown = _pipeline(recipe, set_, partial=difficulty is not None).show_plan(
        recipe, set_ or (), arm=arm, difficulty=difficulty, run_dir=run_dir, quiet=quiet or json_
    )
    if json_:
        typer.echo(json.dumps(shown.description, indent=2))
        return
    from tutelage.report import exposure_table, plan_table

    _print(plan_table(shown.description))
    _print(exposure_table(shown.description))
    for line in shown.lines:
        _say(line)


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
    """Measure the difficulty of the training data with the untrained student."""
    shown = _pipeline(recipe, set_).profile(
        recipe, set_ or (), compare=compare or (), run_dir=run_dir, quiet=quiet or json_
    )
    if json_:
        typer.echo(json.dumps(shown.description, indent=2))
        return
    for line in shown.lines:
        _say(line)


@app.command("cache")
def cache_command(
    recipe: RecipeArgument,
    set_: SetOption = None,
    run_dir: RunDirOption = None,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Store once what the teachers say about the data; later runs need no teacher in memory.

    A run does this by itself where it pays. Several processes share the work.
    """
    from dataclasses import asdict

    pipeline = _pipeline(recipe, set_)
    from tutelage.pipeline.stages.store_error import topk_error_text

    stores = pipeline.cache(recipe, set_ or (), run_dir=run_dir, quiet=quiet or json_)
    if int(os.environ.get("RANK", "0")):
        return
    if json_:
        typer.echo(json.dumps([asdict(store) for store in stores], indent=2, default=str))
        return
    for store in stores:
        _say(
            f"{store.teacher}: {store.kind}, {store.examples:,} examples ({store.added:,} new),"
            f" {store.response_tokens:,} response tokens, {store.bytes / 1e6:.1f} MB"
            f" ({store.bytes / max(store.response_tokens, 1):.0f} bytes a token): {store.folder}"
        )
        if store.errors:
            _say(f"  {topk_error_text(store.errors)}")


@app.command("report")
def report_command(
    run_dir: Annotated[Path, typer.Argument(help="A run folder, finished or not.")],
) -> None:
    """Write the HTML report of a run folder again, and print its results."""
    from tutelage.report import load_run, results_table, write_report

    path = write_report(run_dir)
    _print(results_table(load_run(run_dir)))
    _say(f"report: {path}")


@app.command("runs")
def runs_command(
    output: Annotated[Path, typer.Option(help="Where the run folders are.")] = Path("runs"),
    clean: Annotated[
        bool, typer.Option("--clean", help="Say what no run needs, and remove it with --yes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")] = False,
    json_: JsonOption = False,
) -> None:
    """List the runs: when, how far, how big, how good; or clean what is left of them."""
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
            _say(f"{run.folder}: {', '.join(words)}")
        return
    left = leftovers(output)
    total = size_text(sum(one.bytes for one in left))
    if json_:
        typer.echo(json.dumps([asdict(one) for one in left], indent=2, default=str))
    for one in left if not json_ else ():
        _say(f"{one.path}: {one.why}, {size_text(one.bytes)}")
    if not left:
        typer.echo("there is nothing to clean", err=True)
    elif yes or (sys.stdin.isatty() and not json_ and typer.confirm(f"Remove this ({total})?")):
        _say(f"removed: {size_text(remove(output, left))}", err=True)
    else:
        typer.echo(f"nothing was removed; --yes removes this ({total})", err=True)


@app.command("ls")
def ls_command(
    family: Annotated[
        str | None,
        typer.Argument(
            help="One of recipes, methods, divergences, targets, curricula, teacher_schedules,"
            " schedules, controllers, difficulties, metrics, engines, suites; all otherwise."
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """List what there is: name, one line, paper."""
    from tutelage.catalogue import catalogue, catalogue_text

    listed = catalogue(family)
    typer.echo(json.dumps(listed, indent=2) if json_ else catalogue_text(listed))


@app.command("show")
def show_command(recipe: RecipeArgument, set_: SetOption = None) -> None:
    """Print a resolved recipe as YAML, with where each value came from."""
    from tutelage.recipe import load_recipe, to_yaml

    _say(to_yaml(load_recipe(recipe, set_ or (), partial=True)).rstrip("\n"))


@app.command("validate")
def validate_command(
    recipe: RecipeArgument,
    set_: SetOption = None,
    run_dir: RunDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Check a recipe, its models and its data as far as nothing needs to be loaded.

    Everything that is wrong is named at once. `run` and `plan` begin with the same.
    """
    from tutelage.checks import check_recipe
    from tutelage.recipe import load_recipe

    try:
        loaded = load_recipe(recipe, set_ or ())
    except TutelageError as error:
        if not json_:
            raise
        problems = [{"key": "", "origin": "", "message": line} for line in str(error).split("\n")]
        typer.echo(json.dumps({"valid": False, "problems": problems}, indent=2))
        raise typer.Exit(2) from error
    findings = check_recipe(loaded, run_dir)
    found = findings.found
    described = {
        "valid": not found,
        "name": loaded.recipe.name,
        "arms": list(loaded.arms),
        "fingerprint": loaded.fingerprint,
        "problems": [{"key": f.key, "origin": f.origin, "message": str(f.error)} for f in found],
        "not_looked_at": findings.not_seen,
    }
    if json_:
        typer.echo(json.dumps(described, indent=2))
    elif not found:
        arms = ", ".join(loaded.arms)
        start = loaded.fingerprint[:8]
        typer.echo(f"{loaded.recipe.name}: valid. Arms: {arms}. Fingerprint {start}.")
    for key, what in findings.not_seen.items() if not json_ else ():
        _say(f"not looked at: {key}: {what}")
    for finding in found if not json_ else ():
        typer.echo(f"error: {finding.text}", err=True)
    if found:
        raise typer.Exit(2)


def _pipeline(recipe: str, set_: list[str] | None, *, partial: bool = False) -> ModuleType:
    """The pipeline, whose import takes seconds; what is wrong with the recipe is said before."""
    from tutelage.recipe import load_recipe

    load_recipe(recipe, set_ or (), partial=partial)
    from tutelage import pipeline

    return pipeline


def _print(renderable: Any) -> None:
    """Print a table to standard output, 80 columns wide where there is no terminal."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 80, highlight=False)
    console.print(Printable(renderable))


def _say(text: str, *, err: bool = False) -> None:
    """Print a line."""
    typer.echo(printable(text), err=err)


def main() -> None:
    """Entry point: run a command and turn a user's mistakes into one message and exit code 2."""
    try:
        with interruptible():
            app()
    except TutelageError as error:
        _say(f"error: {error}", err=True)
        sys.exit(2)
    except (Interrupted, KeyboardInterrupt) as error:
        if int(os.environ.get("RANK", "0")) == 0:
            typer.echo(
                "interrupted: finished parts and checkpoints are kept; the same command goes on"
                " from there",
                err=True,
            )
        sys.exit(128 + getattr(error, "number", signal.SIGINT))
    except BrokenPipeError:
        # The reader of a pipe has gone (`tutelage ls | head`); there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
