"""Commands that hold methods against each other: studies of many runs, and tuning."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.shared import JsonOption, QuietOption, RecipeArgument, SetOption, app, say, show
from tutelage.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from tutelage.studies.watch import StudyState

LAUNCHERS = ("local", "slurm")


@app.command("study")
def study_command(
    study: Annotated[Path, typer.Argument(help="A study file; see docs/studies.md.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one key of the study, as in --set equal.updates=220."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Final runs of each cell instead.")] = None,
    output: Annotated[str | None, typer.Option(help="Where studies and their cache go.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-w",
            min=0,
            help="Runs at once, at most; 0: only follow what workers elsewhere do.",
        ),
    ] = None,
    worker: Annotated[
        bool,
        typer.Option(
            "--worker",
            help="Be one worker; give it on every machine that shares the folder, and as often as"
            " you like.",
        ),
    ] = False,
    launcher: Annotated[
        str | None,
        typer.Option(help="Let workers be jobs: of `slurm`, or of this machine, `local`."),
    ] = None,
    launcher_option: Annotated[
        list[str] | None,
        typer.Option(help="What a job asks for, as in --launcher-option gpus=1; see `launcher`."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when the jobs are submitted.")
    ] = False,
    budget: Annotated[str | None, typer.Option(help="Stop after so long: 90s, 10m, 2h.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run, and what it costs.")
    ] = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Carry out a study: arms x factors x seeds at equal cost.

    The same command again continues where it was cut off, and does nothing that is done.
    """
    from tutelage.studies.load import parse_changes
    from tutelage.studies.run import parse_budget, run_study, work_here

    seconds = None if budget is None else parse_budget(budget)
    options = [f"launcher.{option}" for option in launcher_option or ()]
    overrides: dict[str, Any] = parse_changes([*(set_ or ()), *options])
    if seeds is not None:
        overrides["seeds"] = seeds
    if output is not None:
        overrides["output"] = output
    _check_who_works(workers, worker, launcher, detach)
    if dry_run:
        _dry_run(study, overrides, json_)
        return
    told = (lambda line: None) if quiet else (lambda line: say(line, err=True))
    state: StudyState | None
    if worker:
        state = work_here(study, overrides, budget=seconds, say=told)
    elif workers == 0:
        from tutelage.studies.launch import follow_study

        state = follow_study(study, overrides, budget=seconds, say=told)
    elif launcher is not None:
        from tutelage.studies.launch import launch_study

        crew = {"launcher": launcher, "workers": workers, "detach": detach}
        state = launch_study(study, overrides, budget=seconds, say=told, **crew)
    else:
        state = run_study(study, overrides, workers=workers, budget=seconds, say=told)
    if state is not None:
        _end(state, json_)


def _check_who_works(workers: int | None, worker: bool, launcher: str | None, detach: bool) -> None:
    """Refuse what cannot be meant."""
    if worker and (workers is not None or launcher is not None):
        raise ConfigError(
            "--worker makes this process one worker, and --workers and --launcher start others."
            " Give one of them."
        )
    if launcher is not None and launcher not in LAUNCHERS:
        raise unknown_name("launcher", launcher, LAUNCHERS)
    if detach and (launcher is None or workers == 0):
        raise ConfigError("--detach is for jobs that go on without this command: add --launcher.")


def _dry_run(study: Path, overrides: Mapping[str, Any], json_: bool) -> None:
    """Say what a study would do, and what it costs."""
    from tutelage.studies.forecast import expect
    from tutelage.studies.load import load_study
    from tutelage.studies.table import expected_table
    from tutelage.studies.watch import state_of

    loaded = load_study(study, overrides)
    say(f"{loaded.study.name}: preparing each arm to see what it costs", err=True)
    found = expect(state_of(loaded))
    if json_:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
    else:
        show(expected_table(found, loaded.study.equal.by))


@app.command("tune")
def tune_command(
    recipe: RecipeArgument,
    budget: Annotated[str, typer.Option(help="How long it may take: 10m, 2h.")],
    set_: SetOption = None,
    methods: Annotated[
        str | None, typer.Option(help="Methods to try beside the recipe's, as in kld,skl,sft.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, help="Runs at once.")
    ] = None,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find the method and learning rate for a recipe within some time.

    Ends with a recipe that is better than the given one, or says that the time cannot tell.
    """
    from tutelage.studies.run import parse_budget
    from tutelage.studies.tune import tune

    seconds = parse_budget(budget)
    found = tune(
        recipe,
        set_ or (),
        budget=seconds,
        methods=None if methods is None else [m.strip() for m in methods.split(",") if m.strip()],
        workers=workers,
        say=(lambda line: None) if quiet else (lambda line: say(line, err=True)),
    )
    _end(found.state, json_)
    if found.file is not None and not json_:
        say(f"recipe:  {found.file}")


def _end(state: "StudyState", json_: bool) -> None:
    """Print what a study came to, and leave it in the study's folder."""
    from tutelage.studies.ending import end_study
    from tutelage.studies.table import as_dict, study_table

    analysis, files = end_study(state)
    if json_:
        typer.echo(json.dumps(as_dict(analysis), indent=2))
    else:
        show(study_table(analysis))
        for name, path in files.items():
            say(f"{name + ':':<8} {path}")
    for failure in state.failures.values():
        say(f"failed: {failure['title']}: {failure['why']}", err=True)
    if state.failures:
        raise typer.Exit(2)
    if not state.finished:
        say("not finished; the same command goes on", err=True)
