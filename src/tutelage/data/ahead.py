"""Work one step ahead: the next thing is made while the last one is used."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def one_ahead(make: Callable[[Given], Made], things: Iterable[Given]) -> Iterator[Made]:
    """``map(make, things)``, in order, with one thing made in a thread before it is asked for.

    This pays where ``make`` lets other threads run, as fast tokenizers do.

    Args:
        make: never runs twice at once.
        things: what it is called with.

    Raises:
        Exception: whatever ``make`` raised, where its result would be.
    """
    with ThreadPoolExecutor(1) as thread:
        ahead = None
        for thing in things:
            made, ahead = ahead, thread.submit(make, thing)
            if made is not None:
                yield made.result()
        if ahead is not None:
            yield ahead.result()
