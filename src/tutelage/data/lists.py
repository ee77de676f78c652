"""The second embedded task: lists of digits, changed step by step.

A prompt names operations and a list, such as ``sort,rotate2:31415?``; the completion does one
operation at a time, and the last result, behind the marker, is the answer:
``sort=11345;rotate2#34511``. Digits, signs and the names of operations are the tokens.

Some operations leave something to choose: ``pick`` asks for any one element. Every choice is then
as good as any other, so that there is a *true distribution* over completions and answers, which
``completion_distribution`` and ``answer_distribution`` give exactly, with errors in the labels or
without.

Difficulty has several kinds: the number of steps (the *level*), the length of the list, and the
operations, which are not equally hard.
"""

import random
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

from tutelage.data.list_steps import DIGITS, OPERATIONS, Step
from tutelage.data.made import Drawing, check_made, example_id, piece_tokenizer
from tutelage.errors import ConfigError, DataError
from tutelage.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Thing = TypeVar("Thing")

PIECES = (*DIGITS, *",:?=;#-", *OPERATIONS)
"""The tokens that a prompt or a completion may be made of."""

ANSWER_MARK = "#"
"""Stands before the final answer."""

EMPTY = "-"
"""Is written for a list without elements."""

LEVELS = (1, 2, 3, 4)
"""The levels of the task's data; a level is the number of operations."""

LENGTHS = (3, 4, 5, 6)
"""Lengths of the lists in the task's data."""

HIGHEST, LONGEST = 6, 9
"""The highest level and the longest list that can be asked for."""

SHORTEST = 2
"""No result before the last is shorter, so that later steps have something to do."""

OPEN_SHARE = 1 / 3
"""Share of the prompts, about, with one step that leaves something to choose."""

# What may come by whether something is left to choose and whether the step is the last.
_FITTING = {
    (choice, last): [
        name
        for name, operation in OPERATIONS.items()
        if operation.open == choice and (last or not operation.closing)
    ]
    for choice in (False, True)
    for last in (False, True)
}

_PROMPT = re.compile(r"[a-z]+\d*(,[a-z]+\d*)*:\d+\?")


def list_examples(
    split: str,
    count: int,
    *,
    seed: int = 0,
    label_noise: float = 0.0,
    levels: Sequence[int] = LEVELS,
    lengths: Sequence[int] = LENGTHS,
) -> list[Example]:
    """Examples of the task with distinct prompts, shuffled, spread evenly over the levels.

    The noise does not choose the prompts: the same call with another ``label_noise`` gives the same
    prompts, ids and order. Ids are made from the prompt.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``; two splits share no prompt.
        count: how many examples, at least 1.
        seed: chooses the prompts, the order, what is left to choose, and the errors.
        label_noise: share of the completions, in [0, 1], that hold one wrong step, in whose result
            one digit is another. It is carried on; the answer is right then by chance alone.
            Exactly ``round(label_noise * count)`` completions are wrong.
        levels: whole numbers from 1 to ``HIGHEST``, each once.
        lengths: whole numbers from ``SHORTEST`` to ``LONGEST``, each once; drawn evenly.

    Returns:
        Examples with ``fields={"prompt": ...}``, the rationale and answer as ``completion``, all
        right answers (without rationale) as references, and the level as ``group``.

    Raises:
        ConfigError: an unknown split, or a count, noise, level or length out of range.
        DataError: fewer distinct prompts of a level exist in the split than were asked for.
    """
    check_made(split, count, label_noise)
    check_values("levels", levels)
    check_values("lengths", lengths)
    drawn: list[tuple[int, list[Step], str]] = []
    for position, level in enumerate(levels):
        share = count // len(levels) + (position < count % len(levels))
        rng = random.Random(f"lists prompts {split} {seed} {level} {sorted(lengths)}")
        for steps, items in _distinct_prompts(rng, split, share, level, sorted(lengths)):
            drawn.append((level, steps, items))
    random.Random(f"lists order {split} {seed}").shuffle(drawn)

    noise = random.Random(f"lists noise {split} {seed}")
    wrong = set(noise.sample(range(count), round(label_noise * count)))
    examples: list[Example] = []
    for position, (level, steps, items) in enumerate(drawn):
        prompt = _prompt(steps, items)
        # One for each example, so that an error in one does not change what others choose.
        rng = random.Random(f"lists answer {seed} {prompt}")
        slip = int(rng.random() * len(steps)) if position in wrong else None
        examples.append(
            Example(
                id=example_id(split, prompt),
                fields={"prompt": prompt},
                completion=_completion(rng, steps, items, slip),
                references=tuple(sorted(_reached(steps, items)[-1])),
                group=str(level),
            )
        )
    return examples


