"""What each part of a run is made from: all that decides its content, and nothing else.

A part is made anew exactly when one of its inputs differs. Settings come without those that change
no result (``recipe.effects``); models, tokenizers and data files count by content, whatever their
place; another part counts by its content where that is cheap to know (the rows of a split, the
order of a plan), so that a change which comes to nothing stops there.

Left out on purpose: the number of processes and threads, the machine and the versions of libraries.
They change the last bits of a number, or the draw of dropout masks, and ``versions.json`` names
them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.checks.data import difficulty_columns
from tutelage.curriculum.options import LOSS_VALUES
from tutelage.data.sources import are_drawn
from tutelage.difficulty import needs
from tutelage.evaluation import OWN, Suite, questions_fingerprint
from tutelage.files import read_json
from tutelage.generation import AskedModel
from tutelage.pipeline.context.identity import data_identity, sources_identity, tokenizer_identity
from tutelage.pipeline.context.models import Models, loading
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.context.suites import chosen_suite
from tutelage.proofs import fingerprint
from tutelage.recipe import Recipe, effective
from tutelage.recipe.evaluation import SuiteChoice

STUDENT_START = "student_start"
"""The part with the student that all arms start from, when it is cut or healed."""

SPLITS = ("train", "validation", "test")
SPLITS_FILE = "splits.json"
"""In the part of the data: fingerprints of what there is of each split."""

Inputs = dict[str, Any]

_ROWS_VERSION = 2
"""Rises when the same data become other rows; what is made of rows that stay the same stays."""

_DRAWS = {"draws": 2}
"""Of what is sampled. Rises when the same seeds draw other answers; greedy ones have no part."""

_OWN_DRAWS = {"draws": 3}
"""The same of what a student draws while it learns."""


def data_inputs(session: Session) -> Inputs:
    """Of the tokenized data: settings, files, tokenizer, and the seed where it draws."""
    settings = session.recipe.data_section
    values = effective(session.recipe)["data"]
    draws = False
    if settings.kind == "files":
        # A file counts by what it holds; where it lies does not matter.
        values = {name: value for name, value in values.items() if name not in SPLITS}
        draws = any(value for name, value in values.items() if name.startswith("limit_"))
        draws = draws or settings.validation_share > 0 or settings.test_share > 0
        draws = draws or any(are_drawn(settings.sources(split)) for split in SPLITS)
    return {
        "version": _ROWS_VERSION,
        "data": values,
        "sources": _sources(session),
        "kept": ["lengths", "examples", *wanted_columns(session)],
        "tokenizer": tokenizer_identity(session.models.tokenizer),
        **({"seed": session.recipe.data_seed} if draws else {}),
    }


def wanted_columns(session: Session) -> tuple[str, ...]:
    """Columns of the user's training data that some arm takes its difficulty from."""
    arms = session.loaded.arms.values()
    return tuple(sorted({column for recipe in arms for column in difficulty_columns(recipe)}))


def _sources(session: Session) -> Inputs:
    """The user's files by split, and how they are read."""
    settings = session.recipe.data_section
    if settings.kind != "files":
        return {}
    found = {split: sources_identity(settings.sources(split)) for split in SPLITS}
    return {split: sources for split, sources in found.items() if sources}


def split_of(session: Session, split: str) -> str:
    """Fingerprint of a split's tokenized rows and of the tokenizer; empty without such a split."""
    return _content(session, split).get("rows", "")


def _content(session: Session, split: str) -> dict[str, str]:
    """Fingerprints of a split: ``rows``, ``examples`` before tokenizing, further ``columns``."""
    return read_json(session.part("data") / SPLITS_FILE).get(split, {})


def teacher_made_from(models: Models, name: str) -> Inputs:
    """Of a teacher that is cut or fine-tuned: the model and the settings, without the data."""
    teacher = models.recipe.ladder[name]
    # It is cut and trained in float32, whatever type it is used in.
    base = models.identify(models.base_teacher(name), {**loading(teacher), "dtype": "float32"})
    found: Inputs = {"base": base, "layers": teacher.layers}
    if teacher.finetune is not None:
        found["finetune"] = teacher.finetune.model_dump(mode="json", exclude={"checkpoint_every"})
    return found


