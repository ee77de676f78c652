"""Commands that look at what there is, and at recipes, and load nothing heavy."""

import json
from typing import Annotated

import typer

from tutelage.cli.shared import JsonOption, RecipeArgument, RunDirOption, SetOption, app, say
from tutelage.errors import TutelageError


@app.command("ls")
def ls_command(
    family: Annotated[
        str | None,
        typer.Argument(
            help="One of recipes, methods, divergences, targets, curricula, teacher_schedules,"
            " schedules, controllers, text_controllers, difficulties, example_weights,"
            " token_choices, averages, metrics, engines, suites; all otherwise."
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """List what there is: name, one line, paper; of one family the options too."""
    from tutelage.catalogue import catalogue, catalogue_text

    listed = catalogue(family)
    typer.echo(json.dumps(listed, indent=2) if json_ else catalogue_text(listed))


@app.command("show")
def show_command(recipe: RecipeArgument, set_: SetOption = None) -> None:
    """Print a resolved recipe, with where each value came from, and what each control changes."""
    from tutelage.recipe import controls_text, load_recipe, to_yaml

    loaded = load_recipe(recipe, set_ or (), partial=True)
    say(f"{to_yaml(loaded)}{controls_text(loaded)}".rstrip("\n"))


@app.command("validate")
def validate_command(
    recipe: RecipeArgument,
    set_: SetOption = None,
    run_dir: RunDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Check a recipe, its models and its data; nothing is loaded.

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
        say(f"not looked at: {key}: {what}")
    for finding in found if not json_ else ():
        typer.echo(f"error: {finding.text}", err=True)
    if found:
        raise typer.Exit(2)
