"""The stage in which teachers write the answers that text-supervised arms learn from."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from tutelage.curriculum import pairs_wanted
from tutelage.data import LONGEST_PROMPT, WrittenAnswer, teacher_prompts, tokenize_written
from tutelage.data.lengths import NUM_TOKENS, stored_lengths
from tutelage.errors import DataError
from tutelage.files import atomic_write_json
from tutelage.generation import (
    Chosen,
    ExampleVerifier,
    GenerationSettings,
    LocalEngine,
    TextStore,
    Writer,
    choose_texts,
    example_verifier,
    unwritten,
)
from tutelage.generation.writing import CHUNK
from tutelage.models.saving import disk_checked
from tutelage.pipeline.context.inputs import texts_inputs, written_inputs
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.data import kept_examples, rows_of, training_rows
from tutelage.pipeline.stages.plan import plan_settings
from tutelage.pipeline.stages.positions import (
    check_length,
    check_room,
    student_positions,
    teacher_positions,
)
from tutelage.proofs import fingerprint
from tutelage.recipe import Recipe
from tutelage.recipe.teaching import Supervision
from tutelage.teachers.store import save_keys
from tutelage.types import DifficultyProfile, Example

Available = NDArray[np.bool_]
"""Which teacher's answer to which example is kept, shape ``[K, N]``."""


class WrittenTexts:
    """The texts of a run's teachers: one store for each teacher and way of asking.

    Args:
        session: the run.
        examples: the training examples by id.
    """

    def __init__(self, session: Session, examples: Mapping[str, Example]) -> None:
        self._session = session
        self.examples = examples
        self._stores: dict[str, TextStore] = {}

    def store(self, name: str, recipe: Recipe) -> TextStore:
        """What a teacher wrote when an arm asked it; kept beside the run folders."""
        inputs = written_inputs(self._session, name, recipe)
        key = fingerprint(inputs)[:16]
        if key not in self._stores:
            self._stores[key] = TextStore(self._session.cached(f"texts-{key}"), inputs)
        return self._stores[key]

    def write(self, name: str, model: Callable[[], Any], recipe: Recipe, ids: list[str]) -> None:
        """Let a teacher answer the prompts of ``ids``, as far as it has not yet.

        Args:
            name: the teacher's name.
            model: gives the teacher's model; called only when something is to be written.
            recipe: of the arm that asks.
            ids: example ids.
        """
        store = self.store(name, recipe)
        title = f"the texts of {self._session.recipe.teacher_title(name)}"
        with self._session.holding(store.path.name, alone=True, title=title):
            store.read_on()
            self._write(name, model, recipe, ids)

    def _write(self, name: str, model: Callable[[], Any], recipe: Recipe, ids: list[str]) -> None:
        session, store, asked = self._session, self.store(name, recipe), recipe.supervision
        resample = asked.on_wrong == "resample"
        if not unwritten(store, ids, asked.on_wrong, asked.max_samples):
            return
        data = session.recipe.data
        tokenizer = session.models.tokenizer_of(name)
        positions = teacher_positions(session, name)
        prompts = teacher_prompts(
            [self.examples[i] for i in ids],
            tokenizer,
            style=asked.prompt,
            answer_format=asked.answer_format,
            template=getattr(data, "template", "auto"),
            system=getattr(data, "system", None),
            max_length=min(LONGEST_PROMPT, (positions.limit or LONGEST_PROMPT + 1) - 1),
        )
        if not unwritten(store, prompts, asked.on_wrong, asked.max_samples):
            return  # what is left are prompts too long to be asked
        lengths = [len(prompt) for prompt in prompts.values()]
        title = session.recipe.teacher_title(name)
        check_room(session, title, positions, lengths, asked.max_new_tokens)
        settings = asked.values_of(GenerationSettings)
        verifier = self._verifier(recipe)
        asked_model = session.models.asked_teacher(name, model, tokenizer)
        with (
            session.timed("texts"),
            session.display.task(f"{title[0].upper()}{title[1:]} writes answers") as report,
        ):
            engine = session.models.engine(asked_model)
            # Who is asked elsewhere would idle between chunks, and answers are kept as they come.
            chunk = CHUNK if isinstance(engine, LocalEngine) else len(prompts)
            writer = Writer(name, engine, settings, session.recipe.teacher_seed, verifier, chunk)
            if resample:
                writer.write_until_right(
                    prompts,
                    store,
                    max_samples=asked.max_samples,
                    resample_temperature=asked.resample_temperature,
                    progress=report,
                )
            else:
                writer.write(prompts, store, progress=report)

    def _verifier(self, recipe: Recipe) -> ExampleVerifier | None:
        verifier = recipe.supervision.verifier
        if verifier is None:
            return None
        return example_verifier(self.examples.values(), verifier.kind, verifier.options)


