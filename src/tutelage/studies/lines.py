"""What a person sees while a study is carried out: one line for each run that ends."""

from collections.abc import Callable, Mapping
from typing import Any

from tutelage.errors import RunFolderError
from tutelage.studies.due import Task
from tutelage.studies.load import LoadedStudy
from tutelage.studies.results import Result
from tutelage.studies.watch import StudyState, Watch

Event = Mapping[str, Any]
"""What happened: ``event`` is start, done, failed, waiting, note or error; the rest is about it."""


def facts_of(task: Task) -> dict[str, Any]:
    """What an event says of its task."""
    return {"name": task.result, "title": task.title, "role": task.role}


def done_event(task: Task, result: Result) -> dict[str, Any]:
    """The event of a task that has its result."""
    facts = {"event": "done", **facts_of(task), "value": result.value, "seconds": result.took}
    if result.scores:
        name, scores = next(iter(result.scores.items()))
        facts |= {"value": scores.mean, "measure": name}
    return facts


class Lines:
    """Says events in lines, each with how much is left.

    Args:
        loaded: the study.
        watch: looks at what is there.
        say: called with each line.
        workers: who share what is left.
    """

    def __init__(
        self, loaded: LoadedStudy, watch: Watch, say: Callable[[str], Any], workers: int
    ) -> None:
        self._measure = getattr(loaded.study.search, "measure", "")
        self._watch = watch
        self._say = say
        self._workers = max(1, workers)
        self._noted: set[str] = set()  # every worker has the same to say
        self._seconds: dict[str, list[float]] = {}

    def told(self, event: Event) -> None:
        """Say an event, if there is something to say.

        Raises:
            RunFolderError: a worker stopped, and this is what it said.
        """
        kind = event["event"]
        if kind == "done":
            self._seconds.setdefault(event["role"], []).append(event["seconds"])
            self._say(self._done(event))
        elif kind == "failed":
            self._say(f"failed: {event['title']} (why is said at the end)")
        elif kind == "waiting":
            self._say("all that is due is with other workers; waiting for what they find")
        elif kind == "note" and event["text"] not in self._noted:
            self._noted.add(event["text"])
            self._say(f"note: {event['text']}")
        elif kind == "error":
            raise RunFolderError(f"A worker of the study stopped: {event['why']}")

    def _done(self, event: Event) -> str:
        from tutelage.report.quantities import duration  # it brings matplotlib

        state = self._watch.look()
        there = sum(name in state.results for name in state.due.wanted)
        total = f"{len(state.due.wanted)}{'+' if state.due.open else ''}"
        words = [f"{there}/{total} {event['title']}"]
        value = event.get("value")
        if event["role"] in ("pilot", "price"):
            words.append(f"{value:.0f} updates cost as much as the control's")
        elif value is not None:
            words.append(f"{event.get('measure', self._measure)} {value:.4g}")
        elif event["role"] == "search":
            words.append("diverged")
        words.append(duration(event["seconds"]))
        left = self._left(state)
        return ", ".join(words) + (f"; about {duration(left)} left" if left else "")

    def _left(self, state: StudyState) -> float:
        """Seconds of what is known to be left, from runs of the same role."""
        left = 0.0
        for task in state.due.ready:
            known = self._seconds.get(task.role) or [0.0]
            left += sum(known) / len(known)
        return left / self._workers
