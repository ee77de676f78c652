"""Commands around a run: talk to its student, write it for other tools, publish it; import."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.shared import JsonOption, QuietOption, TrustRemoteCodeOption, app, say
from tutelage.errors import ConfigError

if TYPE_CHECKING:
    from tutelage.chatting.speakers import Table
    from tutelage.generation import GenerationSettings

RunArgument = Annotated[Path, typer.Argument(help="A run folder with a finished student.")]
ArmOption = Annotated[
    str | None, typer.Option(help="Whose student; that of the main arm otherwise.")
]
DtypeOption = Annotated[
    str | None,
    typer.Option(help="Type of the weights: bfloat16, float16, float32; the student's own."),
]
MergeOption = Annotated[
    bool, typer.Option("--merge-lora", help="Add LoRA adapters to the weights they are on.")
]


@app.command("chat")
def chat_command(
    model: Annotated[
        str, typer.Argument(help="A run folder, or a model: folder, name, or name on the server.")
    ],
    arm: ArmOption = None,
    beside: Annotated[
        str | None, typer.Option(help="A model that answers too; the run's teacher otherwise.")
    ] = None,
    no_teacher: Annotated[
        bool, typer.Option("--no-teacher", help="Let the student answer alone.")
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(help="0 is greedy; as the run evaluates when left out.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Longest answer; as the run evaluates when left out.")
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="System text in place of the run's own.")
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(help="A further field of the run's template, as in --field context=TEXT."),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Ask this one question and end.")] = None,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    server: Annotated[
        str | None,
        typer.Option(help="URL of an OpenAI-compatible server with the models that are not here."),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Type of the weights of a model that no run speaks of.")
    ] = "float32",
    trust_remote_code: TrustRemoteCodeOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Talk to a student beside its teacher, asked as in training.

    At a terminal it is a conversation; /help lists its commands. Otherwise every line of standard
    input is a question of its own.
    """
    if no_teacher and beside is not None:
        raise ConfigError("--beside names who answers too, and --no-teacher wants nobody.")
    from tutelage.chatting.speakers import seat
    from tutelage.pipeline.context.display import Display, quiet_libraries

    quiet_libraries()
    display = Display(quiet=quiet or json_)
    table = seat(
        model,
        arm=arm,
        beside=beside,
        alone=no_teacher,
        # Who waits at a terminal learns at once that nobody answers.
        server=None if server is None else {"base_url": server, "retries": 1},
        system=system,
        values=_fields(field or []),
        options={"dtype": dtype, "trust_remote_code": trust_remote_code},
        display=display,
    )
    given = {"sampling_temperature": temperature, "max_new_tokens": max_new_tokens}
    settings = replace(table.settings, **{k: v for k, v in given.items() if v is not None})
    for note in table.notes:
        display.note(f"note: {note}")
    for speaker in filter(None, (table.student, table.teacher)):
        with display.task(f"Loading {speaker.title}"):
            speaker.engine  # noqa: B018 - loads it now, and not behind the first question
    talks = sys.stdin.isatty() and sys.stdout.isatty() and not json_
    if prompt is None and talks:
        _converse(table, settings, seed)
        return
    questions = [prompt] if prompt is not None else (line.strip() for line in sys.stdin)
    _answer_all(table, filter(None, questions), settings, seed, json_)


def _fields(given: list[str]) -> Mapping[str, str]:
    """Values by field."""
    for one in given:
        if "=" not in one:
            raise ConfigError(f"--field {one} has no '='. Write --field NAME=TEXT.")
    return {name: text for name, _, text in (one.partition("=") for one in given)}


def _converse(table: "Table", settings: "GenerationSettings", seed: int) -> None:
    """Talk until the user leaves."""
    import contextlib

    from tutelage.chatting.conversation import Conversation

    with contextlib.suppress(ImportError):  # lines that can be edited and called back
        import readline  # noqa: F401

    def read() -> str | None:
        try:
            return input("> ")
        except EOFError:
            typer.echo()
            return None

    conversation = Conversation(table, settings, seed, say)
    say("/help lists the commands", err=True)
    try:
        conversation.hold(read)
    except KeyboardInterrupt:
        typer.echo()
        raise typer.Exit(130) from None


def _answer_all(
    table: "Table",
    questions: Iterable[str],
    settings: "GenerationSettings",
    seed: int,
    json_: bool,
) -> None:
    """Print the answers to questions, each asked alone."""
    from tutelage.chatting.conversation import answers_to, ending

    for question in questions:
        found = answers_to(table, question, settings, seed)
        if json_:
            row: dict[str, Any] = {"prompt": question}
            row["answers"] = [
                {
                    "model": speaker.title,
                    "text": answer.text,
                    "num_tokens": answer.num_tokens,
                    "finish": answer.finish,
                }
                for speaker, answer in found
            ]
            typer.echo(json.dumps(row))
            continue
        for speaker, answer in found:
            name = f"{speaker.title}: " if len(found) > 1 else ""
            say(f"{name}{answer.text}")
            if note := ending(answer, settings):
                say(f"note: {speaker.title}: {note}", err=True)
        sys.stdout.flush()


