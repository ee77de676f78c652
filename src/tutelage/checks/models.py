"""Models as far as their configurations, tokenizers and the headers of their weights tell."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tutelage.checks.findings import Findings
from tutelage.errors import ConfigError, ModelError, did_you_mean
from tutelage.models.gate import check_folder, read_config, stored_tensors
from tutelage.models.places import find_model, is_gguf, local_place
from tutelage.models.same_tokenizer import check_same_tokenizer
from tutelage.recipe import Recipe
from tutelage.recipe.teaching import Student, Teacher

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Tokens:
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

    @property
    def size(self) -> int:
        """The number of real tokens."""
        return 1 + max(self.vocabulary.values(), default=-1)


@dataclass(frozen=True)
class SeenModel:
    """A model whose folder was looked through.

    Attributes:
        name: as the recipe says it.
        folder: where it is.
        section: what the recipe says about it.
    """

    name: str
    folder: Path
    section: Student | Teacher

    @cached_property
    def layers(self) -> int | None:
        """How many layers it has; None when its configuration does not say so in a known way."""
        config = read_config(self.folder)
        text = config.get("text_config") or config
        return next((text[key] for key in _LAYERS if isinstance(text.get(key), int)), None)

    @cached_property
    def tokens(self) -> Tokens | None:
        """Its tokenizer; None when it is in a form that only transformers reads."""
        return read_tokens(self.folder)

    def loaded_tokenizer(self) -> Any:
        """Its tokenizer as a run loads it: slow to import, and its word is final."""
        from tutelage.models import load_tokenizer

        return load_tokenizer(str(self.folder), trust_remote_code=self.section.trust_remote_code)


def check_models(findings: Findings) -> None:
    """Every model that the recipe names, and what it asks of them."""
    recipe = findings.loaded.recipe
    student, teachers = see_models(findings)
    for key, model in [("student", student), *_with_keys(recipe, teachers)]:
        if model is None:
            continue
        with findings.about(f"{key}.layers"):
            _check_layers(model.section.layers, model.layers)
        # A tokenizer that only transformers reads is not looked at, unless there seems to be none.
        if model.tokens is None and not _has_other_tokenizer(model.folder):
            with findings.about(f"{key}.model"):
                model.loaded_tokenizer()
    _check_pairs(findings, student, teachers)
    for key, teacher in _with_keys(recipe, teachers):
        size = teacher.tokens.size if teacher is not None and teacher.tokens is not None else None
        asked = None if teacher is None else teacher.section
        if isinstance(asked, Teacher) and asked.signal == "topk" and size and asked.top_k >= size:
            findings.add(
                f"{key}.top_k",
                ConfigError(
                    f"{asked.top_k:,} tokens are to be kept of a vocabulary of {size:,}. Choose"
                    " fewer, or signal: hidden, which keeps them all."
                ),
            )
    if student is not None:
        for arm, settings in findings.loaded.arms.items():
            prefix = "" if settings is recipe else f"controls.{arm}."
            for key, count in token_counts(settings).items() if student.tokens else ():
                with findings.about(f"{prefix}{key}"):
                    check_token_count(key, count, student.tokens.size if student.tokens else 0)
            with findings.about(f"{prefix}training.lora.target_modules"):
                _check_lora_targets(settings, student)


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
        name: _see(findings, f"{_key_of(recipe, name)}.model", teacher.model, teacher)
        for name, teacher in recipe.ladder.items()
    }
    student = recipe.student
    if student is None:
        return None, teachers
    if student.init_from == "TEACHER":
        source = list(teachers.values())[-1] if teachers else None
        seen = None if source is None else SeenModel(source.name, source.folder, student)
        return seen, teachers
    key = "student.model" if student.init_from is None else "student.init_from"
    return _see(findings, key, student.model or student.init_from, student), teachers


def _key_of(recipe: Recipe, name: str) -> str:
    return f"teachers.{list(recipe.ladder).index(name)}" if recipe.teachers else "teacher"


def _with_keys(
    recipe: Recipe, teachers: Mapping[str, SeenModel | None]
) -> Iterator[tuple[str, SeenModel | None]]:
    for name, teacher in teachers.items():
        yield _key_of(recipe, name), teacher


def _see(
    findings: Findings, key: str, name: str | None, section: Student | Teacher
) -> SeenModel | None:
    """The model's folder, looked through by the gate; None when it is not there, or elsewhere."""
    with findings.about(key):
        found = find_model(name or "")
        if is_gguf(found):
            local_place(found)
            return None
        place = local_place(found)
        if place is None:
            _check_no_folder_is_meant(found, findings.loaded.origin(key))
            place = _downloaded(found, section.revision)
        if place is None:
            return None
        check_folder(place, itemsize=_BYTES[section.dtype])
        return SeenModel(found, place, section)
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