def completion_distribution(prompt: str, *, label_noise: float = 0.0) -> dict[str, float]:
    """The true distribution over completions of a prompt: what may be written, and how likely.

    A step that leaves something to choose takes each choice with equal probability. With noise a
    completion is wrong with that probability: the wrong step is any of them, its result any that
    ``Step.mistakes`` lists, both with equal probability, and later steps go on from there.

    Args:
        prompt: such as ``"sort,pick:31415?"``.
        label_noise: probability of a wrong step.

    Returns:
        Completions with a probability above 0; these sum to 1.

    Raises:
        DataError: that is no prompt of the task.

    Examples:
        >>> completion_distribution("unique,pick:1213?")
        {'unique=123;pick#1': 0.3333333333333333, 'unique=123;pick#2': 0.3333333333333333, \
'unique=123;pick#3': 0.3333333333333333}
    """
    steps, items = _parsed(prompt)
    right, slipping = 1 - Fraction(label_noise), Fraction(label_noise) / len(steps)
    total: dict[str, Fraction] = {}
    for slip, weight in [(None, right), *((place, slipping) for place in range(len(steps)))]:
        if weight:
            for text, probability in _courses(steps, items, slip):
                total[text] = total.get(text, Fraction(0)) + weight * probability
    return {text: float(probability) for text, probability in sorted(total.items())}


def answer_distribution(prompt: str, *, label_noise: float = 0.0) -> dict[str, float]:
    """The true distribution over final answers of a prompt; as ``completion_distribution``.

    Examples:
        >>> answer_distribution("pick:7727?")
        {'2': 0.25, '7': 0.75}
    """
    total: dict[str, float] = {}
    for text, probability in completion_distribution(prompt, label_noise=label_noise).items():
        answer = text.rpartition(ANSWER_MARK)[2]
        total[answer] = total.get(answer, 0.0) + probability
    return dict(sorted(total.items()))


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """A tokenizer with one token for each of ``PIECES``, and padding, end and unknown ones.

    It adds nothing to a text by itself, and decoding gives back exactly what was encoded.
    """
    return piece_tokenizer(PIECES, r"[a-z]+|[\s\S]")


def check_values(name: str, values: Sequence[int]) -> None:
    """Raise a ``ConfigError`` unless there are such ``levels`` or ``lengths``, each named once."""
    low, high = {"levels": (1, HIGHEST), "lengths": (SHORTEST, LONGEST)}[name]
    if (
        not values
        or len(set(values)) != len(values)
        or not set(values) <= set(range(low, high + 1))
    ):
        raise ConfigError(
            f"`{name}` is {list(values)}, but it names whole numbers, each once, at least one of"
            f" them. Choose from {low} to {high}."
        )


def _distinct_prompts(
    rng: random.Random, split: str, count: int, level: int, lengths: Sequence[int]
) -> Iterator[tuple[list[Step], str]]:
    """``count`` problems of the split with different prompts."""
    what = f"level {level} with lists of {', '.join(map(str, lengths))}"
    drawing = Drawing(split, what)
    for _ in range(count):
        while True:
            steps, items = _random_problem(rng, level, lengths)
            if _goes_on(steps, items) and drawing.takes(_prompt(steps, items)):
                break
        yield steps, items