def prepare_texts(
    session: Session, profiles: Mapping[str, DifficultyProfile]
) -> dict[str, Available]:
    """Let teachers write what the plans ask of them, filter it, and tokenize it for the student.

    Args:
        session: the run.
        profiles: difficulty by arm.

    Returns:
        For each arm that learns from text, which pairs of teacher and example it has.
    """
    arms = {arm: recipe for arm, recipe in session.loaded.arms.items() if recipe.uses_text}
    if not arms:
        return {}
    written_texts = WrittenTexts(session, {e.id: e for e in kept_examples(session, "train")})
    wanted = {
        arm: pairs_wanted(profiles[arm], plan_settings(recipe)) for arm, recipe in arms.items()
    }
    for number, name in enumerate(session.recipe.ladder):
        # One teacher after another, so that only one is in memory.
        model = functools.cache(functools.partial(session.models.load_teacher, name))
        for arm, recipe in arms.items():
            ids = [profiles[arm].ids[i] for i in np.flatnonzero(wanted[arm][number])]
            if ids:
                written_texts.write(name, model, recipe, ids)
    chosen = {arm: _choose(session, arm, profiles[arm], wanted[arm], written_texts) for arm in arms}
    available = _equalised(
        session, arms, {arm: _mask(session, profiles[arm], chosen[arm]) for arm in arms}
    )
    return {
        arm: _tokenize(session, arm, profiles[arm], available[arm], chosen[arm], written_texts)
        for arm in arms
    }


def _choose(
    session: Session,
    arm: str,
    profile: DifficultyProfile,
    wanted: Available,
    written_texts: WrittenTexts,
) -> dict[str, Chosen]:
    """The texts that an arm may learn from, by teacher."""
    asked = session.loaded.arms[arm].supervision
    found = {}
    for number, name in enumerate(session.recipe.ladder):
        ids = [profile.ids[i] for i in np.flatnonzero(wanted[number])]
        if ids:
            store = written_texts.store(name, session.loaded.arms[arm])
            written = [i for i in ids if store.get(i) is not None]
            one = choose_texts(
                store,
                written,
                asked.on_wrong,
                asked.max_samples,
                drop_truncated=asked.drop_truncated,
            )
            # What is still unwritten is a prompt that is too long for the teacher.
            summary = {**one.summary, "prompt_too_long": len(ids) - len(written)}
            found[name] = replace(one, summary=summary)
    return found


def _mask(session: Session, profile: DifficultyProfile, chosen: Mapping[str, Chosen]) -> Available:
    names = list(session.recipe.ladder)
    mask = np.zeros((len(names), len(profile)), dtype=bool)
    for number, name in enumerate(names):
        texts = chosen[name].texts if name in chosen else {}
        # An empty answer teaches nothing.
        mask[number] = [i in texts and bool(texts[i].text.strip()) for i in profile.ids]
    return mask


def _equalised(
    session: Session, arms: Mapping[str, Recipe], available: dict[str, Available]
) -> dict[str, Available]:
    """As many pairs for each arm as the poorest has, so that arms differ in the pairs alone."""
    equal = [arm for arm, recipe in arms.items() if recipe.supervision.equal_pairs]
    fewest = min((int(available[arm].sum()) for arm in equal), default=0)
    for arm in equal if len(equal) > 1 and fewest == 0 else ():
        if not available[arm].any():
            raise DataError(
                f"No answer of a teacher is left for the arm '{arm}': all of them are wrong or"
                " empty, and every arm gets as many pairs as the poorest one. Look at the texts in"
                " the cache; choose a better teacher for this arm, leave the arm out, keep wrong"
                " answers (supervision.on_wrong: keep), or set supervision.equal_pairs to false."
            )
    rng = np.random.default_rng([session.recipe.data_seed, 0, 0, 5])
    for arm in equal:
        pairs = np.argwhere(available[arm])
        drawn = pairs[np.sort(rng.permutation(len(pairs))[:fewest])]
        available[arm] = np.zeros_like(available[arm])
        available[arm][drawn[:, 0], drawn[:, 1]] = True
    return available


