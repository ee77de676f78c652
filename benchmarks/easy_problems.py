"""Easy problems with one number as the answer: ``python benchmarks/easy_problems.py FOLDER``.

Writes ``train.jsonl`` and ``test.jsonl`` with rows of ``prompt``, ``completion`` and ``group``, for
models that are too small for GSM8K. All numbers that are added or taken away have one digit, so a
model that knows small sums can solve every group; the groups differ in how much must be read. No
prompt occurs twice; a pair of numbers may occur in both files, in other words.
"""

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

NAMES = ("Ada", "Ben", "Eva", "Ida", "Leo", "Mia", "Sam", "Tom")
THINGS = ("apples", "books", "cards", "coins", "cups", "pens", "shells", "stones")
SUMS = ("What is {a} + {b}?", "Add {a} and {b}.", "How much is {a} plus {b}?")
DIFFERENCES = ("What is {a} - {b}?", "Take {b} away from {a}.", "How much is {a} minus {b}?")

Problem = tuple[str, str]
"""A prompt and its answer: the calculation, which ends in the number that counts."""


def _digits(rng: random.Random, low: int = 1, high: int = 9) -> tuple[int, int]:
    return rng.randint(low, high), rng.randint(low, high)


def add(rng: random.Random) -> Problem:
    """A sum of two digits."""
    a, b = _digits(rng)
    return rng.choice(SUMS).format(a=a, b=b), f"{a} + {b} = {a + b}"


def subtract(rng: random.Random) -> Problem:
    """What is left of a sum of two digits when one of them is taken away."""
    b, left = _digits(rng)
    a = b + left
    return rng.choice(DIFFERENCES).format(a=a, b=b), f"{a} - {b} = {left}"


def gain(rng: random.Random) -> Problem:
    """A sum of two digits in a story."""
    (a, b), name, things = _digits(rng, 2), rng.choice(NAMES), rng.choice(THINGS)
    story = f"{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?"
    return story, f"{a} + {b} = {a + b}"


def lose(rng: random.Random) -> Problem:
    """A difference in a story."""
    (b, left), name, things = _digits(rng, 2), rng.choice(NAMES), rng.choice(THINGS)
    a = b + left
    story = f"{name} has {a} {things} and gives away {b}. How many {things} are left?"
    return story, f"{a} - {b} = {left}"


def bags(rng: random.Random) -> Problem:
    """A small product in a story."""
    (a, b), name, things = _digits(rng, 2, 6), rng.choice(NAMES), rng.choice(THINGS)
    story = f"{name} has {a} bags with {b} {things} each. How many {things} are there in all?"
    return story, f"{a} * {b} = {a * b}"


GROUPS: dict[str, Callable[[random.Random], Problem]] = {
    "add": add,
    "subtract": subtract,
    "gain": gain,
    "lose": lose,
    "bags": bags,
}


def problems(count: int, seed: int) -> list[dict[str, str]]:
    """Different problems in a shuffled order, equally many of each group as far as that goes.

    Args:
        count: how many; at most 500, for which the smallest group has enough different prompts.
        seed: chooses the problems and their order.
    """
    if not 0 < count <= 500:
        raise SystemExit(f"{count} problems were asked for. Ask for 1 to 500.")
    rng, rows, seen = random.Random(seed), [], set()
    for number in range(count):
        group = list(GROUPS)[number % len(GROUPS)]
        prompt, completion = GROUPS[group](rng)
        while prompt in seen:
            prompt, completion = GROUPS[group](rng)
        seen.add(prompt)
        rows.append({"prompt": prompt, "completion": completion, "group": group})
    rng.shuffle(rows)
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Write the two files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=200, help="training problems")
    parser.add_argument("--test", type=int, default=60, help="test problems")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    rows = problems(asked.train + asked.test, asked.seed)
    asked.folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", rows[: asked.train]), ("test", rows[asked.train :])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (asked.folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
