"""The embedded task: chained additions with a written-out rationale and a final answer.

A prompt is a chain such as ``73+84+02?``; the completion does one operation at a time and ends
with the marked answer, ``73+84=58;58+02=501#501``. Every number is written **least significant
digit first** (this is 37 + 48 = 85; 85 + 20 = 105), so that carries run in the order of writing
and a model of 100,000 parameters can learn them. Every character is a token. Chains may hold
subtractions too, which take such a model much longer to learn.

Difficulty is graded by *level*: level k has k operations, so that rationales get longer and the
running results larger. ``largest`` bounds the numbers of the prompt.

Which split a prompt belongs to is a property of its text alone: two splits share none.
"""

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tutelage.data.made import Drawing, check_made, example_id, piece_tokenizer
from tutelage.errors import ConfigError
from tutelage.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ALPHABET = "0123456789+-=;?#"
"""Every character that a prompt or a completion may contain."""

ANSWER_MARK = "#"
"""Stands before the final answer."""

LEVELS = (1, 2, 3, 4, 5)
"""The levels of the task's data; a level is the number of operations."""

LONGEST = 20
"""The highest level that can be asked for."""

Step = tuple[str, int]  # "+" or "-", and the number that is added or taken away


def arithmetic_examples(
    split: str,
    count: int,
    *,
    seed: int = 0,
    label_noise: float = 0.0,
    levels: Sequence[int] = LEVELS,
    largest: int = 99,
    operations: str = "+",
) -> list[Example]:
    """Examples of the task with distinct prompts, shuffled, spread evenly over the levels.

    The noise does not choose the prompts: the same call with another ``label_noise`` gives the same
    prompts, ids and order. Ids are made from the prompt.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``; two splits share no prompt.
        count: how many examples, at least 1.
        seed: chooses the prompts, the order and the errors.
        label_noise: share of the completions, in [0, 1], that hold one wrong step. Its result is
            off by 1 to 9 units or tens and is carried on, so that the answer is wrong too.
            Exactly ``round(label_noise * count)`` completions are wrong.
        levels: whole numbers from 1 to ``LONGEST``, each once.
        largest: largest number in a prompt; the smallest is 1.
        operations: ``"+"``, or ``"+-"`` for subtractions too (half of the steps where the running
            result allows one; no result is negative).

    Returns:
        Examples with ``fields={"prompt": ...}``, the rationale and answer as ``completion``, the
        right answer (without rationale) as only reference, and the level as ``group``.

    Raises:
        ConfigError: an unknown split, or a count, noise, level, number or operation out of range.
        DataError: fewer distinct prompts of a level exist in the split than were asked for.
    """
    _check_arguments(split, count, label_noise, levels, largest, operations)
    drawn: list[tuple[int, str, int, list[Step]]] = []
    for position, level in enumerate(levels):
        share = count // len(levels) + (position < count % len(levels))
        rng = random.Random(f"arithmetic prompts {split} {seed} {level} {largest}")
        chains = _distinct_chains(rng, split, share, level, largest, operations)
        drawn += [(level, prompt, start, steps) for prompt, start, steps in chains]
    random.Random(f"arithmetic order {split} {seed}").shuffle(drawn)

    noise = random.Random(f"arithmetic noise {split} {seed}")
    wrong = set(noise.sample(range(count), round(label_noise * count)))
    examples: list[Example] = []
    for position, (level, prompt, start, steps) in enumerate(drawn):
        answer = _digits(_run(start, steps)[-1])
        slip = _slip(noise, start, steps) if position in wrong else None
        examples.append(
            Example(
                id=example_id(split, prompt),
                fields={"prompt": prompt},
                completion=_completion(start, steps, slip),
                references=(answer,),
                group=str(level),
            )
        )
    return examples


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """A tokenizer with one token per character of ``ALPHABET``, and padding, end and unknown ones.

    It adds nothing to a text by itself, and decoding gives back exactly what was encoded.
    """
    return piece_tokenizer(ALPHABET, r"[\s\S]")


