"""Several teachers, of whom one is in memory."""

from collections.abc import Callable, Iterator, Mapping

from tutelage.teachers.signal import TeacherSignal


class TeacherLadder(Mapping[str, TeacherSignal]):
    """Teachers by name, from weak to strong; each is loaded when it is first asked for.

    Asking for another one lets go of the one before, so that never more than one is in memory. A
    plan that climbs a ladder loads each teacher once; a random mix by steps would load them again
    and again, so with ``keep_all`` they all stay.

    Args:
        loaders: name to a function that loads the teacher, from weak to strong.
        keep_all: keep every teacher that was loaded.
    """

    def __init__(
        self, loaders: Mapping[str, Callable[[], TeacherSignal]], *, keep_all: bool = False
    ) -> None:
        self._loaders = dict(loaders)
        self._keep_all = keep_all
        self._loaded: dict[str, TeacherSignal] = {}

    def __getitem__(self, name: str) -> TeacherSignal:
        if name not in self._loaded:
            load = self._loaders[name]
            if not self._keep_all:
                self._loaded.clear()
            self._loaded[name] = load()
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)
