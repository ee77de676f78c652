"""Commands for what comes before a run: looking for what could go wrong, and a first recipe."""

import json
import sys
from typing import Annotated

import typer

from tutelage.cli.shared import (
    JsonOption,
    QuietOption,
    RecipeArgument,
    SetOption,
    app,
    show,
)


@app.command("doctor")
def doctor_command(
    recipe: RecipeArgument,
    set_: SetOption = None,
    sample: Annotated[
        int,
        typer.Option(
            min=0, help="Examples on which teacher and student are compared; 0 loads no weights."
        ),
    ] = 100,
    examples: Annotated[
        int, typer.Option(min=0, max=20, help="Training examples to show token by token.")
    ] = 2,
    only_faults: Annotated[
        bool, typer.Option("--only-faults", help="Leave out what is well.")
    ] = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say all that could go wrong with a recipe on this machine, each with its way out.

    It begins with what `validate` sees, and then loads tokenizers, data and both models. Nothing is
    written. Exit code 2 where something is wrong, 0 where all that was found may be lived with.
    """
    from tutelage.recipe import load_recipe

    load_recipe(recipe, set_ or ())  # what is wrong with it is said before seconds of importing
    from tutelage.doctor import examine
    from tutelage.doctor.words import diagnosis_text

    found = examine(
        recipe, set_ or (), sample=sample, examples=examples, quiet=True if quiet or json_ else None
    )
    if json_:
        typer.echo(json.dumps(found.as_dict(), indent=2, default=str))
    else:
        show(diagnosis_text(found, colours=_colours(), all_=not only_faults))
    if not found.is_well:
        raise typer.Exit(2)


def _colours() -> bool:
    """Whether standard output shows colours."""
    from rich.console import Console

    console = Console()
    return sys.stdout.isatty() and console.color_system is not None and not console.no_color
