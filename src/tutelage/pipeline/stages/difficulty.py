"""The stage that measures difficulty, and what it may have to measure for it."""

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.data import padding_id
from tutelage.data.lengths import NUM_RESPONSE_TOKENS, NUM_TOKENS, stored_lengths, stored_texts
from tutelage.difficulty import (
    DIFFICULTIES,
    ExampleLosses,
    estimate_scores,
    example_losses,
    load_profile,
    needs,
    sample_ids,
    save_profile,
    score_examples,
    summarize,
)
from tutelage.errors import ConfigError
from tutelage.files import atomic_write_json
from tutelage.generation import GenerationSettings
from tutelage.ids import Ids
from tutelage.pipeline.context.inputs import difficulty_inputs, difficulty_part
from tutelage.pipeline.context.models import autocast_dtype, on_device
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.data import kept_columns, rows_of
from tutelage.pipeline.stages.room import check_room, stores_ahead
from tutelage.pipeline.stages.store import strongest_place, strongest_store
from tutelage.recipe import Recipe
from tutelage.report.pictures import profile_png
from tutelage.teachers import stored_losses
from tutelage.types import DifficultyProfile


class ModelMeasurements:
    """What scores may need, measured when it is first asked for; see ``Measurements``.

    Args:
        session: the run.
        recipe: whose settings (batch, precision, seed) count.
        rows: the tokenized training rows that are measured.
        model: the student as it is now; None for the untrained one.
    """

    def __init__(self, session: Session, recipe: Recipe, rows: Any, model: Any = None) -> None:
        self._session = session
        self._recipe = recipe
        self._rows = rows
        self._model = model
        self.forward_seconds: float | None = None

    @functools.cached_property
    def _student(self) -> Any:
        return on_device(self._session.models.student()) if self._model is None else self._model

    @property
    def ids(self) -> Sequence[str]:
        """Ids of the examples."""
        return self._ids

    @functools.cached_property
    def _ids(self) -> Ids:
        return stored_texts(self._rows, "id")

    @property
    def student_losses(self) -> ExampleLosses:
        """Losses of the student on the answers, with entropies where a score asks for them."""
        return self._student_losses

    @functools.cached_property
    def _student_losses(self) -> ExampleLosses:
        student = self._student  # loading it says nothing about its speed
        started = time.monotonic()
        losses = self._losses(student, "student")
        self.forward_seconds = time.monotonic() - started
        return losses

    @property
    def teacher_losses(self) -> ExampleLosses:
        """Losses of the strongest teacher on the answers."""
        return self._teacher_losses

    @functools.cached_property
    def _teacher_losses(self) -> ExampleLosses:
        settings = self._recipe.difficulty
        entropies = "entropies" in needs(settings.kind, settings.options)
        if entropies or not stores_ahead(self._session, self._recipe):
            return self._losses(self._session.models.teacher, "teacher")
        # Training will read the same signal: it is stored now, and the teacher runs once.
        place = strongest_place(self._session, self._recipe)
        check_room(self._session, [(place, [self._rows])])
        store = strongest_store(self._session, self._recipe, self._rows)
        with self._session.display.task("Reading the teacher's loss from its store"):
            return ExampleLosses(*stored_losses(store, self._rows))

    def _losses(self, model: Any, who: str) -> ExampleLosses:
        settings = self._recipe.difficulty
        with self._session.display.task(f"Measuring the {who}'s loss") as report:
            return example_losses(
                model,
                self._rows,
                vocab_size=self._session.models.vocab_size,
                pad_token_id=padding_id(self._session.models.tokenizer),
                batch_tokens=settings.batch_tokens,
                autocast_dtype=autocast_dtype(self._recipe.training.precision),
                entropies="entropies" in needs(settings.kind, settings.options),
                progress=report,
            )

    def answers(
        self, samples: int, sampling_temperature: float, max_new_tokens: int
    ) -> list[tuple[str, ...]]:
        """The student's own answers to each prompt."""
        prompts = [row["input_ids"][: row["num_prompt_tokens"]] for row in self._rows]
        settings = GenerationSettings(
            max_new_tokens=max_new_tokens,
            sampling_temperature=sampling_temperature,
            batch_tokens=self._recipe.evaluation.batch_tokens,
            precision=self._recipe.evaluation.precision,
        )
        models, found = self._session.models, []
        if self._model is None:
            asked = dataclasses.replace(models.asked_student(), load=lambda: self._student)
        else:
            asked = models.in_training(self._model)
        engine = models.engine(asked)
        for number in range(samples):
            title = "Asking the student" if samples == 1 else f"Asking the student, {number + 1}"
            with self._session.display.task(title) as report:
                seed = self._recipe.student_seed * 1_000_003 + number
                answers = engine.answer(prompts, settings, seed=seed, progress=report)
            found.append([answer.text for answer in answers])
        return list(zip(*found, strict=True))

    def losses_known(self) -> dict[str, float]:
        """Nats per token of ``student`` and ``teacher`` on the answers, where measured."""
        measured = vars(self)
        return {
            who: float(losses.loss_sums.sum() / max(losses.num_tokens.sum(), 1))
            for who in ("student", "teacher")
            if (losses := measured.get(f"_{who}_losses")) is not None
        }

    @property
    def references(self) -> Sequence[Sequence[str]]:
        """Accepted answers of each example."""
        return list(self._rows["references"])

    @property
    def rationales(self) -> Sequence[str]:
        """The reference rationale of each example: the data's own answer."""
        return list(self._rows["completion"])

    @property
    def response_tokens(self) -> NDArray[np.int64]:
        """Tokens of each answer that are learned."""
        return self.rationale_tokens

    @property
    def rationale_tokens(self) -> NDArray[np.int64]:
        """Tokens of the reference rationale."""
        return stored_lengths(self._rows, NUM_RESPONSE_TOKENS)

    def column(self, name: str) -> Sequence[Any]:
        """A column of the user's data."""
        found: list[str] = []
        rest = iter(self.ids)  # in the order of the data, if not all of them
        wanted = next(rest, None)
        for example_id, columns in kept_columns(self._session, "train"):
            if example_id != wanted:
                continue
            if name not in columns:
                raise ConfigError(
                    f"The data have no column '{name}' to take the difficulty from: they are no"
                    " file. Choose another difficulty, or write the data into a file with that"
                    " column."
                )
            found.append(columns[name])
            wanted = next(rest, None)
        assert wanted is None, "every row was made from an example, in order"
        return found


