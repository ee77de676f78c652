"""Models as far as their configurations, tokenizers and the headers of their weights tell."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tutelage.checks.findings import Findings
from tutelage.errors import ConfigError, ModelError, did_you_mean
from tutelage.files import read_json_or
from tutelage.models.gate import (
    VOCABULARIES,
    check_folder,
    number_of_layers,
    read_config,
    stored_tensors,
)
from tutelage.models.gguf import converted_before
from tutelage.models.lora_targets import missing_targets
from tutelage.models.places import find_model, is_gguf, local_place
from tutelage.models.same_tokenizer import check_same_tokenizer, vocabulary_size
from tutelage.models.shorten import layer_indices
from tutelage.recipe import Recipe
from tutelage.recipe.teaching import Student, Teacher

_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class SeenTokenizer:
    """What the files of a tokenizer say, without transformers."""

    vocabulary: Mapping[str, int]
    eos_token: str | None
    has_chat_template: bool

    @property
    def eos_token_id(self) -> int | None:
        """The id of the token that ends a text."""
        return None if self.eos_token is None else self.vocabulary.get(self.eos_token)

    def get_vocab(self) -> Mapping[str, int]:
        """All tokens and their ids."""
        return self.vocabulary


@dataclass(frozen=True)
class SeenModel:
    """A model whose folder was looked through.

    Attributes:
        name: as the recipe says it.
        folder: where it is.
        section: what the recipe says about it.
        tokenizer_folder: where its tokenizer is.
    """

    name: str
    folder: Path
    section: Student | Teacher
    tokenizer_folder: Path

    @cached_property
    def layers(self) -> int | None:
        """How many layers it has; None when its configuration does not say so in a known way."""
        return number_of_layers(read_config(self.folder))

    @cached_property
    def tokenizer(self) -> SeenTokenizer | None:
        """Its tokenizer; None when it is in a form that only transformers reads."""
        return read_tokenizer(self.tokenizer_folder)

    def loaded_tokenizer(self) -> Any:
        """Its tokenizer as a run loads it: slow to import, and its word is final."""
        from tutelage.models import load_tokenizer

        folder = str(self.tokenizer_folder)
        return load_tokenizer(folder, trust_remote_code=self.section.trust_remote_code)


def check_models(
    findings: Findings, student: SeenModel | None, teachers: Mapping[str, SeenModel | None]
) -> None:
    """Every model that the recipe names, and what it asks of them; see :func:`see_models`."""
    there = {findings.teacher_key(name): seen for name, seen in teachers.items()}
    for key, model in {"student": student, **there}.items():
        if model is None:
            continue
        with findings.about(f"{key}.layers"):
            if model.section.layers is not None and model.layers is not None:
                layer_indices(model.layers, model.section.layers)
        # A tokenizer that only transformers reads is not looked at, unless there seems to be none.
        place = model.tokenizer_folder
        if model.tokenizer is None and not any((place / name).exists() for name in VOCABULARIES):
            with findings.about(f"{key}.model"):
                model.loaded_tokenizer()
    _check_pairs(findings, student, teachers)
    for key, teacher in there.items():
        if teacher is not None:
            _check_top_k(findings, key, teacher)
    if student is None:
        return
    size = None if student.tokenizer is None else vocabulary_size(student.tokenizer)
    for prefix, settings in findings.arms():
        for key, count in token_counts(settings).items() if size else ():
            with findings.about(f"{prefix}{key}"):
                check_token_count(key, count, size or 0)
        with findings.about(f"{prefix}training.lora.target_modules"):
            _check_lora_targets(settings, student)


def _check_top_k(findings: Findings, key: str, teacher: SeenModel) -> None:
    section, tokenizer = teacher.section, teacher.tokenizer
    if not isinstance(section, Teacher) or section.signal != "topk" or tokenizer is None:
        return
    size = vocabulary_size(tokenizer)
    if section.top_k >= size:
        findings.add(
            f"{key}.top_k",
            ConfigError(
                f"{section.top_k:,} tokens are to be kept of a vocabulary of {size:,}. Choose"
                " fewer, or signal: hidden, which keeps them all."
            ),
        )


def token_counts(recipe: Recipe) -> dict[str, int]:
    """How many of the likeliest tokens an arm asks for, by the key that says so."""
    asked = {
        "loss.top_k": recipe.loss.top_k,
        "evaluation.top_k": recipe.evaluation.top_k,
        "on_policy.top_k": recipe.on_policy.top_k,
    }
    return {key: count for key, count in asked.items() if count}


def check_token_count(key: str, count: int, size: int) -> None:
    """Refuse more tokens than there are.

    Args:
        key: where the recipe says it.
        count: how many of the likeliest tokens are asked for.
        size: of the vocabulary.

    Raises:
        ConfigError: there are fewer.
    """
    if count > size:
        raise ConfigError(
            f"{key} is {count:,}, and the tokenizer has {size:,} tokens. Choose a number up to"
            f" {size:,}, or leave it out."
        )


def see_models(findings: Findings) -> tuple[SeenModel | None, dict[str, SeenModel | None]]:
    """The student (or what it is cut from) and the teachers, where they are on this machine."""
    recipe = findings.loaded.recipe
    teachers = {
        name: _see(
            findings,
            f"{findings.teacher_key(name)}.model",
            teacher.model,
            teacher,
            weights=not findings.loaded.is_only_asked(name),
        )
        for name, teacher in recipe.ladder.items()
    }
    student = recipe.student
    if student is None:
        return None, teachers
    if student.init_from == "TEACHER":
        source = list(teachers.values())[-1] if teachers else None
        return None if source is None else replace(source, section=student), teachers
    key = "student.model" if student.init_from is None else "student.init_from"
    return _see(findings, key, student.model or student.init_from, student), teachers


def _see(
    findings: Findings,
    key: str,
    name: str | None,
    section: Student | Teacher,
    *,
    weights: bool = True,
) -> SeenModel | None:
    """The model's folder, looked through by the gate; None when it cannot be, or has a fault."""
    with findings.about(key):
        found = find_model(name or "")
        place = tokenizer = local_place(found)
        if is_gguf(found):
            folders = converted_before(found, section.dtype)
            if folders is None:
                findings.unseen(
                    key, f"'{name}' is a .gguf file, unpacked when a run first loads it"
                )
                return None
            place, tokenizer = folders
        if place is None:
            _check_no_folder_is_meant(found, findings.loaded.origin(key))
            place = tokenizer = _downloaded(found, section.revision)
        if place is None or tokenizer is None:
            findings.unseen(key, f"'{name}' is not on this machine, but the name of one on the hub")
            return None
        check_folder(place, itemsize=_BYTES[section.dtype] if weights else None, weights=weights)
        return SeenModel(found, place, section, tokenizer)
    return None


