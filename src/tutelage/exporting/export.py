"""Write the student of a run as a plain folder that any tool loads, and make sure that it is it.

What is written is loaded again and its logits are held against those of the run's student, before
the folder gets its name: with the weights' own type they must be the same to the last bit.
"""

import contextlib
import gc
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tutelage.data import keep_stops
from tutelage.errors import (
    ConfigError,
    ModelError,
    RunFolderError,
    TutelageError,
    unknown_name,
)
from tutelage.exporting.compare import check_finite, compared, logits_of, some_rows
from tutelage.exporting.described import Compared, write_description
from tutelage.exporting.gguf import check_type, compare_file, convert, converter, no_converter
from tutelage.files import atomic_directory
from tutelage.models import load_model
from tutelage.models.adapters import merge_adapters, with_adapter
from tutelage.models.behaviour import behaviour, check_saved
from tutelage.models.load import DTYPES
from tutelage.models.places import local_place
from tutelage.models.saving import disk_checked
from tutelage.pipeline.context.display import Display
from tutelage.pipeline.context.finished import FinishedStudent
from tutelage.pipeline.context.models import on_device

SHARD = "5GB"
_CARD = ("README.md", "recipe.yaml")
_LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "license*", "Notice*")
_ADAPTER = ("adapter_model.safetensors", "adapter_config.json", "generation_config.json")


@dataclass(frozen=True)
class Exported:
    """A folder that was written.

    Attributes:
        folder: where it is.
        arm: whose student it is.
        kind: ``model``, or ``adapter`` for LoRA adapters alone.
        dtype: type of the weights.
        bytes: its size.
        compared: how it was held against the student.
        warnings: what somebody who passes it on should know.
    """

    folder: Path
    arm: str
    kind: str
    dtype: str
    bytes: int
    compared: Compared
    warnings: tuple[str, ...] = ()


def check_output(output: Path) -> None:
    """Refuse a place where something is.

    Raises:
        RunFolderError: something is there.
    """
    if output.exists() or output.is_symlink():
        raise RunFolderError(
            f"'{output}' is there already, and an export never replaces anything. Name another"
            " --output, or remove it first."
        )


def export_student(
    student: FinishedStudent,
    output: Path,
    *,
    merge: bool = False,
    dtype: str | None = None,
    gguf: str | None = None,
    display: Display,
) -> Exported:
    """Write a student as a folder of transformers, or of peft for adapters that are not merged.

    Args:
        student: of a run.
        output: a folder that is not there yet.
        merge: add LoRA adapters to the weights that they are on.
        dtype: type of the weights; None for the student's own.
        gguf: also write a GGUF file of this type into the folder; None for none.
        display: shows what is done.

    Raises:
        RunFolderError: something is at ``output``, or the run's data are gone.
        ConfigError: a type for adapters alone, or adapters on a base that only this run has; or the
            folder is written, and there is no converter for the GGUF file.
        ModelError: weights or logits are not finite, or the folder is not the student.
    """
    check_output(output)
    if dtype is not None and dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    alone = student.is_adapter and not merge
    if alone:
        _check_alone(student, dtype or gguf, "--dtype" if dtype else "--gguf")
    script = None
    if gguf is not None:
        check_type(gguf)
        script = converter()
    own = str(student.models.student_loading["dtype"])
    export = _Export(student, alone, own, own if dtype is None else dtype, display)
    file = f"{output.name}-{gguf}.gguf"
    with atomic_directory(output) as folder, disk_checked(folder):
        found = export.make(folder)
        warnings = list(export.write_papers(folder))
        failed: TutelageError | None = None
        if gguf is not None and script is not None:
            try:
                warnings.append(export.write_gguf(script, folder, folder / file, gguf))
            except ModelError as error:
                said = f"'{output}' is written and compared, but no GGUF file: {error}"
                failed = ModelError(said)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if gguf is not None and script is None:
        failed = no_converter(output, output / file, gguf)
    if failed is not None:
        raise failed
    return Exported(output, student.arm, export.kind, export.dtype, size, found, tuple(warnings))