def measure_difficulty(session: Session, recipe: Recipe) -> DifficultyProfile:
    """Measure the training data with the untrained student, once, and write the profile."""
    part, inputs = difficulty_part(session, recipe), difficulty_inputs(session, recipe)
    with session.missing(part, inputs) as missing:
        if missing:
            with session.making(part, inputs, "difficulty") as folder:
                write_profile(session, recipe, folder)
    return load_profile(session.part(part) / "profile.parquet")


def write_profile(session: Session, recipe: Recipe, folder: Path, model: Any = None) -> None:
    """Measure, and write profile, summary and picture into a folder.

    Args:
        session: the run.
        recipe: the recipe of the arm.
        folder: an existing folder.
        model: the student as it is now; None for the untrained one.
    """
    settings = recipe.difficulty
    rows = rows_of(session, "train")
    ids, groups = stored_texts(rows, "id"), stored_texts(rows, "group")
    started = time.monotonic()
    extra: dict[str, Any] = {}
    if settings.sample is not None and settings.sample < len(ids):
        chosen = Ids(sample_ids(ids, settings.sample, recipe.data_seed))
        part = rows.select(ids.locate(chosen))
        measured = ModelMeasurements(session, recipe, part, model)
        scores = score_examples(settings.kind, settings.options, measured)
        scores, report = estimate_scores(rows, dict(zip(measured.ids, scores, strict=True)))
        extra["estimate"] = dataclasses.asdict(report)
        rows_measured = part
    else:
        measured = ModelMeasurements(session, recipe, rows, model)
        scores = score_examples(settings.kind, settings.options, measured)
        rows_measured = rows
    profile = DifficultyProfile(ids, scores, settings.kind)
    num_tokens = stored_lengths(rows, NUM_RESPONSE_TOKENS)
    save_profile(folder / "profile.parquet", profile, num_tokens=num_tokens, groups=groups)
    unit = DIFFICULTIES[settings.kind].unit_of(settings.options)
    if measured.forward_seconds:
        tokens = int(stored_lengths(rows_measured, NUM_TOKENS).sum())
        extra["tokens_per_second"] = tokens / max(measured.forward_seconds, 1e-9)
    atomic_write_json(
        folder / "summary.json",
        {
            **summarize(profile, groups, unit),
            "seconds": round(time.monotonic() - started, 3),
            "losses": measured.losses_known(),
            **extra,
        },
    )
    profile_png(folder / "profile.png", profile, unit)
