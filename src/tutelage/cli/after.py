"""Commands for what a run has made: talk to a student, write it for other tools, publish it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.shared import JsonOption, QuietOption, app, say

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
    """Write a student as a plain folder that any tool loads, and compare it with the run's own.

    Weights in safetensors, tokenizer and chat template, what ends an answer, card and licence. It
    is loaded again before it is called done. Nothing is ever replaced.
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
