"""The student's model card: how it was made, in the format that the Hugging Face hub reads.

No licence is chosen: it follows from those of the teacher, the student and the data, and the card
says what these say of themselves.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from tutelage.models.places import SMOLLM2, SMOLLM2_NAME
from tutelage.report.card_facts import (
    TO_FILL_IN,
    cost_rows,
    evaluations_of,
    limits,
    model_index,
    weight_checksums,
)
from tutelage.report.comparison import Comparison, compare
from tutelage.report.loading import example_prompt, is_adapter, learned_opening, load_snippet
from tutelage.report.markdown import markdown_code, markdown_fence, markdown_text
from tutelage.report.quantities import count, fixed, large, number, seeds_text
from tutelage.report.run import Arm, Run, learned
from tutelage.report.verdict import teacher_warning, verdict


@dataclass(frozen=True)
class CardResult:
    """One line of the card's results, as text: ``CardResult("cpd", "exact match (%)", "72.6")``."""

    model: str
    metric: str
    value: str
    interval: str = ""


@dataclass(frozen=True)
class CardValues:
    """What a model card says.

    Attributes:
        title: heading of the card: what the model is.
        recipe_name: name of the recipe.
        arm: name of the arm that trained this student.
        student: what the student started from (hub name or folder).
        teacher: names of the teachers; empty when there was none.
        command: the command that makes it again.
        base_model: the hub's name of what the student started from; empty when it came from a
            folder, because the hub refuses anything but its own names there.
        datasets: hub names of the data; empty when they came from files.
        description: a sentence or two about the run.
        paper: citation of the method.
        settings: further rows of the table: what, and its value.
        licences: what each part says of its own licence, one sentence each.
        load: Python that loads the student.
        student_parameters: number of parameters; None when it is not known.
        teacher_parameters: number of parameters; None when it is not known.
        examples: split name to number of examples used.
        response_tokens: response tokens that were learned, each as often as it was.
        stages: stages of the plan, as in ``plan.json``.
        results: lines of the results, this student first.
        num_test_examples: on how many examples the results were measured.
        verdict: sentences about the results.
        versions: software and machine by name.
        seeds: of the data, the teachers and this student, in words.
        fingerprint: of the resolved recipe.
        relation: what the student is to ``base_model`` on the hub: ``finetune``, ``adapter``;
            empty where none of its words fits.
        licence: the hub's name of the licence of what the student started from; empty when it is
            not known, and then the card has none.
        languages: codes of the languages that it was started with; empty when not known.
        index: its results as the hub's ``model-index``.
        data: split, source, examples used, and licence of each part of the data.
        limits: what it was made for, and what is not known of it.
        cost: what it took.
        checksums: of the files with its weights.
    """

    title: str
    recipe_name: str
    arm: str
    student: str
    teacher: str
    command: str
    base_model: str = ""
    datasets: Sequence[str] = ()
    description: str = ""
    paper: str = ""
    settings: Sequence[tuple[str, str]] = ()
    licences: Sequence[str] = ()
    load: str = ""
    student_parameters: int | None = None
    teacher_parameters: int | None = None
    examples: Mapping[str, int] = field(default_factory=dict)
    response_tokens: float | None = None
    stages: Sequence[Mapping[str, Any]] = ()
    results: Sequence[CardResult] = ()
    num_test_examples: int = 0
    verdict: Sequence[str] = ()
    versions: Mapping[str, Any] = field(default_factory=dict)
    seeds: str = ""
    fingerprint: str = ""
    relation: str = ""
    licence: str = ""
    languages: Sequence[str] = ()
    index: Sequence[Mapping[str, Any]] = ()
    data: Sequence[tuple[str, str, str, str]] = ()
    limits: Sequence[str] = ()
    cost: Sequence[tuple[str, str]] = ()
    checksums: Sequence[tuple[str, str]] = ()


def model_card(values: CardValues) -> str:
    """The text of the student's ``README.md``: YAML front matter, then Markdown.

    Args:
        values: what the card says.
    """
    fields = {name: getattr(values, name) for name in CardValues.__dataclass_fields__}
    fields["teacher"] = values.teacher or "none"
    fields["to_fill_in"] = TO_FILL_IN
    text = _template().render(**fields)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # of HTML; what users wrote passes through the filters below
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "code": markdown_code,
        "count": count,
        "fence": markdown_fence,
        "fixed": fixed,
        "large": large,
        "number": number,
        "text": markdown_text,
        "yaml": _yaml,
        "yaml_block": _yaml_block,
    }
    return environment.get_template("card.md")


