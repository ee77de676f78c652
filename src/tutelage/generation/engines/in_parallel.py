"""Several jobs at once in threads, their results in the one thread that asked for them."""

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

Job = TypeVar("Job")
Done = TypeVar("Done")

_WORKER_ENDED = Exception()


def in_parallel(
    jobs: Sequence[Job], work: Callable[[Job], Done], workers: int, stopped: threading.Event
) -> Generator[Done, None, None]:
    """What ``work`` makes of each job, in the order in which they are done, in this thread.

    When one fails, no further one is begun; those that are on their way are waited for and given,
    because they may have been paid for, and then the error of the first is raised. Who ends the
    iteration before its end (Ctrl-C) waits for nobody.
    """
    todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    for job in jobs:
        todo.put(job)

    def worker() -> None:
        while not stopped.is_set():
            try:
                job = todo.get_nowait()
            except queue.Empty:
                break
            try:
                done.put((work(job), None))
            except BaseException as error:
                stopped.set()
                done.put((None, error))
        done.put((None, _WORKER_ENDED))

    count = min(workers, len(jobs))
    for _ in range(count):
        threading.Thread(target=worker, daemon=True).start()
    failed: BaseException | None = None
    try:
        while count:
            result, error = done.get()
            if error is _WORKER_ENDED:
                count -= 1
            elif error is not None:
                failed = failed or error
            else:
                yield result
    finally:
        stopped.set()
    if failed is not None:
        raise failed
