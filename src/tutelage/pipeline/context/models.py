"""The models and tokenizers of a run, each loaded once and only when something needs it."""

import contextlib
import functools
import gc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from tutelage.data import ends_alike, keep_stops
from tutelage.errors import ModelError
from tutelage.generation import AskedModel, Engine
from tutelage.generation.engines.table import engine_of_recipe, runs_here, what_decides
from tutelage.hashes import unhashed_bytes
from tutelage.models import (
    ModelSize,
    check_same_tokenizer,
    describe_model,
    load_config,
    load_model,
    load_tokenizer,
)
from tutelage.models.adapters import with_adapter
from tutelage.models.gate import is_adapter, model_files
from tutelage.models.head import head_size
from tutelage.models.places import find_model, is_gguf, local_place
from tutelage.models.same_tokenizer import vocabulary_size
from tutelage.pipeline.context.display import Display, size_text
from tutelage.pipeline.context.identity import model_identity
from tutelage.recipe import LoadedRecipe

_LONG_READ = 2 << 30
"""Reading so many bytes takes long enough to be said."""


def device() -> torch.device:
    """The accelerator of this machine, or the CPU."""
    accelerated = torch.accelerator.is_available()
    found = torch.accelerator.current_accelerator() if accelerated else None
    return found if found is not None else torch.device("cpu")


def on_device(model: Any) -> Any:
    """The model, moved to the accelerator when there is one."""
    return model.to(device())