def card_values(
    run: Run,
    arm: Arm,
    *,
    base_model: str = "",
    datasets: Sequence[str] = (),
    settings: Sequence[tuple[str, str]] = (),
    licences: Sequence[str] = (),
    seeds: Mapping[str, int] | None = None,
    show_prompt: bool = False,
    licence: str = "",
    languages: Sequence[str] = (),
    relation: str = "",
    data: Sequence[tuple[str, str, str, str]] = (),
) -> CardValues:
    """What the card of one arm's student says, from the files of its run.

    Args:
        run: what ``load_run`` read.
        arm: one of its arms.
        base_model: the hub's name of what the student started from; empty for a folder.
        datasets: hub names of the data; empty for files.
        settings: further rows: what, and its value.
        licences: what each part says of its own licence.
        seeds: of the data, the teachers and this arm's student; None when they are not known.
        show_prompt: put a prompt of the test data into the code that loads the student. A card is
            for publishing, and the user's data may not be.
        licence: of what the student started from; empty when it is not known.
        languages: likewise.
        relation: what the student is to ``base_model``.
        data: split, source, examples used, and licence of each part of the data.
    """
    info = run.info
    student, teacher = info.get("student") or {}, info.get("teacher") or {}
    teachers = _teachers(run, arm)
    splits = {name: split for name, split in run.data.items() if isinstance(split, Mapping)}
    comparison = compare(run)
    results = _results(comparison, arm)
    said = (*verdict(comparison), teacher_warning(comparison)) if arm is run.main else ()
    prompt, in_chat = example_prompt(run)
    only = len(teachers) == 1 and teachers[0] == teacher.get("name")
    title = _title(str(student.get("name") or run.title), teachers, arm)
    evaluated = evaluations_of(run, arm)
    sources = {split: source for split, source, *_ in data}
    # A title goes on with the revision, the config and the split.
    asked = re.split(r"[@:]| \(", sources.get("test", "").removeprefix("held out of "))[0]
    hub_data = {next(iter(evaluated), ""): asked} if asked in datasets else {}
    return CardValues(
        title=title,
        recipe_name=str(info.get("name") or run.folder.name),
        arm=arm.name,
        student=str(student.get("name") or "unknown"),
        teacher=", ".join(teachers),
        command="tutelage run recipe.yaml",
        base_model=base_model,
        datasets=datasets,
        description=str(info.get("description") or ""),
        paper=str(info.get("paper") or "") if arm is run.main else "",
        settings=settings,
        licences=licences,
        load=load_snippet(
            ".",
            prompt if show_prompt else "",
            in_chat,
            adapter=is_adapter(run, arm.name),
            opening=learned_opening(run),
        ),
        student_parameters=student.get("parameters"),
        teacher_parameters=teacher.get("parameters") if only else None,
        examples={name: int(split.get("kept") or 0) for name, split in splits.items()},
        response_tokens=learned(arm.metrics)[0] or None,
        stages=arm.plan.get("stages") or (),
        results=results,
        num_test_examples=arm.evaluation.num_examples if arm.evaluation else 0,
        verdict=[sentence for sentence in said if sentence and results],
        versions=run.versions,
        seeds=seeds_text(seeds) if seeds else "",
        fingerprint=str(info.get("fingerprint") or ""),
        relation=relation if base_model else "",
        licence=licence,
        languages=languages,
        index=model_index(title, evaluated, hub_data),
        data=data,
        limits=limits(run, arm),
        cost=cost_rows(run, arm),
        checksums=weight_checksums(run.folder / "arms" / arm.name / "student"),
    )


def _results(comparison: Comparison, arm: Arm) -> list[CardResult]:
    """What all models scored on the test data, this student first."""
    shown = sorted(
        (model for model in comparison.models if model.kind != "last"),
        key=lambda model: model.name != arm.name,
    )
    return [
        CardResult(
            "this student" if model.is_arm and model.name == arm.name else model.name,
            metric.label,
            metric.text(model.scores[metric.name].mean),
            metric.interval(model.scores[metric.name]),
        )
        for metric in comparison.metrics
        for model in shown
        if metric.name in model.scores
    ]


def _teachers(run: Run, arm: Arm) -> list[str]:
    """The models that this arm's plan takes anything from, from weak to strong."""
    ladder = run.info.get("ladder") or {}
    stages = {str(stage.get("teacher") or "") for stage in arm.plan.get("stages") or ()}
    names = {name for teachers in stages for name in re.split(r" \+ |, ", teachers) if name}
    known = [str(model) for name, model in ladder.items() if name in names]
    return known or sorted(names - set(ladder))


def _title(student: str, teachers: Sequence[str], arm: Arm) -> str:
    """What the model is: where it came from and who taught it."""
    name = _short(student)
    if teachers:
        return f"{name}, distilled from {' and '.join(map(_short, teachers))} ({arm.name})"
    return f"{name}, fine-tuned ({arm.name})"


def _short(name: str) -> str:
    """The last part of a path, hub name or embedded name; what a short name stands for."""
    return re.split(r"[/:]", name.rstrip("/").replace(SMOLLM2, SMOLLM2_NAME))[-1]


def _yaml(value: Any) -> str:
    """A value on one line of YAML, whatever characters it has."""
    return yaml.safe_dump(str(value), default_style='"', width=10**9, allow_unicode=True).strip()


def _yaml_block(value: Any) -> str:
    """A list as YAML, for the front matter."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10**9).rstrip("\n")