def teacher_inputs(session: Session, name: str) -> Inputs:
    """Of a teacher that is cut or fine-tuned."""
    found = teacher_made_from(session.models, name)
    if session.recipe.ladder[name].finetune is not None:
        found["data"] = split_of(session, "train")
        found["seed"] = session.recipe.teacher_seed
    return found


def start_inputs(session: Session) -> Inputs:
    """Of a student that is cut from another model, or healed."""
    student, models = session.recipe.student_section, session.models
    found: Inputs = {
        "source": models.identify(models.cut_from, models.student_loading),
        "layers": student.layers,
    }
    settings = student.finetune
    if settings is not None:
        found["finetune"] = settings.model_dump(mode="json", exclude={"checkpoint_every", "data"})
        found["seed"] = session.recipe.student_seed
        if settings.data is None:
            found["data"] = split_of(session, "train")
        else:
            found["tokenized"] = _tokenized(session, "columns")
            found["tokenizer"] = tokenizer_identity(models.tokenizer)
            # A file alone counts as it did when there were no lists.
            alone, own = isinstance(settings.data, str), settings.sources
            found["sources"] = data_identity(own[0].path) if alone else sources_identity(own)
            found |= {"draws": session.recipe.data_seed} if are_drawn(own) else {}
        if settings.objective == "kl":
            found["teacher"] = models.teacher_identity(models.strongest)
    return found


def difficulty_settings(recipe: Recipe) -> Inputs:
    """What an arm may say about measuring; arms that agree share a profile."""
    section = effective(recipe)["difficulty"]
    section.pop("refresh")
    settings, evaluation = recipe.difficulty, recipe.evaluation
    wanted = needs(settings.kind, settings.options)
    found: Inputs = {"difficulty": section}
    if wanted & {"student_losses", "teacher_losses"}:
        found["precision"] = recipe.training.precision
    if "answers" in wanted:
        found["answers"] = {"precision": evaluation.precision}
    if "sampled_answers" in wanted:
        found["answers"] = {**found["answers"], "seed": recipe.student_seed}
        found |= _DRAWS
    if settings.sample is not None:
        found["seed"] = recipe.data_seed
    return found


def difficulty_inputs(session: Session, recipe: Recipe) -> Inputs:
    """Of a profile: how it is measured, on which rows, by which models."""
    wanted = needs(recipe.difficulty.kind, recipe.difficulty.options)
    found = {**difficulty_settings(recipe), "data": split_of(session, "train")}
    if wanted & {"student_losses", "answers"}:
        found["student"] = session.models.student_identity()
    if "answers" in wanted:
        found |= session.models.engine_identity(session.models.asked_student())
    if "teacher_losses" in wanted:
        found["teacher"] = session.models.teacher_identity(session.models.strongest)
    if "column" in wanted:
        found["columns"] = _content(session, "train")["columns"]
    return found


def difficulty_part(session: Session, recipe: Recipe) -> str:
    """Where the profile of an arm is: the main one's own folder, or one for each other measure."""
    settings = difficulty_settings(recipe)
    if settings == difficulty_settings(session.recipe):
        return "difficulty"
    return f"difficulty-{fingerprint(settings)[:8]}"


def written_inputs(session: Session, name: str, asked: Recipe) -> Inputs:
    """Of the texts that a teacher writes: who is asked what, and how.

    Args:
        session: the run.
        name: the teacher's name.
        asked: the recipe of the arm that asks; what happens to the texts afterwards does not count.
    """
    supervision = effective(asked)["supervision"]
    for key in ("kind", "on_wrong", "drop_truncated", "equal_pairs", "engine"):
        supervision.pop(key, None)
    data, models = session.recipe.data, session.models
    writer = models.asked_teacher(name, lambda: models.load_teacher(name), None)
    return {
        "teacher": session.models.teacher_identity(name),
        "tokenizer": tokenizer_identity(session.models.tokenizer_of(name)),
        # Prompts are made of the examples' own fields, which are not all in the tokenized rows.
        "data": split_of(session, "train"),
        "examples": _content(session, "train")["examples"],
        "template": [getattr(data, "template", "auto"), getattr(data, "system", None)],
        "supervision": supervision,
        **models.engine_identity(writer),
        "seed": session.recipe.teacher_seed,
        **(_DRAWS if asked.supervision.samples else {}),
    }


