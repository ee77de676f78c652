"""The student's model card: how it was made, in the format that the Hugging Face hub reads.

No license is written: it follows from those of the teacher, the student and the data, which only
the person who publishes the model knows.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tutelage.report.comparison import compare, verdict
from tutelage.report.quantities import count, fixed, large, number
from tutelage.report.run import Arm, Run


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
        title: heading of the card.
        recipe_name: name of the recipe.
        arm: name of the arm that trained this student.
        student: what the student started from (hub name or folder).
        teacher: name of the teacher; empty when there was none.
        command: the command that makes it again.
        base_model: the hub's name of what the student started from; empty when it came from a
            folder, because the hub refuses anything but its own names there.
        description: a sentence or two about the run.
        method: what the method does, in a sentence.
        paper: citation of the method.
        student_parameters: number of parameters; None when it is not known.
        teacher_parameters: number of parameters; None when it is not known.
        examples: split name to number of examples used.
        response_tokens: response tokens in the training data.
        stages: stages of the plan, as in ``plan.json``.
        results: lines of the results, this student first.
        num_test_examples: on how many examples the results were measured.
        verdict: sentences about the results.
        versions: software and machine by name.
        seed: of the run; None when it is not known.
        fingerprint: of the resolved recipe.
    """

    title: str
    recipe_name: str
    arm: str
    student: str
    teacher: str
    command: str
    base_model: str = ""
    description: str = ""
    method: str = ""
    paper: str = ""
    student_parameters: int | None = None
    teacher_parameters: int | None = None
    examples: Mapping[str, int] = field(default_factory=dict)
    response_tokens: int | None = None
    stages: Sequence[Mapping[str, Any]] = ()
    results: Sequence[CardResult] = ()
    num_test_examples: int = 0
    verdict: Sequence[str] = ()
    versions: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    fingerprint: str = ""


def model_card(values: CardValues) -> str:
    """The text of the student's ``README.md``: YAML front matter, then Markdown.

    Args:
        values: what the card says.
    """
    # Markdown, not HTML: cells escape what would break a table, and the hub cleans HTML itself.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cell": _cell,
        "count": count,
        "fixed": fixed,
        "large": large,
        "number": number,
        "yaml": lambda text: json.dumps(text, ensure_ascii=False),
    }
    fields = {name: getattr(values, name) for name in CardValues.__dataclass_fields__}
    fields["title"] = " ".join(values.title.split())
    fields["teacher"] = values.teacher or "none"
    text = environment.get_template("card.md").render(**fields)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def card_values(run: Run, arm: Arm, *, base_model: str = "") -> CardValues:
    """What the card of one arm's student says, from the files of its run.

    Args:
        run: what ``load_run`` read.
        arm: one of its arms.
        base_model: the hub's name of what the student started from; empty for a folder.
    """
    info = run.info
    student, teacher = info.get("student") or {}, info.get("teacher") or {}
    taught = any(stage.get("teacher") for stage in arm.plan.get("stages") or ())
    splits = {name: split for name, split in run.data.items() if isinstance(split, Mapping)}
    comparison = compare(run)
    shown = sorted(
        (model for model in comparison.models if model.kind != "last"),
        key=lambda model: model.name != arm.name,
    )
    results = [
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
    return CardValues(
        title=run.title if arm is run.main else f"{run.title} ({arm.name})",
        recipe_name=str(info.get("name") or run.folder.name),
        arm=arm.name,
        student=str(student.get("name") or "unknown"),
        teacher=str(teacher.get("name") or "unknown") if taught else "",
        command=str(info.get("command") or "tutelage run recipe.yaml"),
        base_model=base_model,
        description=str(info.get("description") or ""),
        paper=str(info.get("paper") or ""),
        student_parameters=student.get("parameters"),
        teacher_parameters=teacher.get("parameters") if taught else None,
        examples={name: int(split.get("kept") or 0) for name, split in splits.items()},
        response_tokens=splits.get("train", {}).get("response_tokens"),
        stages=arm.plan.get("stages") or (),
        results=results,
        num_test_examples=arm.evaluation.num_examples if arm.evaluation else 0,
        verdict=verdict(comparison) if results and arm is run.main else (),
        versions=run.versions,
        seed=info.get("seed"),
        fingerprint=str(info.get("fingerprint") or ""),
    )


def _cell(value: Any) -> str:
    """Text that cannot leave its table cell."""
    return " ".join(str(value).split()).replace("|", "\\|")