def _check_layers(wanted: int | None, there: int | None) -> None:
    if wanted is not None and there is not None and wanted > there:
        raise ConfigError(
            f"{wanted} layers cannot be kept of a model that has {there}. Choose a number from 1"
            f" to {there}."
        )


def read_tokens(folder: Path) -> Tokens | None:
    """The tokenizer in a folder; None when it has no tokenizer.json that could be read."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # whatever it is, transformers will say it
        return None
    settings = _json(folder / "tokenizer_config.json")
    eos = settings.get("eos_token") or _json(folder / "special_tokens_map.json").get("eos_token")
    if isinstance(eos, dict):
        eos = eos.get("content")
    template = bool(settings.get("chat_template")) or any(
        (folder / name).exists()
        for name in ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
    )
    return Tokens(tokenizer.get_vocab(with_added_tokens=True), eos, template)


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _has_other_tokenizer(folder: Path) -> bool:
    names = ("tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
    return any((folder / name).exists() for name in names)


def _check_pairs(
    findings: Findings, student: SeenModel | None, teachers: Mapping[str, SeenModel | None]
) -> None:
    """Teachers whose distributions are compared with the student's have the student's tokens."""
    if student is None:
        return
    recipe = findings.loaded.recipe
    for name in _logits_of(findings):
        teacher = teachers.get(name)
        if teacher is None or teacher.folder == student.folder:
            continue
        with findings.about(f"{_key_of(recipe, name)}.model"):
            try:
                if student.tokens is not None and teacher.tokens is not None:
                    check_same_tokenizer(teacher.tokens, student.tokens)
            except ModelError:
                check_same_tokenizer(teacher.loaded_tokenizer(), student.loaded_tokenizer())


def _logits_of(findings: Findings) -> list[str]:
    """The teachers that some arm takes distributions from."""
    names: list[str] = []
    for recipe in findings.loaded.arms.values():
        if recipe.uses_text or not recipe.needs_teacher or recipe.loss.is_cross_entropy_alone:
            continue
        ladder = list(recipe.ladder)
        ends = {"strongest": ladder[-1:], "weakest": ladder[:1]}
        names += ends.get(recipe.teacher_schedule.kind, ladder)
    return list(dict.fromkeys(names))


def _check_lora_targets(recipe: Recipe, student: SeenModel) -> None:
    """The layers that get an adapter exist, each of those that are named."""
    lora = recipe.training.lora
    if lora is None or lora.target_modules == "all-linear":
        return
    stored = {
        name.removesuffix(".weight")
        for name, tensor in stored_tensors(student.folder).items()
        if name.endswith(".weight") and len(tensor.shape) == 2
    }
    if not _missing_targets(lora.target_modules, stored):
        return
    # Weights may be stored under other names than the layers have: the model itself decides.
    modules = _module_names(student)
    missing = _missing_targets(lora.target_modules, modules)
    if missing:
        known = sorted({name.rpartition(".")[2] for name in modules})
        raise ConfigError(
            f"The student has no layer {missing[0]!r}.{did_you_mean(missing[0], known)} Layers"
            f" that can have an adapter: {', '.join(known)}; or all-linear."
        )


def _missing_targets(targets: str | list[str], names: set[str]) -> list[str]:
    if isinstance(targets, str):
        try:
            pattern = re.compile(targets)
        except re.error as error:
            raise ConfigError(
                f"{targets!r} is no regular expression: {error}. Write a list of names."
            ) from error
        return [] if any(pattern.fullmatch(name) for name in names) else [targets]
    return [t for t in targets if not any(n == t or n.endswith(f".{t}") for n in names)]


def _module_names(student: SeenModel) -> set[str]:
    """Names of the layers with weights to adapt, of a model that is built without its weights."""
    from tutelage.models import load_config
    from tutelage.models.load import skeleton

    trusted = student.section.trust_remote_code
    config = load_config(str(student.folder), trust_remote_code=trusted)
    kinds = ("Linear", "Conv1D", "Embedding")
    return {
        name
        for name, module in skeleton(config, trust_remote_code=trusted).named_modules()
        if type(module).__name__.endswith(kinds)
    }