def check_levels(levels: Sequence[int]) -> None:
    """Raise a ``ConfigError`` unless ``levels`` are from 1 to ``LONGEST``, each named once."""
    if (
        not levels
        or len(set(levels)) != len(levels)
        or not set(levels) <= set(range(1, LONGEST + 1))
    ):
        raise ConfigError(
            f"`levels` is {list(levels)}, but it names each level once, at least one of them."
            f" Choose from 1 to {LONGEST}; the data of the task have {LEVELS[0]} to {LEVELS[-1]}."
        )


def _check_arguments(
    split: str,
    count: int,
    label_noise: float,
    levels: Sequence[int],
    largest: int,
    operations: str,
) -> None:
    check_made(split, count, label_noise)
    check_levels(levels)
    if largest < 1:
        raise ConfigError(
            f"`largest` is {largest}, but the numbers of a prompt start at 1. Use 1 or more."
        )
    if operations not in ("+", "+-"):
        raise ConfigError(
            f"`operations` is '{operations}', but a chain is made of additions, or of additions and"
            " subtractions. Use '+' or '+-'."
        )


def _distinct_chains(
    rng: random.Random, split: str, count: int, level: int, largest: int, operations: str
) -> Iterator[tuple[str, int, list[Step]]]:
    """``count`` chains of the split with different prompts: (prompt, first number, steps)."""
    drawing = Drawing(split, f"level {level} with numbers up to {largest}")
    for _ in range(count):
        start, steps = _random_chain(rng, level, largest, operations)
        while not drawing.takes(prompt := _prompt(start, steps)):
            start, steps = _random_chain(rng, level, largest, operations)
        yield prompt, start, steps


def _random_chain(
    rng: random.Random, level: int, largest: int, operations: str
) -> tuple[int, list[Step]]:
    """A first number and ``level`` steps whose running result never falls below 0."""
    start = value = 1 + int(rng.random() * largest)
    steps: list[Step] = []
    for _ in range(level):
        if "-" in operations and value > 0 and rng.random() < 0.5:
            number = 1 + int(rng.random() * min(largest, value))
            steps.append(("-", number))
            value -= number
        else:
            number = 1 + int(rng.random() * largest)
            steps.append(("+", number))
            value += number
    return start, steps


def _run(start: int, steps: Sequence[Step]) -> list[int]:
    """The running result after each step."""
    values: list[int] = []
    value = start
    for operation, number in steps:
        value = value + number if operation == "+" else value - number
        values.append(value)
    return values


def _slip(rng: random.Random, start: int, steps: Sequence[Step]) -> tuple[int, int]:
    """A wrong step and by how much its result is off, such that no later result is negative."""
    values = _run(start, steps)
    step = int(rng.random() * len(steps))
    smallest = min(values[step:])
    while True:  # every positive error is possible, so that this ends
        size = (1 + int(rng.random() * 9)) * (1 if rng.random() < 0.5 else 10)
        error = size if rng.random() < 0.5 else -size
        if smallest + error >= 0:
            return step, error


def _completion(start: int, steps: Sequence[Step], slip: tuple[int, int] | None) -> str:
    """The rationale and the answer; ``slip`` is a step and the error of its result."""
    parts: list[str] = []
    value = start
    for position, (operation, number) in enumerate(steps):
        result = value + number if operation == "+" else value - number
        if slip is not None and slip[0] == position:
            result += slip[1]
        parts.append(f"{_digits(value)}{operation}{_digits(number)}={_digits(result)}")
        value = result
    return ";".join(parts) + ANSWER_MARK + _digits(value)


def _prompt(start: int, steps: Sequence[Step]) -> str:
    return _digits(start) + "".join(f"{sign}{_digits(number)}" for sign, number in steps) + "?"


def _digits(number: int) -> str:
    """The decimal digits of a number, least significant first."""
    return str(number)[::-1]
