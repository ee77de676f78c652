"""The conversation itself: questions, commands, and what Ctrl-C means."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from tutelage.chatting.screen import Screen, screen_for
from tutelage.chatting.speakers import Speaker, Table
from tutelage.errors import ConfigError, TutelageError
from tutelage.generation import Answer, GenerationSettings

COMMANDS = {
    "/reset": "forget what was said",
    "/system TEXT": "begin again with another system text; `/system none` for none",
    "/temperature T": "sample at this temperature; 0 takes the likeliest token",
    "/teacher": "let the teacher answer too, or no longer",
    "/help": "this list",
    "/quit": "leave (so do Ctrl-D, and Ctrl-C twice)",
}


@dataclass
class Stopping:
    """What Ctrl-C means: it stops an answer, and leaves where nothing is answered.

    Attributes:
        answering: whether somebody answers.
        asked: whether that is to stop.
        waits: whether an answer comes as a whole, from elsewhere, and is to be left at once.
    """

    answering: bool = False
    asked: bool = False
    waits: bool = False

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """While it is on, Ctrl-C goes here."""
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if not self.answering or self.asked or self.waits:
            raise KeyboardInterrupt
        self.asked = True


@dataclass
class Conversation:
    """A user's questions, and the answers of everybody at the table.

    Attributes:
        table: who answers.
        settings: how.
        seed: of the first answer's sampling; each further question has the next one.
        say: prints a line that is no answer.
        beside: whether the teacher answers too.
        stopping: what Ctrl-C does.
        questions: asked so far.
    """

    table: Table
    settings: GenerationSettings
    seed: int
    say: Callable[[str], Any]
    beside: bool = True
    stopping: Stopping = field(default_factory=Stopping)
    questions: int = 0

    @property
    def speakers(self) -> list[Speaker]:
        """Who answers now."""
        teacher = self.table.teacher
        return [self.table.student, *([teacher] if teacher is not None and self.beside else [])]

    def hold(self, read: Callable[[], str | None]) -> None:
        """Ask until there is nothing more to ask.

        Args:
            read: gives what the user writes; None at its end.
        """
        with self.stopping.taken():
            while (line := read()) is not None:
                words = line.strip()
                if words == "/quit":
                    return
                try:
                    if line.startswith("/"):
                        self._obey(words)
                    elif words:
                        self._ask(words)
                except TutelageError as error:
                    self.say(f"error: {error}")

    def _ask(self, words: str) -> None:
        """Let everybody answer."""
        screen = screen_for(len(self.speakers))()
        stopping = self.stopping
        stopping.answering, stopping.asked = True, False
        try:
            for speaker in self.speakers:
                if not stopping.asked:
                    stopping.waits = speaker.server is not None
                    self._answer(speaker, words, screen)
        finally:
            stopping.answering = False
            screen.close()
        self.questions += 1

    def _answer(self, speaker: Speaker, words: str, screen: Screen) -> None:
        screen.begin(speaker.title)
        note = "no answer"
        try:
            answer = speaker.answer(
                words,
                self.settings,
                seed=self.seed + self.questions,
                on_text=screen.piece,
                stopped=lambda: self.stopping.asked,
            )
            note = "stopped" if self.stopping.asked else ending(answer, self.settings)
        finally:
            screen.end(note)

    def _obey(self, words: str) -> None:
        name, _, value = words.partition(" ")
        value = value.strip()
        if name == "/reset":
            self._reset()
            self.say("(what was said is forgotten)")
        elif name == "/system":
            self._system(value)
        elif name == "/temperature":
            self._temperature(value)
        elif name == "/teacher":
            self._teacher()
        elif name == "/help":
            for command, meaning in COMMANDS.items():
                self.say(f"  {command:<16} {meaning}")
        else:
            known = ", ".join(command.partition(" ")[0] for command in COMMANDS)
            raise ConfigError(
                f"There is no command '{name}'. Known: {known}. Begin with a space to ask a text"
                " that begins with '/'."
            )

    def _reset(self) -> None:
        for speaker in (self.table.student, self.table.teacher):
            if speaker is not None:
                speaker.turns.clear()

    def _system(self, value: str) -> None:
        if not value:
            self.say(f"system text: {self.table.student.format.system or 'none'}")
            return
        text = None if value == "none" else value
        for speaker in (self.table.student, self.table.teacher):
            if speaker is not None:
                speaker.format = replace(speaker.format, system=text)
        self._reset()
        self.say("(a new conversation, with " + ("no system text)" if text is None else "it)"))

    def _temperature(self, value: str) -> None:
        if not value:
            self.say(f"temperature: {self.settings.sampling_temperature:g}")
            return
        try:
            number = float(value)
        except ValueError:
            raise ConfigError(f"'{value}' is no temperature. Give a number, as in 0.7.") from None
        self.settings = replace(self.settings, sampling_temperature=number)
        self.say(f"temperature: {number:g}")

    def _teacher(self) -> None:
        if self.table.teacher is None:
            raise ConfigError("There is no teacher at this table. Start with --beside MODEL.")
        self.beside = not self.beside
        title = self.table.teacher.title
        self.say(f"({title} answers too)" if self.beside else f"({title} is silent)")


def ending(answer: Answer, settings: GenerationSettings) -> str:
    """How an answer ended, in a word where that matters."""
    if not answer.truncated:
        return ""
    if answer.num_tokens < settings.max_new_tokens:
        return "no room left in the model: /reset"
    return f"cut at {settings.max_new_tokens} tokens: --max-new-tokens"


def answers_to(
    table: Table, words: str, settings: GenerationSettings, seed: int
) -> list[tuple[Speaker, Answer]]:
    """The answers of everybody to one question of its own."""
    speakers: Sequence[Speaker] = [table.student, *([table.teacher] if table.teacher else [])]
    found = []
    for speaker in speakers:
        speaker.turns.clear()
        answer = speaker.answer(words, settings, seed=seed, on_text=lambda piece: None)
        found.append((speaker, answer))
    return found
