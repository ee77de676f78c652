"""Commands for what comes before a run: looking for what could go wrong, and a first recipe."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tutelage.cli.shared import (
    JsonOption,
    QuietOption,
    RecipeArgument,
    SetOption,
    app,
    say,
    show,
)
from tutelage.errors import ConfigError, RunFolderError


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
    """Say all that could go wrong with a recipe on this machine.

    Each finding has its way out.

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


@app.command("init")
def init_command(
    recipe: Annotated[
        Path | None, typer.Argument(help="The file to write; mine.yaml when left out.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Folder, hub name or .gguf file of the teacher.")
    ] = None,
    student: Annotated[str | None, typer.Option(help="The same of the student.")] = None,
    layers: Annotated[
        int | None,
        typer.Option(min=1, help="Instead of --student: cut it from so many of the teacher's."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Training data: .jsonl, .csv, .parquet, folder or hub name; repeatable."),
    ] = None,
    validation: Annotated[str | None, typer.Option(help="Validation data.")] = None,
    test: Annotated[str | None, typer.Option(help="Test data.")] = None,
    method: Annotated[
        str | None, typer.Option(help="A method of `tutelage ls methods`; by evidence otherwise.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a first recipe for your models and data.

    Each setting has its reason beside it.

    Models and data are looked at without loading a weight. On a terminal what is missing is asked
    for. The recipe is one that `validate` accepts, or none is written.
    """
    asks = _can_ask() and not yes and not json_
    path = recipe or Path("mine.yaml")
    if asks:
        teacher = teacher or typer.prompt("Teacher (folder, hub name or .gguf file)")
        if student is None and layers is None:
            student, layers = _student(
                typer.prompt("Student (folder, hub name, or a number: so many teacher layers)")
            )
        data = data or [typer.prompt("Training data (a file, folder or hub name)")]
    given = data or None
    wanted = {"--teacher": teacher, "--student or --layers": student or layers, "--data": given}
    if missing := [name for name, value in wanted.items() if value is None]:
        raise ConfigError(
            f"Without a terminal nothing can be asked, and {', '.join(missing)} is missing. For"
            " example: tutelage init mine.yaml --teacher models/large --student models/small --data"
            " answers.jsonl --yes"
        )
    if path.exists() and not force:
        if not asks or not typer.confirm(f"'{path}' is there. Replace it?", err=True):
            raise RunFolderError(
                f"'{path}' is there already and was left as it is. Choose another name, or replace"
                " it with --force."
            )
        force = True
    _write(path, wanted["--teacher"], student, layers, data, validation, test, method,
           asks=asks, force=force, json_=json_, quiet=quiet)  # fmt: skip


def _can_ask() -> bool:
    """Whether somebody sits at a terminal."""
    return sys.stdin.isatty()


def _student(answer: str) -> tuple[str | None, int | None]:
    """A number means layers of the teacher, anything else a model."""
    number = answer.strip().removesuffix("layers").strip()
    return (None, int(number)) if number.isdecimal() else (answer, None)


def _write(
    path: Path,
    teacher: Any,
    student: str | None,
    layers: int | None,
    data: Any,
    validation: str | None,
    test: str | None,
    method: str | None,
    *,
    asks: bool,
    force: bool,
    json_: bool,
    quiet: bool,
) -> None:
    """Look, propose, ask, write, and say what comes next."""
    from tutelage.errors import unknown_name
    from tutelage.recipe import list_recipes

    methods = [one.name for one in list_recipes() if one.kind == "method"]
    if method is not None and method not in methods:
        raise unknown_name("method", method, methods)
    from tutelage.pipeline.context.display import Display, quiet_libraries
    from tutelage.proposal import look, propose, recipe_text, write_recipe

    quiet_libraries()
    display = Display(True if quiet or json_ else None)
    seen = look(teacher, student, layers, data, validation=validation, test=test, display=display)
    settings = propose(seen, method)
    head = f"Written by `tutelage init`. {_sample(seen.data.sample)}"
    text = recipe_text(settings, path.parent, head)
    if asks:
        say(text)
        if not typer.confirm(f"Write this to '{path}'?", default=True):
            say("nothing was written", err=True)
            raise typer.Exit
    unseen = write_recipe(path, text, replace=force)
    commands = [f"tutelage {verb} {path}" for verb in ("doctor", "plan", "run")]
    if json_:
        listed = [{"key": s.key, "value": s.value, "reason": s.reason} for s in settings]
        described = {"recipe": str(path), "settings": listed, "not_looked_at": unseen,
                     "next": commands}  # fmt: skip
        typer.echo(json.dumps(described, indent=2))
        return
    if not asks:
        for setting in settings:
            say(f"{setting.key}: {setting.value}  ({setting.reason})")
    for line in unseen:
        say(f"not looked at: {line}")
    say(f"written: {path}")
    say("next:")
    for command in commands:
        say(f"  {command}")


def _sample(sample: tuple[str, str]) -> str:
    """The first example of the data, for the head of the recipe."""
    asked, answer = (" ".join(text.split()) for text in sample)
    return f"The first example asks {_short(asked)} and is answered {_short(answer)}."


def _short(text: str) -> str:
    from tutelage.placeholders import shorten

    return shorten(text)
