"""A recipe with its models and data, each loaded once and only when a check looks at it."""

import functools
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.checks.findings import check_recipe
from tutelage.checks.models import see_models
from tutelage.data import Opening, TokenizedSplit
from tutelage.data.loaded import LoadedExamples, draw_positions
from tutelage.errors import TutelageError
from tutelage.models import ModelSize, describe_model, keep_layers, load_config
from tutelage.models.load import skeleton
from tutelage.pipeline.context.display import Display
from tutelage.pipeline.context.models import Models, load_alone, loading, on_device
from tutelage.pipeline.stages.data import read_splits, tokenize_as
from tutelage.recipe import LoadedRecipe, Recipe
from tutelage.types import Example

ROWS = 2000
"""Rows of a split that are tokenized at most, drawn at random."""


class Patient:
    """What the checks look at.

    Args:
        loaded: the recipe.
        display: shows progress.
        sample: examples on which the models are compared; 0 loads no weights.
        seed: of what is drawn.

    Attributes:
        seconds: what measuring took: per token, by what was measured.
    """

    def __init__(
        self, loaded: LoadedRecipe, display: Display, sample: int = 100, seed: int = 0
    ) -> None:
        self.loaded = loaded
        self.recipe: Recipe = loaded.recipe
        self.display = display
        self.sample = sample
        self.seed = seed
        # Nothing is made here, so no folder of a run is needed; and what is loaded is said once.
        self.models = Models(loaded, Path("no such folder"), Display(quiet=True))
        self.models.teacher_places.update(
            {name: self.models.base_teacher(name) for name in self.recipe.ladder}
        )
        self.seconds: dict[str, float] = {}

    # ---- what files say ---------------------------------------------------------------------

    @functools.cached_property
    def looked(self) -> Any:
        """What ``tutelage validate`` finds."""
        return check_recipe(self.loaded)

    @functools.cached_property
    def folders(self) -> dict[str, Path]:
        """Folders of tokenizers of the models that are on this machine: student, then teachers."""
        from tutelage.checks.findings import Findings

        student, teachers = see_models(Findings(self.loaded))
        seen = {"student": student, **{self.title(name): one for name, one in teachers.items()}}
        return {name: model.tokenizer_folder for name, model in seen.items() if model is not None}

    def title(self, teacher: str) -> str:
        """What to call a teacher in a table of models."""
        return "teacher" if len(self.recipe.ladder) == 1 else f"teacher {teacher}"

    # ---- tokenizers -------------------------------------------------------------------------

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The student's tokenizer."""
        return self.models.tokenizer

    @functools.cached_property
    def tokenizers(self) -> dict[str, Any]:
        """The tokenizer of each model that is on this machine: student, then teachers."""
        found = {"student": self.tokenizer}
        for name in self.recipe.ladder:
            if not self.loaded.is_only_asked(name):
                found[self.title(name)] = self.models.tokenizer_of(name)
        return found

    @property
    def comparable(self) -> list[str]:
        """Teachers that have the student's tokens and weights on this machine."""
        names = [name for name in self.recipe.ladder if not self.loaded.is_only_asked(name)]
        return [name for name in names if self.models.shares_tokenizer(name)]

    # ---- sizes ------------------------------------------------------------------------------

    @functools.cached_property
    def configs(self) -> dict[str, Any]:
        """Configurations of the models, student first, before anything is cut from them."""
        found = {"student": load_config(self.models.student_source, **self.models.student_loading)}
        for name, teacher in self.recipe.ladder.items():
            if not self.loaded.is_only_asked(name):
                place = self.models.base_teacher(name)
                found[self.title(name)] = load_config(place, **loading(teacher))
        return found

    @functools.cached_property
    def student_size(self) -> ModelSize:
        """Size of the student, after it is cut."""
        options = self.models.student_loading
        trusted = options["trust_remote_code"]
        size, layers = self.configs["student"], self.recipe.student_section.layers
        if layers is not None:
            size = keep_layers(skeleton(size, trust_remote_code=trusted), layers).config
        return describe_model(size, trust_remote_code=trusted)

    @functools.cached_property
    def teacher_size(self) -> ModelSize | None:
        """Size of the strongest teacher; None where there is none on this machine."""
        here = [n for n in self.recipe.ladder if not self.loaded.is_only_asked(n)]
        return self.models.size_of(here[-1]) if here else None

    # ---- data -------------------------------------------------------------------------------

    @functools.cached_property
    def splits(self) -> dict[str, LoadedExamples]:
        """The examples of each split, all of them."""
        with self.display.task("Reading the data"):
            return read_splits(self.recipe)

    @functools.cached_property
    def drawn(self) -> dict[str, Sequence[Example]]:
        """Of each split so many examples as are tokenized, in the order of the file."""
        found: dict[str, Sequence[Example]] = {}
        for split, loaded in self.splits.items():
            count = len(loaded.examples)
            if count > ROWS:
                places = draw_positions(random.Random(self.seed), count, ROWS)
                loaded = loaded.select(np.sort(places), duplicates=False)
            found[split] = loaded.examples
        return found

    @functools.cached_property
    def tokenized(self) -> dict[str, TokenizedSplit]:
        """The drawn examples as the student reads them, by the recipe's template and lengths."""
        found: dict[str, TokenizedSplit] = {}
        openings: tuple[Opening, ...] = ()
        with self.display.task("Tokenizing") as report:
            for split, examples in self.drawn.items():
                long = "drop" if split == "train" else self.recipe.data_section.long_prompts
                found[split] = tokenize_as(
                    self.recipe, self.tokenizer, examples,
                    long_prompts=long, openings=openings, progress=report,
                )  # fmt: skip
                if split == "train":
                    openings = found[split].openings
        return found

    @functools.cached_property
    def whole(self) -> dict[str, Any]:
        """The drawn training examples without limits of length: for what the limits cut."""
        wide = self.recipe.data_section.model_copy(
            update={"max_length": 10**9, "max_prompt_length": 10**9}
        )
        recipe = self.recipe.model_copy(update={"data": wide})
        return {
            split: tokenize_as(
                recipe, self.tokenizer, examples,
                long_prompts="drop" if split == "train" else "keep",
            ).dataset
            for split, examples in self.drawn.items()
        }  # fmt: skip

    @property
    def judged_split(self) -> str:
        """Where models are compared: on data that nobody learns, if there are any."""
        return next((s for s in ("validation", "test") if s in self.splits), "train")

    def some_rows(self, split: str, count: int | None = None) -> Any:
        """Rows of a split with something learned in them, drawn at random.

        Args:
            split: which one.
            count: how many at most; ``sample`` when left out.
        """
        rows = self.tokenized[split].dataset
        good = np.flatnonzero(np.asarray(rows["num_response_tokens"]) > 0)
        count = self.sample if count is None else count
        if len(good) > count:
            good = good[np.sort(draw_positions(random.Random(self.seed), len(good), count))]
        return rows.select(good)

    # ---- models in memory -------------------------------------------------------------------

    @functools.cached_property
    def student(self) -> Any:
        """The student before it is healed or trained, on its device."""
        with self.display.task("Loading the student"):
            model = load_alone(self.models.student_source, **self.models.student_loading)
            layers = self.recipe.student_section.layers
            return on_device(model if layers is None else keep_layers(model, layers)).eval()

    @functools.cached_property
    def teacher(self) -> Any:
        """The strongest teacher that shares the student's tokens, as it is before fine-tuning."""
        name = self.comparable[-1]
        with self.display.task(f"Loading {self.recipe.teacher_title(name)}"):
            model = self.models.loaded_teacher(name)
            layers = self.recipe.ladder[name].layers
            return on_device(model if layers is None else keep_layers(model, layers)).eval()

    def arms(self) -> Iterator[tuple[str, Recipe]]:
        """Name and recipe of each arm."""
        yield from self.loaded.arms.items()

    def attempt(self, mapping: str) -> Mapping[str, Any]:
        """One of the mappings above, or nothing where making it is an error that is said anyway."""
        try:
            return getattr(self, mapping)
        except TutelageError:
            return {}