def texts_inputs(session: Session, pairs: Mapping[str, Mapping[str, Any]]) -> Inputs:
    """Of the written answers that an arm learns: the answers themselves, tokenized."""
    return {
        "pairs": fingerprint(pairs),
        "data": split_of(session, "train"),
        "tokenized": _tokenized(session),
    }


def _tokenized(session: Session, *more: str) -> Inputs:
    """How texts that are no rows of the data become tokens, and what else of it counts."""
    data = effective(session.recipe)["data"]
    keys = (*more, "template", "system", "max_length", "max_prompt_length")
    return {key: data.get(key) for key in keys}


def plan_inputs(
    session: Session, arm: str, total_steps: int | None, available: NDArray[np.bool_] | None
) -> Inputs:
    """Of a plan: the profile and the settings that it is compiled from.

    Args:
        session: the run.
        arm: its name.
        total_steps: of the main arm, for its controls.
        available: which teacher's answers there are.
    """
    recipe = session.loaded.arms[arm]
    values = effective(recipe)
    training = ("batch_size", "lr_schedule", "warmup_ratio", "min_lr_ratio")
    return {
        "difficulty": session.run.fingerprint(difficulty_part(session, recipe)),
        "curriculum": values["curriculum"],
        "loss": {n: values["loss"][n] for n in LOSS_VALUES if n in values["loss"]},
        "training": {name: values["training"][name] for name in training},
        "on_policy": {"fraction": values["on_policy"]["fraction"]},
        "ladder": list(recipe.ladder),
        "teacher_schedule": values["teacher_schedule"],
        "supervision": {"kind": recipe.supervision.kind},
        "available": None if available is None else np.packbits(available).tolist(),
        "seed": recipe.student_seed,
        "total_steps": total_steps,
        # What its description says beside the plan.
        "name": recipe.name,
        "difficulty.refresh": recipe.difficulty.refresh,
        "loss.adaptive": values["loss"].get("adaptive"),
        **({} if recipe.on_policy.rule is None else {"text": recipe.on_policy.rule.kind}),
        **({} if recipe.rounded_step is None else {"rounded_step": recipe.rounded_step}),
    }


def training_inputs(session: Session, arm: str, validate_after: Sequence[int]) -> Inputs:
    """Of a trained student: what it starts from, what it learns in which order, and how.

    The plan counts by what it makes the trainer do, and the rows by their content.

    Args:
        session: the run.
        arm: its name.
        validate_after: the steps after which students are validated, where they are.
    """
    recipe = session.loaded.arms[arm]
    values = effective(recipe)
    plan = session.part(f"arms/{arm}/plan")
    found: Inputs = {
        "student": session.models.student_identity(),
        "plan": read_json(plan / "plan.json")["fingerprint"],
        "data": session.run.fingerprint(f"arms/{arm}/texts")
        if recipe.uses_text
        else split_of(session, "train"),
        "loss": values["loss"],
        "on_policy": values["on_policy"],
        "training": values["training"],
        "selection": values["selection"],
        "seed": recipe.student_seed,
    }
    if recipe.on_policy.is_used and recipe.on_policy.sampling_temperature > 0:
        found |= _OWN_DRAWS
    if not recipe.loss.is_cross_entropy_alone:
        found["teachers"] = {n: session.models.teacher_identity(n) for n in recipe.teachers_used}
        found["teacher_schedule"] = values["teacher_schedule"]
        found["signal"] = _signal(session)
    if recipe.difficulty.refresh is not None:
        found["refresh"] = {
            "every": recipe.difficulty.refresh,
            **difficulty_inputs(session, recipe),
            "curriculum": values["curriculum"],
        }
    if recipe.on_policy.rule is not None:
        limit = recipe.selection.limit
        found["held_out"] = {"data": split_of(session, "validation"), "limit": limit}
    if validates(session, recipe):
        found["validation"] = {**_validation(session), "after": list(validate_after)}
    return found


