"""What can be done to a list in the embedded task of lists, and which results each step allows.

A list is a text of digits, such as ``"31415"``. Every operation is defined for every list, the
empty one too, whose results are empty.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

DIGITS = "0123456789"


@dataclass(frozen=True)
class Operation:
    """One of the things that are done to a list.

    Attributes:
        results: from a list and the operation's argument to the allowed results, each as likely as
            any other; one that is there twice is twice as likely.
        arguments: from a list to what may stand behind the name; ``[""]`` for nothing.
        meaning: what it does, in words.
        closing: whether it comes last only, because hardly anything is left to be done after it.
        open: whether it leaves something to choose, so that there are several right results.
    """

    results: Callable[[str, str], list[str]]
    meaning: str
    arguments: Callable[[str], Sequence[str]] = lambda items: [""]
    closing: bool = False
    open: bool = False


def _without(items: str, place: int) -> str:
    return items[:place] + items[place + 1 :]


def _turned(items: str, by: int) -> str:
    by %= max(len(items), 1)
    return items[by:] + items[:by]


OPERATIONS: dict[str, Operation] = {
    "reverse": Operation(lambda items, _: [items[::-1]], "the last element first"),
    "sort": Operation(lambda items, _: ["".join(sorted(items))], "the smallest element first"),
    "unique": Operation(
        lambda items, _: ["".join(dict.fromkeys(items))], "of equal elements the first alone"
    ),
    "rotate": Operation(
        lambda items, by: [_turned(items, int(by))],
        "so many elements go from the front to the end",
        lambda items: "123",
    ),
    "every": Operation(
        lambda items, step: [items[:: int(step)]],
        "the first, and every second or third from there",
        lambda items: "23",
    ),
    "replace": Operation(
        lambda items, pair: [items.replace(pair[0], pair[1])],
        "one digit becomes another wherever it stands",
        lambda items: [old + new for old in items or "0" for new in DIGITS if new != old],
    ),
    "above": Operation(
        lambda items, bound: ["".join(item for item in items if item > bound)],
        "the elements larger than a bound",
        lambda items: "234567",
    ),
    "below": Operation(
        lambda items, bound: ["".join(item for item in items if item < bound)],
        "the elements smaller than a bound",
        lambda items: "234567",
    ),
    "drop": Operation(
        lambda items, _: [_without(items, place) for place in range(len(items))] or [""],
        "any one element is left out",
        open=True,
    ),
    "cut": Operation(
        lambda items, _: [_turned(items, by) for by in range(len(items))] or [""],
        "any number of elements go from the front to the end",
        open=True,
    ),
    "count": Operation(
        lambda items, item: [str(items.count(item)) if items else ""],
        "how often a digit is there",
        lambda items: items or "0",
        closing=True,
    ),
    "runs": Operation(
        lambda items, _: ["".join(f"{len(list(run))}{item}" for item, run in groupby(items))],
        "how many equal elements stand together, and which",
        closing=True,
    ),
    "pick": Operation(
        lambda items, _: list(items) or [""], "any one element", closing=True, open=True
    ),
}
"""The table of operations by name. A list of nine or fewer stays so until the last step."""


@dataclass(frozen=True)
class Step:
    """An operation with its argument, as a prompt names it.

    Attributes:
        name: of a row of ``OPERATIONS``.
        argument: what stands behind the name, or nothing.
    """

    name: str
    argument: str = ""

    def __str__(self) -> str:
        return self.name + self.argument

    def results(self, items: str) -> list[str]:
        """The allowed results, each as likely as any other."""
        return OPERATIONS[self.name].results(items, self.argument)

    def mistakes(self, items: str, result: str) -> list[str]:
        """What a wrong result may be instead of a right one: one digit is another.

        Nothing that the step allows is among them.
        """
        allowed = set(self.results(items))
        changed = [
            result[:place] + digit + result[place + 1 :]
            for place in range(max(len(result), 1))  # an empty list gets an element
            for digit in DIGITS
        ]
        return [text for text in changed if text not in allowed]
