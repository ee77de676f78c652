"""Let a teacher write answers to prompts, and choose among them."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from tutelage.generation.local import generate_answers
from tutelage.generation.settings import GenerationSettings
from tutelage.generation.store import TextStore, WrittenText

CHUNK = 64
"""Prompts between two writes to the disk."""

OnWrong = Literal["keep", "drop", "resample"]
Judge = Callable[[str, str], float]
"""Example id and text to a score in [0, 1]."""


@dataclass(frozen=True)
class Writer:
    """A teacher as a writer of answers.

    Attributes:
        name: what the texts say of who wrote them.
        model: a causal language model.
        tokenizer: its own tokenizer, whatever the student's is.
        settings: lengths and sampling.
        seed: of the sampling.
        judge: scores an answer; None to leave them unjudged.
    """

    name: str
    model: nn.Module
    tokenizer: Any
    settings: GenerationSettings
    seed: int = 0
    judge: Judge | None = None

    def write(
        self,
        prompts: Mapping[str, Sequence[int]],
        store: TextStore,
        *,
        sample: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Write what is missing, chunk by chunk, the shortest prompts first.

        A chunk's draw depends on the seed, on its prompts and on ``sample``, so an interrupted and
        continued run writes what an unbroken one would have written.

        Args:
            prompts: tokens of each prompt by example id.
            store: where the texts go.
            sample: number of the answer among those to the same prompt.
            progress: called with (prompts done, prompts in all).
        """
        todo = sorted(store.missing(prompts, sample), key=lambda i: (len(prompts[i]), i))
        for start in range(0, len(todo), CHUNK):
            chunk = todo[start : start + CHUNK]
            seed = self._seed(chunk, sample)
            tokens = [prompts[example_id] for example_id in chunk]
            answers = generate_answers(self.model, self.tokenizer, tokens, self.settings, seed=seed)
            store.add(
                [
                    WrittenText(
                        example_id,
                        sample,
                        answer.text,
                        self.name,
                        answer.num_tokens,
                        answer.truncated,
                        None if self.judge is None else self.judge(example_id, answer.text),
                        seed,
                        self.settings.sampling_temperature,
                    )
                    for example_id, answer in zip(chunk, answers, strict=True)
                ]
            )
            if progress is not None:
                progress(start + len(chunk), len(todo))

    def _seed(self, chunk: Sequence[str], sample: int) -> int:
        text = "\n".join([str(self.seed), str(sample), *chunk])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")

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
            progress: called with (prompts done, prompts in all), once through for each round.
        """
        assert self.judge is not None, "somebody must say what is right"
        self.write(prompts, store, progress=progress)
        warm = replace(self.settings, sampling_temperature=resample_temperature)
        for sample in range(1, max_samples):
            wrong = [i for i in prompts if not _any_right(store, i, sample)]
            if wrong:
                replace(self, settings=warm).write(
                    {i: prompts[i] for i in wrong}, store, sample=sample, progress=progress
                )


def _any_right(store: TextStore, example_id: str, samples: int) -> bool:
    texts = (store.get(example_id, sample) for sample in range(samples))
    return any(text is not None and text.right for text in texts)


@dataclass(frozen=True)
class Chosen:
    """The texts to learn from, and what became of the others.

    Attributes:
        texts: one text for each id that has one.
        summary: counts: ``asked``, ``kept``, ``right``, ``wrong`` and ``unjudged`` (of the first
            answers), ``truncated``, ``dropped``, ``rescued`` (right only at a later try).
    """

    texts: Mapping[str, WrittenText]
    summary: Mapping[str, int]


def choose_texts(
    store: TextStore, ids: Iterable[str], on_wrong: OnWrong, max_samples: int = 1
) -> Chosen:
    """Choose the text of each example.

    Args:
        store: texts; at least the first answer to each of ``ids``.
        ids: example ids.
        on_wrong: ``keep`` takes the first answer whatever it is worth, ``drop`` only when it is
            right, ``resample`` the first right one of several.
        max_samples: how many answers ``resample`` looks at.
    """
    chosen: dict[str, WrittenText] = {}
    counts: dict[str, int] = dict.fromkeys(
        ("asked", "kept", "right", "wrong", "unjudged", "truncated", "dropped", "rescued"), 0
    )
    for example_id in ids:
        first = store.get(example_id)
        assert first is not None, "choose after writing"
        counts["asked"] += 1
        counts["truncated"] += first.truncated
        counts[{True: "right", False: "wrong", None: "unjudged"}[first.right]] += 1
        tries = range(max_samples if on_wrong == "resample" else 1)
        texts = [text for n in tries if (text := store.get(example_id, n)) is not None]
        taken = next((text for text in texts if text.right), None)
        if taken is None and on_wrong == "keep":
            taken = first
        if taken is None:
            counts["dropped"] += 1
            continue
        counts["rescued"] += taken.sample > 0
        counts["kept"] += 1
        chosen[example_id] = taken
    return Chosen(chosen, counts)