def _signal(session: Session) -> Any:
    """Whether teachers are kept whole, which is exact wherever it is done, or cut to their top."""
    kept = {t.top_k if t.signal == "topk" else None for t in session.recipe.ladder.values()}
    return sorted(kept, key=str)


def validates(session: Session, recipe: Recipe) -> bool:
    """Whether students of an arm are asked something in training."""
    if recipe.selection.metric is None:
        return False
    return recipe.selection.suite is not None or bool(split_of(session, "validation"))


def _validation(session: Session) -> Inputs:
    """What the scores on the validation data depend on, by which a student is selected."""
    selection, held_out = session.recipe.selection, split_of(session, "validation")
    if selection.is_continuous:
        found = {"data": held_out, "limit": selection.limit}
        if selection.metric == "neg_forward_kl":
            found["teacher"] = session.models.teacher_identity(session.models.strongest)
        return found
    settings, suite, chosen = session.recipe.evaluation, session.validation_suite, selection.suite
    return {
        "data": held_out if suite.read is None else questions_fingerprint(suite.questions()),
        **({} if chosen is None else {"suite": suite_inputs(chosen, suite)}),
        "metrics": {name: dict(options) for name, options in settings.metrics.items()},
        "max_new_tokens": settings.max_new_tokens,
        "max_total_tokens": settings.max_total_tokens,
        "precision": settings.precision,
        "limit": selection.limit,
        **({"stop_strings": settings.stop_strings} if settings.stop_strings else {}),
    }


def suite_inputs(chosen: SuiteChoice, suite: Suite) -> Inputs:
    """Of a suite of the table: its options, and what it made of them and of the recipe.

    What its files hold is in its questions; where they lie does not matter.
    """
    generation = asdict(suite.generation)
    del generation["batch_tokens"], generation["logprobs"]  # of no answer, to rounding
    return {
        "kind": chosen.kind,
        "options": {
            name: value
            for name, value in chosen.options.items()
            if not (isinstance(value, str) and Path(value).expanduser().exists())
        },
        "metrics": list(suite.metrics),
        "split": suite.split,
        "generation": generation,
        **({} if suite.generation.greedy else _DRAWS),
        "seeds": list(suite.seeds),
        "limit": suite.limit,
        "prompt": suite.prompt,
        **({"text_ends": list(suite.text_ends)} if suite.text_ends else {}),
        "ks": list(suite.ks),
        **({} if suite.measure is None else {"measure": dict(suite.measure.identity)}),
    }


def evaluation_inputs(
    session: Session, asked: AskedModel, model: Inputs, suite: Suite, *, compared: bool
) -> Inputs:
    """Of an evaluation: the model, the rows, and how it answers.

    Args:
        session: the run.
        asked: the model that is evaluated.
        model: what identifies it.
        suite: what it is asked.
        compared: whether its agreement with the strongest teacher is measured.
    """
    values = effective(session.recipe)["evaluation"]
    for key in ("teacher", "student_before", "agreement", "checkpoints", "suites", "engine"):
        values.pop(key, None)
    found = {"model": model, "data": split_of(session, suite.split), "evaluation": values}
    found |= session.models.engine_identity(asked)
    if not suite.generation.greedy:
        found |= _DRAWS
    if suite.name != OWN:
        found["suite"] = suite_inputs(chosen_suite(session.recipe, suite.name), suite)
    if suite.read is not None:
        found["data"] = questions_fingerprint(suite.questions())
    if compared:
        found["teacher"] = session.models.teacher_identity(session.models.strongest)
        found["signal"] = _signal(session)
    return found