def loading(section: Any) -> dict[str, Any]:
    """What a recipe's section on a model says about loading it, weights or configuration.

    Every model of a run is loaded, and known again, with these.
    """
    return {
        "revision": section.revision,
        "dtype": section.dtype,
        "trust_remote_code": section.trust_remote_code,
    }


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The type of matrix products for a precision in a recipe; None for float32."""
    return torch.bfloat16 if precision == "bfloat16" else None


def load_alone(place: str, **options: Any) -> Any:
    """Load a model, after those that nobody names any more are gone.

    Training ties a model, its optimizer and its trainer into circles, which stay in memory until
    garbage is collected; that may be long after the next model is there.

    Args:
        place: what ``load_model`` takes.
        options: how it is loaded.
    """
    gc.collect()
    return load_model(place, **options)


class Models:
    """Loads what the arms of a recipe name; they share student, teachers and data.

    Args:
        loaded: the recipe with its arms.
        start: where the student is put that all arms start from, when it is cut or healed.
        display: where it is said that large files are read to know them again.

    Attributes:
        teacher_places: where each teacher is, by name from weak to strong, once it is prepared.
    """

    def __init__(self, loaded: LoadedRecipe, start: Path, display: Display | None = None) -> None:
        self._loaded = loaded
        self.recipe = loaded.recipe
        self._display = display or Display(quiet=True)
        self._said: set[tuple[str, str]] = set()
        # Of this run alone: a cache of the class would keep its teacher beyond the run.
        self.shares_tokenizer = functools.cache(self._shares_tokenizer)
        self.size_of = functools.cache(self._size_of)
        self._start = start
        self.teacher_places: dict[str, str] = {}

    # ---- the student ------------------------------------------------------------------------

    @property
    def student_source(self) -> str:
        """The model that the student is, or is cut from."""
        student = self.recipe.student_section
        of_teacher = student.init_from == "TEACHER"
        return self.base_teacher(self.strongest) if of_teacher else find_model(student.source)

    @property
    def student_place(self) -> str:
        """Where the untrained student is: where it was given, or where it is made for this run."""
        return str(self._start) if self.recipe.student_section.is_made else self.student_source

    @property
    def student_loading(self) -> dict[str, Any]:
        """How the student is loaded, before training and after it, and what it is cut from."""
        student = self.recipe.student_section
        options = loading(student)
        if student.init_from == "TEACHER":
            teacher = loading(self.recipe.ladder[self.strongest])
            options["revision"] = teacher["revision"]
            options["trust_remote_code"] |= teacher["trust_remote_code"]
        return options

    def identify(self, place: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """What makes a model the same, for deciding what is fresh.

        Args:
            place: where it is.
            options: how it is loaded.
        """
        local = local_place(place)
        files = model_files(local) if local is not None and local.is_dir() else []
        unread = unhashed_bytes(files)
        if unread < _LONG_READ:
            return model_identity(place, **options)
        title = f"Reading {size_text(unread)} of '{place}' once, to know it again"
        with self._display.task(title) as report:
            return model_identity(place, **options, progress=report)

    def student_identity(self) -> dict[str, Any]:
        """What makes the untrained student the same."""
        return self.identify(self.student_place, self.student_loading)

    def teacher_identity(self, name: str) -> dict[str, Any]:
        """What makes a teacher the same, as it teaches: pruned and fine-tuned."""
        return self.identify(self.teacher_places[name], loading(self.recipe.ladder[name]))

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The student's tokenizer; teachers whose logits are used are checked to have it too."""
        options = self.student_loading
        self._say("the tokenizer", self.student_source)
        tokenizer: Any = load_tokenizer(
            self.student_source,
            revision=options["revision"],
            trust_remote_code=options["trust_remote_code"],
        )
        for name in self._loaded.compared_teachers:
            if not self.is_student_source(name):
                teacher = self.tokenizer_of(name)
                self._check_tokens(teacher, tokenizer)
                if teacher.eos_token_id != tokenizer.eos_token_id:
                    self._display.note(
                        f"{self.recipe.teacher_title(name)} ends a text with"
                        f" '{teacher.eos_token}' and the student with '{tokenizer.eos_token}'; the"
                        " end of a turn in chats, which is what is learned, is one for both"
                    )
        return tokenizer

    def check_tokens(self, name: str) -> None:
        """Refuse a teacher whose distributions cannot be compared with the student's.

        Raises:
            ModelError: its tokens or what ends its answers are others.
        """
        self._check_tokens(self.tokenizer_of(name), self.tokenizer)

    def _check_tokens(self, teacher: Any, student: Any) -> None:
        alike = self.recipe.in_chats and ends_alike(teacher, student)
        check_same_tokenizer(teacher, student, ends_alike=alike)

    def _say(self, what: str, place: str) -> None:
        """Say once what is loaded, before it is: nothing else is seen meanwhile."""
        if (what, place) not in self._said:
            self._said.add((what, place))
            more = " (a .gguf file is converted once)" if is_gguf(place) else ""
            self._display.note(f"Loading {what}: {place}{more}")

    @property
    def cut_from(self) -> str:
        """The model that the student is, or is cut from, as it is once teachers are prepared."""
        of_teacher = self.recipe.student_section.init_from == "TEACHER"
        return self.teacher_places[self.strongest] if of_teacher else self.student_source

    def student(self) -> Any:
        """A new copy of the untrained student, which stops where its answers are to end."""
        self._say("the student", self.student_place)
        model = load_alone(self.student_place, **self.student_loading)
        self.check_head(student=model)
        return keep_stops(model, self.tokenizer)

    def saved_student(self, place: str) -> Any:
        """A student that was trained and saved, on its device: whole, or adapters on the base."""
        if is_adapter(place):
            return on_device(with_adapter(self.student(), place))
        return on_device(load_alone(place, **self.student_loading))

    def saved_identity(self, place: str) -> dict[str, Any]:
        """What makes a trained student the same, with what its adapters are on."""
        found = self.identify(place, self.student_loading)
        return {**found, "base": self.student_identity()} if is_adapter(place) else found

    # ---- who answers ------------------------------------------------------------------------

    def engine(self, asked: AskedModel) -> Engine:
        """What answers with a model: the recipe's engine, or this process for one in training."""
        return engine_of_recipe(self.recipe.engine.kind, self.recipe.engine.options, asked)

    def engine_identity(self, asked: AskedModel) -> dict[str, Any]:
        """What decides a model's answers beside the model itself: nothing where it runs here."""
        kind, options = self.recipe.engine.kind, self.recipe.engine.options
        here = runs_here(kind, options, asked)
        return {} if here else {"engine": what_decides(kind, options, ask=True)}

    def asked_student(self) -> AskedModel:
        """The untrained student, to be asked."""
        return AskedModel(
            self.student_place, lambda: on_device(self.student()), self.tokenizer, "student"
        )

    def asked_saved(self, place: str) -> AskedModel:
        """A student that was trained and saved, to be asked."""
        load = functools.partial(self.saved_student, place)
        # Adapters alone are no model that others could run.
        return AskedModel("" if is_adapter(place) else place, load, self.tokenizer)

    def asked_teacher(self, name: str, load: Callable[[], Any], tokenizer: Any) -> AskedModel:
        """A teacher, to be asked.

        Args:
            name: its name.
            load: gives its model.
            tokenizer: its own, or the student's when they are the same.
        """
        return AskedModel(self.teacher_places[name], load, tokenizer, name)

    def in_training(self, model: Any) -> AskedModel:
        """The student as it is in the middle of its training, to be asked."""
        return AskedModel("", lambda: model, self.tokenizer)

    @functools.cached_property
    def vocab_size(self) -> int:
        """Number of real tokens, to which both heads are cut."""
        return vocabulary_size(self.tokenizer)

    @functools.cached_property
    def student_size(self) -> ModelSize:
        """How big the student is, from its configuration alone."""
        options = self.student_loading
        config = load_config(self.student_place, **options)
        return describe_model(config, trust_remote_code=options["trust_remote_code"])

    # ---- teachers ---------------------------------------------------------------------------

    @property
    def strongest(self) -> str:
        """Name of the last teacher of the ladder."""
        return tuple(self.recipe.ladder)[-1]

    def base_teacher(self, name: str) -> str:
        """Where a teacher comes from, before pruning and fine-tuning."""
        return find_model(self.recipe.ladder[name].source)

    def is_student_source(self, name: str) -> bool:
        """Whether a teacher is, before any fine-tuning, what the student is or is cut from."""
        same_revision = self.recipe.ladder[name].revision == self.student_loading["revision"]
        return self.base_teacher(name) == self.student_source and same_revision

    def tokenizer_of(self, name: str) -> Any:
        """A teacher's own tokenizer."""
        teacher = self.recipe.ladder[name]
        return load_tokenizer(
            self.base_teacher(name),
            revision=teacher.revision,
            trust_remote_code=teacher.trust_remote_code,
        )

    def load_teacher(self, name: str) -> Any:
        """A teacher, pruned and fine-tuned when the recipe says so, on its device and frozen."""
        return on_device(self.loaded_teacher(name))

    def loaded_teacher(self, name: str) -> Any:
        """The same, on the CPU."""
        teacher = self.recipe.ladder[name]
        self._say(self.recipe.teacher_title(name), self.teacher_places[name])
        model = load_alone(self.teacher_places[name], **loading(teacher))
        return model.eval().requires_grad_(False)

    @functools.cached_property
    def teacher(self) -> Any:
        """The strongest teacher."""
        model = self.load_teacher(self.strongest)
        if self.shares_tokenizer(self.strongest):
            self.check_head(teacher=model)
        return model

    def any_teacher(self, name: str) -> Any:
        """A teacher; the strongest stays in memory until it is released."""
        return self.teacher if name == self.strongest else self.load_teacher(name)

    @contextlib.contextmanager
    def borrowed(self, name: str) -> Iterator[Any]:
        """A teacher for a while: it stays in memory only when it was there before."""
        there = name == self.strongest and "teacher" in self.__dict__
        yield self.teacher if there else self.load_teacher(name)

    def release_teacher(self) -> None:
        """Let go of the strongest teacher's model; it is loaded again when it is asked for."""
        self.__dict__.pop("teacher", None)

    def _shares_tokenizer(self, name: str) -> bool:
        """Whether a teacher's distributions can be compared with the student's."""
        if self.is_student_source(name):
            return True
        try:
            self.check_tokens(name)
        except ModelError:
            return False
        return True

    @functools.cached_property
    def teacher_size(self) -> ModelSize | None:
        """How big the strongest teacher is; None without one."""
        return self.size_of(self.strongest) if self.recipe.ladder else None

    def _size_of(self, name: str) -> ModelSize:
        """How big a teacher is, from its configuration alone."""
        teacher = self.recipe.ladder[name]
        config = load_config(self.teacher_places[name], **loading(teacher))
        return describe_model(
            config, dtype=teacher.dtype, trust_remote_code=teacher.trust_remote_code
        )

    def check_head(self, *, teacher: Any = None, student: Any = None) -> None:
        """Refuse a model whose head has fewer rows than there are tokens."""
        check_same_tokenizer(
            self.tokenizer,
            self.tokenizer,
            teacher_head=None if teacher is None else head_size(teacher),
            student_head=None if student is None else head_size(student),
        )