def _random_problem(
    rng: random.Random, level: int, lengths: Sequence[int]
) -> tuple[list[Step], str]:
    """A list and ``level`` different operations, one of them open in a third of the cases."""
    length = _any(rng, lengths)
    variety = 4 + int(rng.random() * 7)  # of four to all ten digits, so that some are equal
    digits = rng.sample(DIGITS, variety)
    items = "".join(_any(rng, digits) for _ in range(length))
    open_place = int(rng.random() * level) if rng.random() < OPEN_SHARE else None
    steps: list[Step] = []
    current = items
    for place in range(level):
        fitting = _FITTING[place == open_place, place == level - 1]
        name = _any(rng, [name for name in fitting if name not in {step.name for step in steps}])
        step = Step(name, _any(rng, OPERATIONS[name].arguments(current)))
        steps.append(step)
        current = _any(rng, step.results(current))
    return steps, items


def _goes_on(steps: Sequence[Step], items: str) -> bool:
    """Whether no choice leads to a list that is too short."""
    *earlier, last = _reached(steps, items)
    return "" not in last and all(len(one) >= SHORTEST for stage in earlier for one in stage)


def _reached(steps: Sequence[Step], items: str) -> list[set[str]]:
    """The right results of each step, over all choices."""
    stages = [{items}]
    for step in steps:
        stages.append({result for one in stages[-1] for result in step.results(one)})
    return stages[1:]


def _completion(rng: random.Random, steps: Sequence[Step], items: str, slip: int | None) -> str:
    """A rationale and its answer; ``slip`` is the place of a wrong step."""
    text = ""
    for place, step in enumerate(steps):
        result = _any(rng, step.results(items))
        if place == slip:
            result = _any(rng, step.mistakes(items, result))
        text += _written(step, result, place == len(steps) - 1)
        items = result
    return text


def _courses(steps: Sequence[Step], items: str, slip: int | None) -> Iterator[tuple[str, Fraction]]:
    """Every way to write the rationale with its probability; a text may come more than once."""
    reached = [("", items, Fraction(1))]
    for place, step in enumerate(steps):
        following: list[tuple[str, str, Fraction]] = []
        for text, current, probability in reached:
            results = step.results(current)
            for result in results:
                ends = step.mistakes(current, result) if place == slip else [result]
                share = probability / (len(results) * len(ends))
                following += [
                    (text + _written(step, end, place == len(steps) - 1), end, share)
                    for end in ends
                ]
        reached = following
    for text, _, probability in reached:
        yield text, probability


def _parsed(prompt: str) -> tuple[list[Step], str]:
    """The steps and the list of a prompt."""
    if not _PROMPT.fullmatch(prompt):
        raise _no_prompt(prompt, "it has another form")
    names, _, items = prompt.removesuffix("?").partition(":")
    steps: list[Step] = []
    for word in names.split(","):
        name = word.rstrip(DIGITS)
        if name not in OPERATIONS:
            raise _no_prompt(prompt, f"'{name}' is none of {', '.join(OPERATIONS)}")
        steps.append(Step(name, word.removeprefix(name)))
        wanted = len(OPERATIONS[name].arguments(DIGITS)[0])
        if len(steps[-1].argument) != wanted:
            raise _no_prompt(prompt, f"'{name}' takes {wanted or 'no'} digits, as in '{name}12'")
    return steps, items


def _no_prompt(prompt: str, why: str) -> DataError:
    return DataError(
        f"'{prompt}' is no prompt of the task of lists: {why}. Write operations and a list, as in"
        " 'sort,rotate2:31415?'."
    )


def _written(step: Step, result: str, last: bool) -> str:
    return f"{step}{ANSWER_MARK if last else '='}{result or EMPTY}{'' if last else ';'}"


def _prompt(steps: Sequence[Step], items: str) -> str:
    return f"{','.join(map(str, steps))}:{items}?"


def _any(rng: random.Random, among: Sequence[Thing]) -> Thing:
    return among[int(rng.random() * len(among))]
