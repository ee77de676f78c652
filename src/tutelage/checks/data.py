"""The first rows of each data file: whether they make examples, and the ones that are asked for."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.checks.findings import Findings
from tutelage.checks.models import SeenModel
from tutelage.data.load import no_rows, source_rows
from tutelage.data.read import looks_like_a_file
from tutelage.data.row import Row
from tutelage.data.shapes import find_shape
from tutelage.data.sources import Source
from tutelage.data.templates import STYLES, TEMPLATES
from tutelage.errors import ConfigError, DataError, did_you_mean
from tutelage.placeholders import placeholders
from tutelage.recipe import Recipe
from tutelage.recipe.sections import FileData

FIRST_ROWS = 20
_LARGE = 32_000_000
"""Bytes of a file that can only be read as a whole, and is not for a look at its first rows."""


def check_data(findings: Findings, student: SeenModel | None) -> None:
    """Files are there, can be read, and their first rows are examples with all that is named.

    Args:
        findings: what is found so far.
        student: as far as it is on this machine.
    """
    settings = findings.loaded.recipe.data
    if not isinstance(settings, FileData):
        return
    columns = _columns_of_difficulties(findings)
    asked = [
        (f"data.{split}", settings.sources(split), split, columns if split == "train" else {})
        for split in ("train", "validation", "test")
    ]
    learner = findings.loaded.recipe.student
    if learner is not None and learner.finetune is not None:
        asked.append(("student.finetune.data", learner.finetune.sources, "train", {}))
    for key, sources, split, further in asked:
        for number, source in enumerate(sources):
            own = f"{key}.{number}" if len(sources) > 1 else key
            with findings.about(own):
                _check_source(findings, settings, student, source, split, further, own)


def _check_source(
    findings: Findings,
    settings: FileData,
    student: SeenModel | None,
    source: Source,
    split: str,
    columns: Mapping[str, str],
    key: str,
) -> None:
    path = source.path
    if not is_here(path):
        findings.unseen(key, f"'{path}' is no file here, but a name on the hub")
        return
    if _takes_long(Path(path).expanduser()):
        findings.unseen(key, f"'{path}' is large, and only read as a whole")
        return
    rows = source_rows(source, split, tuple(columns), column_names(settings))
    content = _check_rows(findings, settings, source, rows, columns)
    _check_chat(findings, settings, key, student, conversations=bool(content.messages))


def is_here(source: str) -> bool:
    """Whether a source is on this machine, or is meant to be."""
    try:
        return Path(source).expanduser().exists() or looks_like_a_file(source)
    except OSError:
        return True


def column_names(settings: Any) -> dict[str, str]:
    """Our names of columns to the files'; none where the data are no files."""
    return {str(ours): theirs for ours, theirs in getattr(settings, "columns", {}).items()}


def _takes_long(path: Path) -> bool:
    return path.suffix == ".json" and path.is_file() and path.stat().st_size > _LARGE


def _check_rows(
    findings: Findings,
    settings: FileData,
    source: Source,
    rows: Iterator[Row],
    columns: Mapping[str, str],
) -> Any:
    """What the last row that was looked at says."""
    shape = None
    content: Any = None
    row = None
    for row in itertools.islice(rows, FIRST_ROWS):
        shape = shape or find_shape(row)
        content = shape.content(row)
    if row is None:
        raise no_rows(source)
    for column, key in columns.items():
        if column not in row.columns:
            findings.add(
                key,
                DataError(
                    f"{row.where}: there is no column '{column}'."
                    f"{did_you_mean(column, row.found)} The columns are {', '.join(row.found)}."
                ),
            )
    known = tuple(content.fields)
    if settings.template not in TEMPLATES:
        _check_fields(findings, "data.template", settings.template, known)
    _check_prompts(findings, known)
    return content


def _check_prompts(findings: Findings, known: tuple[str, ...]) -> None:
    """What teachers are asked names fields that there are."""
    for prefix, recipe in findings.arms():
        if recipe.uses_text and recipe.supervision.prompt not in STYLES:
            key = f"{prefix}supervision.prompt"
            _check_fields(findings, key, recipe.supervision.prompt, (*known, "prompt"))


def _check_fields(findings: Findings, key: str, template: str, known: tuple[str, ...]) -> None:
    for name in placeholders(template):
        if name not in known:
            findings.add(
                key,
                ConfigError(
                    f"The template names the field '{name}', which these examples do not have."
                    f"{did_you_mean(name, known)} Known: {', '.join(dict.fromkeys(known))}."
                ),
            )


def _check_chat(
    findings: Findings,
    settings: FileData,
    key: str,
    student: SeenModel | None,
    *,
    conversations: bool,
) -> None:
    """Conversations, and rows that are to be some, need a chat template."""
    if settings.template != "chat" and not (conversations and settings.template == "auto"):
        return
    tokenizer = None if student is None else student.tokenizer
    if tokenizer is not None and not tokenizer.has_chat_template:
        asks = "the rows are conversations" if conversations else "data.template is chat"
        findings.add(
            "data.template" if settings.template == "chat" else key,
            ConfigError(
                f"{asks}, but the student's tokenizer has no chat template. Use a model that has"
                " one, or data.template: plain, which takes one question and one answer."
            ),
        )


def _columns_of_difficulties(findings: Findings) -> dict[str, str]:
    """Columns of the data that some difficulty reads, and the key that names each."""
    found: dict[str, str] = {}
    for prefix, recipe in findings.arms():
        for column in difficulty_columns(recipe):
            found.setdefault(column, f"{prefix}difficulty")
    return found


def difficulty_columns(recipe: Recipe) -> list[str]:
    """Columns of the data that the difficulty of an arm reads."""
    specs: list[Mapping[str, Any]] = [{"kind": recipe.difficulty.kind, **recipe.difficulty.options}]
    columns = []
    while specs:
        spec = specs.pop()
        specs += spec.get("of", ())
        if spec.get("kind") == "column":
            columns.append(spec["name"])
    return columns
