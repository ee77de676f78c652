"""Who answers in a conversation: a student, its teacher, any model, here or on a server."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tutelage.data.asking import PromptFormat
from tutelage.data.prompts import teacher_prompts
from tutelage.errors import ConfigError
from tutelage.exporting.described import read_description
from tutelage.generation import Answer, AskedModel, Chat, GenerationSettings, make_engine
from tutelage.generation.streaming import stream
from tutelage.models import load_tokenizer
from tutelage.models.gate import is_adapter
from tutelage.models.places import find_model, is_hub_name
from tutelage.pipeline.context.display import Display
from tutelage.pipeline.context.finished import (
    FinishedStudent,
    finished_student,
    is_run,
    student_in_run,
)
from tutelage.pipeline.context.models import load_alone, loading, on_device
from tutelage.pipeline.context.subjects import teacher_place
from tutelage.types import Message

LONG_ANSWER = 512
"""Most tokens of an answer of a model that no recipe speaks of."""

Write = Callable[["Speaker", list[Message]], list[int]]


@dataclass
class Speaker:
    """A model in a conversation, with what was said to it and what it said.

    Attributes:
        title: what people call it.
        format: how it is asked.
        asked: the model; its tokenizer is None on a server.
        server: options of the engine ``server``; None for a model that runs here.
        in_chat: whether turns may follow each other.
        write: makes tokens of the turns, where its prompts are not those of ``format``.
        longest: tokens of the longest prompt that it was trained with; 0 for an unknown number.
        turns: the conversation so far.
    """

    title: str
    format: PromptFormat
    asked: AskedModel
    server: Mapping[str, Any] | None = None
    in_chat: bool = True
    write: Write | None = None
    longest: int = 0
    turns: list[Message] = field(default_factory=list)

    @functools.cached_property
    def engine(self) -> Any:
        """What answers with it; a model that runs here is loaded now."""
        if self.server is None:
            return make_engine("local", {}, self.asked)
        return make_engine("server", {**self.server, "model": self.asked.place}, self.asked)

    def prompt(self, words: str) -> list[int]:
        """The tokens that it is given after all that was said.

        Raises:
            DataError: its format cannot write them.
        """
        turns = [*(self.turns if self.in_chat else ()), Message("user", words)]
        if self.write is not None:
            return self.write(self, turns)
        return self.format.tokens(turns, self.asked.tokenizer)

    def answer(
        self,
        words: str,
        settings: GenerationSettings,
        *,
        seed: int,
        on_text: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
    ) -> Answer:
        """Let it answer, and remember both.

        Args:
            words: what it is asked.
            settings: how it answers.
            seed: of the sampling.
            on_text: gets the text piece by piece; a server's all at once.
            stopped: whether somebody has read enough; asked at every token, of a server never.
        """
        if self.server is None:
            answer = stream(
                self.engine,
                self.prompt(words),
                settings,
                seed=seed,
                on_text=on_text,
                stopped=stopped,
            )
        else:
            system = [Message("system", self.format.system)] if self.format.system else []
            asked = Chat((*system, *self.turns, Message("user", words)))
            answer = self.engine.answer([asked], settings, seed=seed)[0]
            on_text(answer.text)
        if self.in_chat:
            self.turns += [Message("user", words), Message("assistant", answer.text)]
        return answer


@dataclass(frozen=True)
class Table:
    """Who sits at the table, and how they answer unless told otherwise.

    Attributes:
        student: the model that is looked at.
        teacher: the one beside it; None for nobody.
        settings: as the run evaluated.
        notes: what the user should know.
    """

    student: Speaker
    teacher: Speaker | None
    settings: GenerationSettings
    notes: tuple[str, ...] = ()


def seat(
    name: str,
    *,
    arm: str | None = None,
    beside: str | None = None,
    alone: bool = False,
    server: Mapping[str, Any] | None = None,
    system: str | None = None,
    values: Mapping[str, str] | None = None,
    options: Mapping[str, Any],
    display: Display,
) -> Table:
    """Find the models that a user named.

    Args:
        name: a run folder, or a model as recipes name it.
        arm: of the run.
        beside: another model than the run's teacher.
        alone: nobody beside it.
        server: options of the engine ``server``, which runs the models that are not here.
        system: a system text in place of the run's.
        values: of further fields of the run's template.
        options: how models that no recipe speaks of are loaded.
        display: says what is loaded.

    Raises:
        ConfigError: names that do not go together.
        ModelError: a model is missing or broken.
        RunFolderError: there is no such student.
    """
    within = student_in_run(name)
    if within is not None and arm is None:
        name, arm = str(within[0]), within[1]
    notes: list[str] = []
    teacher = None
    if is_run(name):
        found = finished_student(name, arm, display)
        student, settings = _of_run(found), _settings(found)
        if beside is None and not alone:
            teacher = _teacher(found, notes)
    else:
        if arm is not None:
            raise ConfigError(f"--arm names a part of a run, and '{name}' is no run folder.")
        student, settings = _any(name, server, options), GenerationSettings(LONG_ANSWER)
    if beside is not None:
        teacher = _beside(beside, student, server, options)
    if not student.in_chat:
        notes.append("each question is asked alone: the student's format has no turns")
    seated = [one for one in (student, teacher) if one is not None]
    for one in seated:
        one.format = one.format.with_values(values or {})
        if system is not None:
            one.format = replace(one.format, system=system or None)
    return Table(student, teacher, settings, tuple(notes))


def _of_run(found: FinishedStudent) -> Speaker:
    """The student of a run, asked as its run asked it."""
    asked = AskedModel(str(found.place), found.load, found.models.tokenizer)
    form = found.format
    longest = found.recipe.data_section.max_prompt_length
    return Speaker(found.arm, form, asked, in_chat=form.in_chat(asked.tokenizer), longest=longest)


def _settings(found: FinishedStudent) -> GenerationSettings:
    """How a run evaluates its students."""
    return found.recipe.evaluation.values_of(GenerationSettings)


def _teacher(found: FinishedStudent, notes: list[str]) -> Speaker | None:
    """The strongest teacher of a run; None where it has none, or none that is still there."""
    models, loaded = found.models, found.loaded
    if not loaded.recipe.ladder:
        return None
    name = models.strongest
    title = loaded.recipe.teacher_title(name)
    place = teacher_place(models, found.folder, name)
    if place is None:
        notes.append(f"{title} is not in the run's cache any more, so the student is alone")
        return None
    load = functools.partial(_load, place, loading(loaded.recipe.ladder[name]))
    # Where both have one tokenizer, evaluation and training ask them the same.
    same = models.shares_tokenizer(name)
    tokenizer = models.tokenizer if same else models.tokenizer_of(name)
    form = found.format
    in_chat = form.in_chat(tokenizer) if same else bool(tokenizer.chat_template)
    write = None if same else functools.partial(_as_it_wrote, found)
    return Speaker(title, form, AskedModel(place, load, tokenizer), in_chat=in_chat, write=write)


def _as_it_wrote(found: FinishedStudent, speaker: Speaker, turns: list[Message]) -> list[int]:
    """What a teacher with another tokenizer is asked: as when it wrote the training texts."""
    supervision = found.recipe.supervision
    example = speaker.format.example(turns[-1].content)
    if len(turns) > 1:
        messages = (*turns, Message("assistant", ""))
        example = replace(example, messages=messages)
    asked = teacher_prompts(
        [example],
        speaker.asked.tokenizer,
        style=supervision.prompt,
        answer_format=supervision.answer_format,
        template=speaker.format.template,
        system=speaker.format.system,
        max_length=1_000_000,
    )
    return next(iter(asked.values()))


def _any(name: str, server: Mapping[str, Any] | None, options: Mapping[str, Any]) -> Speaker:
    """A model that no recipe speaks of; one that was exported says how it is asked."""
    if server is not None and is_hub_name(find_model(name)):
        return Speaker(name, PromptFormat(), AskedModel(name, _not_here, None), server)
    place = find_model(name)
    if is_adapter(place):
        raise ConfigError(
            f"'{name}' is LoRA adapters without the model that they are on. Name the run folder"
            " that they come from, or export them with --merge-lora."
        )
    tokenizer = load_tokenizer(place, trust_remote_code=options["trust_remote_code"])
    about = read_description(place)
    form = PromptFormat() if about is None else PromptFormat.from_json(about["prompt"])
    if about is not None:
        options = {**options, "dtype": about["dtype"]}
    load = functools.partial(_load, place, options)
    asked = AskedModel(place, load, tokenizer)
    title = Path(name).name or name
    return Speaker(title, form, asked, in_chat=form.in_chat(tokenizer))


def _beside(
    name: str, student: Speaker, server: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> Speaker:
    """A model that the user puts beside the student.

    One without a format of its own and without chats is asked as the student is.
    """
    if is_run(name):
        raise ConfigError(
            f"'{name}' is a run folder, and --beside takes one model. Name a student of it:"
            f" {Path(name) / 'arms' / 'ARM' / 'student'}."
        )
    other = _any(name, server, options)
    if other.server is None and read_description(other.asked.place) is None and not other.in_chat:
        other.format = student.format
    return other


def _load(place: str, options: Mapping[str, Any]) -> Any:
    return on_device(load_alone(place, **options)).eval()


def _not_here() -> Any:
    raise ConfigError("This model runs on a server; this needs it in memory here.")