@dataclass
class _Export:
    """One export on its way.

    Attributes:
        student: what is written.
        alone: whether it is adapters without their base.
        own: the type of the student's weights in its run.
        dtype: that of the weights which are written.
        display: shows what is done.
        rows: of the run's data, on which both are compared.
        before: the student's logits of them.
    """

    student: FinishedStudent
    alone: bool
    own: str
    dtype: str
    display: Display
    rows: Sequence[Sequence[int]] = ()
    before: Sequence[Any] = ()

    @property
    def kind(self) -> str:
        """What the folder holds."""
        return "adapter" if self.alone else "model"

    def make(self, folder: Path) -> Compared:
        """Write the folder and hold it against the student."""
        student, form = self.student, self.student.format
        self.rows = some_rows(student.folder)
        with self.display.task(f"Reading the student of {student.arm}"):
            model = student.load()
            self.before, spoken = logits_of(model, self.rows), behaviour(model, self.rows)
        with self.display.task(f"Writing it in {self.dtype}"):
            if self.alone:
                for name in _ADAPTER:
                    if (student.place / name).is_file():
                        shutil.copyfile(student.place / name, folder / name)
            else:
                _write(student, model, folder, self.dtype)
            del model
            gc.collect()
            student.models.tokenizer.save_pretrained(folder)
        with self.display.task("Loading it again and comparing"):
            again = _load(student, folder, self.dtype, alone=self.alone)
            found = compared(self.before, logits_of(again, self.rows))
            merged = student.is_adapter and not self.alone
            if self.dtype == self.own and not merged:
                _check_identical(found)
            elif self.dtype in (self.own, "float32"):
                check_saved(lambda: again, spoken, "The exported student")
        write_description(
            folder,
            {
                "run": student.folder.resolve().name,
                "arm": student.arm,
                "student": student.fingerprint,
                "kind": self.kind,
                "dtype": self.dtype,
                "prompt": form.as_json(),
                "compared": asdict(found),
            },
        )
        return found

    def write_papers(self, folder: Path) -> Iterator[str]:
        """Copy the card, the recipe and the licences; what is missing, as warnings."""
        return _write_papers(
            self.student, folder, merged=self.student.is_adapter and not self.alone
        )

    def write_gguf(self, script: Path, folder: Path, file: Path, kind: str) -> str:
        """Write a GGUF file beside the model and read it again; says how they compare."""
        with self.display.task(f"Writing {file.name}"):
            convert(script, folder, file, kind)
        with self.display.task("Reading it again and comparing"):
            found = compare_file(file, self.rows, self.before)
        if isinstance(found, str):
            return f"{file.name} was written, but could not be compared: {found}"
        return f"{file.name}, its weights unpacked: {found.words}"


def _check_alone(student: FinishedStudent, value: str | None, option: str) -> None:
    """Refuse to write adapters alone where nobody could use them so."""
    if value is not None:
        raise ConfigError(
            f"{option} is for whole models, and this student is LoRA adapters on a base model. Add"
            f" --merge-lora, or leave {option} out."
        )
    if student.loaded.recipe.student_section.is_made:
        raise ConfigError(
            "This student is LoRA adapters on a model that was cut or healed in this run, which"
            " nobody else has. Add --merge-lora to write the whole model."
        )


def _write(student: FinishedStudent, model: Any, folder: Path, dtype: str) -> None:
    """Write a whole model in some type, in files of at most 5 GB."""
    with _in_type(student, model, dtype) as whole:
        check_finite(whole, dtype)
        keep_stops(whole, student.models.tokenizer).save_pretrained(folder, max_shard_size=SHARD)


@contextlib.contextmanager
def _in_type(student: FinishedStudent, model: Any, dtype: str) -> Iterator[Any]:
    """The whole student with weights of a type: cast by the loader, as whoever loads it casts."""
    code = student.models.student_loading["trust_remote_code"]
    if not student.is_adapter:
        yield load_model(str(student.place), dtype=dtype, trust_remote_code=code)
        return
    merged = merge_adapters(model)
    if dtype == student.models.student_loading["dtype"]:
        yield merged.cpu()
        return
    with tempfile.TemporaryDirectory(prefix="tutelage-") as place:
        merged.save_pretrained(place)
        yield load_model(place, dtype=dtype, trust_remote_code=code)


def _load(student: FinishedStudent, folder: Path, dtype: str, *, alone: bool) -> Any:
    """What was written, loaded as anybody would."""
    if alone:
        return on_device(with_adapter(student.models.student(), str(folder)))
    code = student.models.student_loading["trust_remote_code"]
    return on_device(load_model(str(folder), dtype=dtype, trust_remote_code=code)).eval()


def _check_identical(found: Compared) -> None:
    if not found.identical:
        raise ModelError(
            "The exported model is not the run's student: loaded again, a logit differs by"
            f" {found.largest:.3g} on {found.rows} rows, and none should. It was not kept. The"
            " model's architecture does not survive saving: please report it."
        )


def _write_papers(student: FinishedStudent, folder: Path, *, merged: bool) -> Iterator[str]:
    """Copy the card, the recipe and the licences; what is missing, as warnings."""
    for name in _CARD:
        if (student.place / name).is_file():
            shutil.copyfile(student.place / name, folder / name)
    card = folder / "README.md"
    if not card.is_file():
        yield "the student has no model card (README.md): its run did not end"
    elif merged:
        card.write_text(_merged_card(card.read_text(encoding="utf-8")), encoding="utf-8")
    place = local_place(student.models.student_source)
    start = None if place is None else (place if place.is_dir() else place.parent)
    copied = [
        path
        for pattern in _LICENCES
        for path in (sorted(start.glob(pattern)) if start is not None else ())
        if path.is_file()
    ]
    for path in copied:
        shutil.copyfile(path, folder / path.name)
    if not copied:
        yield (
            f"no licence file came with what the student started from"
            f" ({student.models.student_source}), so none was copied: see its own card"
        )


def _merged_card(text: str) -> str:
    """The card of a student whose adapters were merged afterwards."""
    return text.replace("not merged: load with peft", "merged into the weights by the export")
