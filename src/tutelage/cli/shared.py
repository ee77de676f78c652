"""What all commands share: the application, their options, and how they print."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tutelage.printing import Printable, printable

ORDER = (
    *("init", "import", "validate", "doctor", "plan", "profile", "cache", "run", "watch"),
    *("report", "runs", "eval", "suites", "judge", "chat", "export", "push"),
    *("study", "tune", "ls", "show"),
)
"""Commands as one comes to them: before a run, the run, after it, many runs, what there is."""


class Ordered(TyperGroup):
    """Commands in that order, whatever module they are in; others after them."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """The names of the commands."""
        return [*(n for n in ORDER if n in self.commands), *sorted(self.commands.keys() - {*ORDER})]


app = typer.Typer(
    name="tutelage",
    cls=Ordered,
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
TrustRemoteCodeOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with a model.")
]


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


def pipeline_of(recipe: str, set_: list[str] | None, *, partial: bool = False) -> ModuleType:
    """The pipeline, whose import takes seconds; what is wrong with the recipe is said before."""
    from tutelage.recipe import load_recipe

    load_recipe(recipe, set_ or (), partial=partial)
    from tutelage import pipeline

    return pipeline


def show(renderable: Any) -> None:
    """Print a table to standard output, 80 columns wide where there is no terminal."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 80, highlight=False)
    console.print(Printable(renderable))


def say(text: str, *, err: bool = False) -> None:
    """Print a line."""
    typer.echo(printable(text), err=err)