def _tokenize(
    session: Session,
    arm: str,
    profile: DifficultyProfile,
    available: Available,
    chosen: Mapping[str, Chosen],
    written_texts: WrittenTexts,
) -> Available:
    """Tokenize an arm's pairs for the student; pairs that do not fit its limits are left out."""
    names, asked = list(session.recipe.ladder), session.loaded.arms[arm].supervision
    pairs = {
        names[k]: {profile.ids[i]: chosen[names[k]].texts[profile.ids[i]] for i in which}
        for k in range(len(names))
        if len(which := np.flatnonzero(available[k]))
    }
    if not pairs:
        raise DataError(
            f"No answer of a teacher is left for the arm '{arm}': all of them are wrong or empty."
            " Look at the texts in the cache, keep wrong ones (supervision.on_wrong: keep), or"
            " choose a better teacher."
        )
    answers = {
        name: {
            i: WrittenAnswer(
                text.text,
                text.tokens if session.models.shares_tokenizer(name) else (),
                text.truncated,
            )
            for i, text in texts.items()
        }
        for name, texts in pairs.items()
    }
    content = {
        name: {i: [one.text, list(one.tokens), one.cut] for i, one in texts.items()}
        for name, texts in answers.items()
    }
    inputs = texts_inputs(session, content)
    part = f"arms/{arm}/texts"
    with session.missing(part, inputs) as missing:
        if missing:
            with session.making(part, inputs, "") as folder:
                kept = _write_rows(session, folder, answers, written_texts.examples)
                counts = {
                    name: {**one.summary, **kept.get(name, {})} for name, one in chosen.items()
                }
                atomic_write_json(folder / "summary.json", counts)
            for name, count in counts.items():
                for line in written_notes(name, count, asked):
                    session.display.note(f"{arm}: {line}")
    fits = training_rows(session, arm)
    longest = int(stored_lengths(fits, NUM_TOKENS).max())
    what = f"the longest answer of a teacher with its prompt (arm '{arm}')"
    check_length(session, "the student", student_positions(session), longest, what)
    there = set(zip(fits["teacher"], fits["id"], strict=True))
    return np.asarray(
        [
            [bool(available[k, i]) and (name, profile.ids[i]) in there for i in range(len(profile))]
            for k, name in enumerate(names)
        ]
    )


def _write_rows(
    session: Session,
    folder: Path,
    answers: Mapping[str, Mapping[str, WrittenAnswer]],
    examples: Mapping[str, Example],
) -> dict[str, dict[str, int]]:
    """Save the rows of an arm's written answers; what became of the others, by teacher."""
    data = session.recipe.data_section
    splits, counts = [], {}
    for name, texts in answers.items():
        split = tokenize_written(
            rows_of(session, "train"),
            examples,
            texts,
            session.models.tokenizer,
            template=getattr(data, "template", "auto"),
            max_length=data.max_length,
        )
        counts[name] = dict(split.counts)
        teacher = [name] * len(split.dataset)
        splits.append(split.dataset.add_column("teacher", teacher))  # type: ignore[call-arg]
    rows = datasets.concatenate_datasets(splits)
    if not len(rows):
        raise DataError(
            f"None of the teachers' answers can be learned: {_words(_summed(counts.values()))}."
            " Raise data.max_length for answers that are too long (or lower"
            " supervision.max_new_tokens); look at the texts in the cache for the others."
        )
    with disk_checked(folder / "rows"):
        rows.save_to_disk(folder / "rows")
        save_keys(folder / "rows")
    return counts


def _summed(counts: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return total


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in counts.items() if n)


def written_notes(name: str, counts: Mapping[str, int], asked: Supervision) -> list[str]:
    """What became of a teacher's answers, in lines."""
    lines = [f"answers of {name}: {_words(counts)}"]
    if counts.get("too_long"):
        lines.append(
            f"{counts['too_long']} answers of {name} are left out: with their prompts they are"
            " longer than data.max_length. Raise it to learn them."
        )
    cut = counts["truncated"]
    if cut and asked.on_wrong == "keep" and not asked.drop_truncated:
        inside = counts.get("cut_in_thoughts")
        more = f" ({inside} of them inside their thoughts, before any answer)" if inside else ""
        lines.append(
            f"{cut} of {counts['asked']} answers of {name} were cut by"
            f" supervision.max_new_tokens={asked.max_new_tokens}{more}: they are learned as far as"
            " they go, without an end. Raise it, or leave them out with"
            " supervision.drop_truncated=true."
        )
    elif cut:
        lines.append(
            f"{cut} of {counts['asked']} answers of {name} were cut by"
            f" supervision.max_new_tokens={asked.max_new_tokens} and are not learned. Raise it to"
            " have them whole."
        )
    return lines
