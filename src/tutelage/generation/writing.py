"""Let a teacher write answers to prompts."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tutelage.errors import ConfigError
from tutelage.generation.engine import Answer, Engine
from tutelage.generation.settings import GenerationSettings
from tutelage.generation.store import TextStore, WrittenText
from tutelage.generation.supervision import ExampleVerifier
from tutelage.proofs import fingerprint

CHUNK = 64
"""Prompts that are asked at once, unless told otherwise."""

_KEEP_EVERY = 0.5
"""Seconds that an answer waits at most for others to be written with."""

_SEED_DIGITS = 12  # hexadecimal: a whole number below 2^48, which every generator takes


@dataclass(frozen=True)
class Writer:
    """A teacher as a writer of answers.

    Attributes:
        name: what the texts say of who wrote them.
        engine: answers with the teacher, whose tokenizer need not be the student's.
        settings: lengths and sampling.
        seed: of the sampling.
        verifier: scores an answer; None to leave them unjudged.
        chunk: prompts that are asked at once.
    """

    name: str
    engine: Engine
    settings: GenerationSettings
    seed: int = 0
    verifier: ExampleVerifier | None = None
    chunk: int = CHUNK

    def write(
        self,
        prompts: Mapping[str, Sequence[int]],
        store: TextStore,
        *,
        samples: Sequence[int] = (0,),
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Write what is missing, chunk by chunk, the shortest prompts first.

        A text is drawn from the seed, its id, its prompt and the number of the sample alone, and it
        reaches the disk as soon as the engine says that it is final: answers of a server as they
        come, those of a model in this process with their chunk. So a continued run writes the very
        same texts; whatever else is asked, a text stays what it is to rounding (see ``Engine``).

        Args:
            prompts: tokens of each prompt by example id.
            store: where the texts go.
            samples: numbers of the answers among those to the same prompt.
            progress: called with (answers done, answers in all); what was there does not count.

        Raises:
            ConfigError: several greedy answers to one prompt, which would all be the same.
            DataError: a prompt without tokens.
            RunFolderError: the disk is full; all chunks before are kept.
        """
        if self.settings.greedy and len(samples) > 1:
            raise ConfigError(
                f"{len(samples)} greedy answers to each prompt would all be the same. Set a"
                " `sampling_temperature`, or ask for one answer."
            )
        todo = {
            sample: sorted(store.missing(prompts, sample), key=lambda i: (len(prompts[i]), i))
            for sample in samples
        }
        total, done = sum(map(len, todo.values())), 0
        for sample, ids in todo.items():
            for start in range(0, len(ids), self.chunk):
                part = {i: prompts[i] for i in ids[start : start + self.chunk]}
                self._write_chunk(part, sample, store, _shifted(progress, done, total))
                done += len(part)

    def _write_chunk(
        self,
        prompts: Mapping[str, Sequence[int]],
        sample: int,
        store: TextStore,
        progress: Callable[[int], None],
    ) -> None:
        """Write the texts of one chunk; when it is broken off, those that have come are kept."""
        # By id too: examples with the same prompt get texts of their own.
        seeds = [
            int(fingerprint([self.seed, sample, example_id])[:_SEED_DIGITS], 16)
            for example_id in prompts
        ]
        ids, waiting, since, kept = list(prompts), [], 0.0, 0

        def keep(place: int, answer: Answer) -> None:
            nonlocal since
            since = since if waiting else time.monotonic()
            waiting.append((ids[place], answer))
            if time.monotonic() - since > _KEEP_EVERY:
                flush()

        def flush() -> None:
            nonlocal kept
            store.add([self._text(example_id, sample, answer) for example_id, answer in waiting])
            kept += len(waiting)
            waiting.clear()
            progress(kept)

        try:
            self.engine.answer(list(prompts.values()), self.settings, seed=seeds, on_answer=keep)
        finally:
            if waiting:
                flush()

    def _text(self, example_id: str, sample: int, answer: Answer) -> WrittenText:
        """An answer with what is known of it."""
        # A stop string may end within a token, so the text alone says what was written before it.
        whole = not self.settings.stop_strings
        return WrittenText(
            id=example_id,
            sample=sample,
            text=answer.text,
            writer=self.name,
            num_tokens=answer.num_tokens,
            truncated=answer.truncated,
            score=None if self.verifier is None else self.verifier(example_id, answer.text),
            seed=answer.seed,
            sampling_temperature=self.settings.sampling_temperature,
            tokens=answer.tokens[: None if answer.truncated else -1] if whole else (),
        )

    def write_until_right(
        self,
        prompts: Mapping[str, Sequence[int]],
        store: TextStore,
        *,
        max_samples: int,
        resample_temperature: float,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Write one answer to each prompt, and more to those whose answers are all wrong.

        Args:
            prompts: tokens of each prompt by example id.
            store: where the texts go.
            max_samples: most answers to one prompt.
            resample_temperature: for all answers but the first.
            progress: called with (answers done, answers in all), once through for each round.

        Raises:
            ConfigError: there is no verifier, or ``resample_temperature`` is not above 0.
            DataError: a prompt without tokens.
            RunFolderError: the disk is full; all chunks before are kept.
        """
        if self.verifier is None:
            raise ConfigError(
                "Answers are to be written until one is right, but nobody says what is right. Give"
                " the writer a verifier, or write one answer to each prompt."
            )
        if max_samples > 1 and not resample_temperature > 0:
            raise ConfigError(
                f"`resample_temperature` is {resample_temperature}, so every further answer would"
                " be the greedy one again. Use a positive number, such as 0.7."
            )
        self.write(prompts, store, progress=progress)
        warm = replace(
            self, settings=replace(self.settings, sampling_temperature=resample_temperature)
        )
        for sample in range(1, max_samples):
            wrong = {i: prompts[i] for i in prompts if not _any_right(store, i, sample)}
            warm.write(wrong, store, samples=(sample,), progress=progress)


def _any_right(store: TextStore, example_id: str, samples: int) -> bool:
    """Whether one of the first answers to a prompt is right."""
    texts = (store.get(example_id, sample) for sample in range(samples))
    return any(text is not None and text.right for text in texts)


def _shifted(
    progress: Callable[[int, int], None] | None, before: int, total: int
) -> Callable[[int], None]:
    """Tell how far all is, when told how far one chunk is."""

    def report(done: int) -> None:
        if progress is not None:
            progress(before + done, total)

    return report
