"""Commands that hold methods against each other: studies of many runs, and tuning."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tutelage.cli.shared import JsonOption, QuietOption, app, say


@app.command("study")
def study_command(
    study: Annotated[Path, typer.Argument(help="A study file; see docs/studies.md.")],
    seeds: Annotated[int | None, typer.Option(help="Final runs of each cell instead.")] = None,
    output: Annotated[str | None, typer.Option(help="Where studies and their cache go.")] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, help="Runs at once, at most.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Stop after so long: 90s, 10m, 2h.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run, and what it costs.")
    ] = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Carry out a study: arms x factors x seeds at equal cost, and what their numbers can tell.

    The same command again continues where it was cut off, and does nothing that is done.
    """
    from tutelage.studies.run import parse_budget, run_study, state_of

    seconds = None if budget is None else parse_budget(budget)
    overrides: dict[str, Any] = {}
    if seeds is not None:
        overrides["seeds"] = seeds
    if output is not None:
        overrides["output"] = output
    if dry_run:
        from tutelage.studies.load import load_study

        state = state_of(load_study(study, overrides))
        for task in state.due.ready:
            say(f"{task.role}: {task.title}")
        return
    state = run_study(
        study,
        overrides,
        workers=workers,
        budget=seconds,
        say=(lambda line: None) if quiet else (lambda line: say(line, err=True)),
    )
    for failure in state.failures.values():
        say(f"failed: {failure['title']}: {failure['why']}", err=True)
    say(json.dumps({"finished": state.finished, "runs": len(state.results)}))