def _check_no_folder_is_meant(name: str, origin: str) -> None:
    """A name such as ``models/small`` is a path when there is a folder ``models`` here."""
    recipe = Path(origin.rpartition(":")[0])
    for here in (Path.cwd(), recipe.parent if recipe.is_file() else Path.cwd()):
        parent = (here / name).parent
        if "/" in name and parent.is_dir() and parent != here:
            hint = did_you_mean(Path(name).name, [p.name for p in parent.iterdir()])
            raise ModelError(
                f"There is no folder '{name}', though there is '{parent}'.{hint} Correct the path;"
                f" it counts from the recipe's folder or from '{Path.cwd()}'."
            )


def _downloaded(name: str, revision: str | None) -> Path | None:
    """The folder of a model of the hub when all of it is on this machine; nothing is asked for."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError as error:
        raise ModelError(
            f"'{name}' is no folder here, and cannot be the name of a model on the hub: {error}."
        ) from error
    folder = Path(found).parent if isinstance(found, str) else None
    return folder if folder is not None and any(folder.glob("*.safetensors")) else None


def read_tokenizer(folder: Path) -> SeenTokenizer | None:
    """The tokenizer in a folder; None when it has no tokenizer.json that could be read."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # whatever it is, transformers will say it
        return None
    settings = read_json_or(folder / "tokenizer_config.json", {})
    special = read_json_or(folder / "special_tokens_map.json", {})
    eos = settings.get("eos_token") or special.get("eos_token")
    if isinstance(eos, dict):
        eos = eos.get("content")
    template = bool(settings.get("chat_template")) or any(
        (folder / name).exists()
        for name in ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
    )
    return SeenTokenizer(tokenizer.get_vocab(with_added_tokens=True), eos, template)


def _check_pairs(
    findings: Findings, student: SeenModel | None, teachers: Mapping[str, SeenModel | None]
) -> None:
    """Teachers whose distributions are compared with the student's have the student's tokens."""
    if student is None:
        return
    for name in findings.loaded.compared_teachers:
        teacher = teachers.get(name)
        if teacher is None or teacher.folder == student.folder:
            continue
        with findings.about(f"{findings.teacher_key(name)}.model"):
            try:
                if student.tokenizer is not None and teacher.tokenizer is not None:
                    check_same_tokenizer(teacher.tokenizer, student.tokenizer)
            except ModelError:
                from tutelage.data import ends_alike

                pair = teacher.loaded_tokenizer(), student.loaded_tokenizer()
                alike = findings.loaded.recipe.in_chats and ends_alike(*pair)
                check_same_tokenizer(*pair, ends_alike=alike)


def _check_lora_targets(recipe: Recipe, student: SeenModel) -> None:
    """The layers that get an adapter exist, each of those that are named."""
    lora = recipe.training.lora
    if lora is None:
        return
    stored = [
        name.removesuffix(".weight")
        for name, tensor in stored_tensors(student.folder).items()
        if name.endswith(".weight") and len(tensor.shape) == 2
    ]
    if not missing_targets(lora.target_modules, stored):
        return
    # Weights may be stored under other names than the layers have: the model itself decides.
    from tutelage.models import load_config
    from tutelage.models.adapters import check_lora_targets
    from tutelage.models.load import skeleton

    trusted = student.section.trust_remote_code
    config = load_config(str(student.folder), trust_remote_code=trusted)
    check_lora_targets(skeleton(config, trust_remote_code=trusted), lora.target_modules)
