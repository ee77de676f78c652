"""A GGUF file for llama.cpp and what is built on it, by llama.cpp's own converter.

That script changes with every new architecture and is in no package that is kept well, so none
comes with Tutelage: one that is installed is run, and for all others there is the command.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutelage.errors import ConfigError, ModelError, TutelageError, unknown_name
from tutelage.exporting.compare import compared, logits_of
from tutelage.exporting.described import Compared

TYPES = ("f32", "f16", "bf16", "q8_0", "auto")
SCRIPT = "convert_hf_to_gguf.py"
PLACE = "LLAMA_CPP"
"""Environment variable with a folder of llama.cpp."""


def check_type(kind: str) -> None:
    """Refuse a type that the converter does not write.

    Raises:
        ConfigError: with those it does.
    """
    if kind not in TYPES:
        error = unknown_name("GGUF type", kind, TYPES)
        raise ConfigError(
            f"{error} Smaller ones (q4_k_m) are made of an f16 file by llama.cpp's llama-quantize."
        )


def converter() -> Path | None:
    """llama.cpp's converter: below $LLAMA_CPP, or on the path; None where there is none.

    Raises:
        ConfigError: $LLAMA_CPP is no folder of llama.cpp.
    """
    place = os.environ.get(PLACE)
    if place:
        script = Path(place).expanduser() / SCRIPT
        if not script.is_file():
            raise ConfigError(
                f"${PLACE} is '{place}', and there is no {SCRIPT}. Set it to a folder of llama.cpp"
                " (git clone https://github.com/ggml-org/llama.cpp), or unset it."
            )
        return script
    found = shutil.which(SCRIPT) or shutil.which("convert-hf-to-gguf")
    return None if found is None else Path(found)


def command_line(script: Path | str, folder: Path, file: Path, kind: str) -> list[str]:
    """How the converter is called."""
    script = str(script)
    start = [sys.executable, script] if script.endswith(".py") else [script]
    # Its own idea of a name is that of the folder, which is a temporary one while we write.
    name = file.name.removesuffix(f"-{kind}.gguf")
    return [
        *start, str(folder), "--outfile", str(file), "--outtype", kind, "--model-name", name
    ]  # fmt: skip


def by_hand(folder: Path, file: Path, kind: str) -> str:
    """The command for whoever has no converter yet."""
    words = ["python", f"llama.cpp/{SCRIPT}", *command_line("x", folder, file, kind)[1:]]
    return shlex.join(words)


def no_converter(folder: Path, file: Path, kind: str) -> ConfigError:
    """What is to be done where there is no converter; the folder itself is there."""
    return ConfigError(
        f"'{folder}' is written and compared, but no GGUF file: llama.cpp's converter is not here."
        " Get it with: git clone https://github.com/ggml-org/llama.cpp && pip install -r"
        " llama.cpp/requirements/requirements-convert_hf_to_gguf.txt\nThen run:"
        f" {by_hand(folder, file, kind)}\nOr set {PLACE}=llama.cpp and export again."
    )


def convert(script: Path, folder: Path, file: Path, kind: str) -> None:
    """Run the converter.

    Args:
        script: the converter.
        folder: of the exported model.
        file: the .gguf file to write.
        kind: type of its weights.

    Raises:
        ModelError: it failed, with the end of what it said.
    """
    command = command_line(script, folder, file, kind)
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode or not _is_gguf(file):
        file.unlink(missing_ok=True)
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ModelError(
            f"'{script}' failed: {' / '.join(line.strip() for line in said[-2:]) or 'silently'}."
            " Update llama.cpp and what its requirements name, or convert the folder by hand."
        )


def _is_gguf(file: Path) -> bool:
    """Whether a file begins as such files do."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(4) == b"GGUF"


def compare_file(file: Path, rows: Sequence[Sequence[int]], before: Any) -> Compared | str:
    """Read the file back and hold its logits against the student's; or why that cannot be done.

    Args:
        file: the .gguf file.
        rows: token ids.
        before: the student's logits of them.

    Raises:
        ModelError: a logit is not finite.
    """
    import torch

    from tutelage.models.gguf import read_model

    try:
        model = read_model(file, torch.float32)
        after = [
            one[:, : other.shape[1]]
            for one, other in zip(logits_of(model, rows), before, strict=True)
        ]
    except TutelageError as error:
        return str(error)
    return compared(before, after)