@app.command("export")
def export_command(
    run_dir: RunArgument,
    arm: ArmOption = None,
    output: Annotated[
        Path | None, typer.Option(help="A new folder; exports/RUN-ARM when left out.")
    ] = None,
    merge_lora: MergeOption = False,
    dtype: DtypeOption = None,
    gguf: Annotated[
        str | None,
        typer.Option(help="Also write a GGUF file of this type: f32, f16, bf16, q8_0, auto."),
    ] = None,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a student as a plain folder that any tool loads.

    It is loaded again and compared with the run's own before it gets its name.

    Weights in safetensors, tokenizer and chat template, what ends an answer, card and licence.
    Nothing is ever replaced.
    """
    from tutelage.exporting.export import export_student
    from tutelage.pipeline.context.display import Display, quiet_libraries, size_text
    from tutelage.pipeline.context.finished import finished_student

    quiet_libraries()
    display = Display(quiet=quiet or json_)
    student = finished_student(run_dir, arm, display)
    name = f"{student.folder.resolve().name}-{student.arm}"
    done = export_student(
        student,
        Path("exports") / name if output is None else output.expanduser(),
        merge=merge_lora,
        dtype=dtype,
        gguf=gguf,
        display=display,
    )
    if json_:
        typer.echo(json.dumps(asdict(done), indent=2, default=str))
        return
    for warning in done.warnings:
        say(f"note: {warning}", err=True)
    say(f"{done.kind}: {done.folder} ({done.dtype}, {size_text(done.bytes)})")
    say(f"checked: {done.compared.words}")


@app.command("push")
def push_command(
    source: Annotated[Path, typer.Argument(help="A run folder, or a folder that `export` wrote.")],
    repository: Annotated[str, typer.Argument(help="owner/name on the hub.")],
    arm: ArmOption = None,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it.")] = False,
    revision: Annotated[
        str | None, typer.Option(help="A branch, made if need be; the main one when left out.")
    ] = None,
    merge_lora: MergeOption = False,
    dtype: DtypeOption = None,
    with_report: Annotated[
        bool,
        typer.Option("--with-report", help="Also report.html, which shows prompts and answers."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and ask no hub.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Push without asking.")] = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Publish a student on the Hugging Face hub.

    The repository is private unless --public.

    What goes is shown first. The token is that of `hf auth login` or HF_TOKEN; HF_ENDPOINT names
    another hub. The same command again updates what changed.
    """
    import contextlib
    import tempfile

    from tutelage.exporting.push import check_name, pack, send
    from tutelage.pipeline.context.display import size_text

    check_name(repository)
    source = source.expanduser()
    with contextlib.ExitStack() as stack:
        title, folder = source.name, source
        if (source / "recipe.json").is_file():
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="tutelage-"))
            options = {"merge": merge_lora, "dtype": dtype}
            title, folder = _exported(
                source, arm, Path(place), options, with_report, quiet or json_
            )
        elif arm is not None or merge_lora or dtype is not None:
            raise ConfigError(
                f"--arm, --merge-lora and --dtype are for run folders, and '{source}' is none."
            )
        parcel = pack(folder, with_report=with_report)
        for name, size in parcel.files if not json_ else ():
            say(f"{size:>15,}  {name}", err=not dry_run)
        for warning in parcel.warnings:
            say(f"warning: {warning}", err=True)
        row = {"repository": repository, "public": public, "files": dict(parcel.files)}
        if dry_run:
            say(json.dumps(row, indent=2) if json_ else f"{parcel.bytes:>15,}  bytes in all")
            return
        who = "everybody" if public else "nobody else"
        asked = f"Push {size_text(parcel.bytes)} to {repository}, which {who} will see?"
        if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise ConfigError(
                f"{asked} There is nobody to ask: give --yes, or look with --dry-run."
            )
        if not yes and not typer.confirm(asked, err=True):
            raise typer.Exit(1)
        tell = (lambda line: None) if quiet or json_ else (lambda line: say(line, err=True))
        done = send(
            parcel,
            repository,
            public=public,
            revision=revision,
            message=f"{title}, by Tutelage",
            tell=tell,
        )
    if json_:
        typer.echo(json.dumps({**row, **asdict(done)}, indent=2))
    else:
        say(f"pushed: {done.url}{' (private)' if done.private else ''}")


def _exported(
    run_dir: Path,
    arm: str | None,
    place: Path,
    options: Mapping[str, Any],
    with_report: bool,
    quiet: bool,
) -> tuple[str, Path]:
    """A student of a run, exported for a while: its name and its folder."""
    import shutil

    from tutelage.exporting.export import export_student
    from tutelage.pipeline.context.display import Display, quiet_libraries
    from tutelage.pipeline.context.finished import finished_student

    quiet_libraries()
    display = Display(quiet=quiet)
    student = finished_student(run_dir, arm, display)
    title = f"{student.folder.resolve().name}-{student.arm}"
    done = export_student(student, place / title, **options, display=display)
    say(f"checked: {done.compared.words}", err=True)
    if with_report and (run_dir / "report.html").is_file():
        shutil.copyfile(run_dir / "report.html", done.folder / "report.html")
    return title, done.folder


@app.command("import")
def import_command(
    tool: Annotated[
        str, typer.Argument(help="Whose it is: trl, axolotl, llamafactory, distillkit.")
    ],
    config: Annotated[Path, typer.Argument(help="Its configuration, in YAML.")],
    output: Annotated[
        Path | None, typer.Option(help="A new file for the recipe; printed when left out.")
    ] = None,
) -> None:
    """Turn a configuration of another tool into a recipe.

    Each line says where it came from.

    What the tool takes by default is written out where ours would be another value; what has no
    counterpart stands at the end with the reason.
    """
    from tutelage.importing.convert import convert

    if output is not None and output.exists():
        raise ConfigError(f"'{output}' is there already. Name another --output, or remove it.")
    text = convert(tool, config.expanduser())
    import yaml

    from tutelage.recipe import load_recipe

    if output is None:
        sys.stdout.write(text)
    else:
        from tutelage.files import atomic_write_text

        atomic_write_text(output.expanduser(), text)
        say(f"recipe: {output}")
    load_recipe(yaml.safe_load(text), partial=True)
    lacks = "student.model, teacher.model and data.train"
    say(f"check {lacks}, then: tutelage validate {output or 'RECIPE.yaml'}", err=True)
