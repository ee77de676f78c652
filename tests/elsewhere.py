"""A file system of fsspec in memory that counts what it is asked, and fails when it is told to."""

from collections import Counter
from pathlib import PurePosixPath

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class Elsewhere(MemoryFileSystem):
    """Buckets: one that nobody has made is not there."""

    protocol = "elsewhere"
    store: dict = {}  # noqa: RUF012 - as its parent has it, which is one for all
    pseudo_dirs = [""]  # noqa: RUF012
    cachable = False
    asked = Counter()  # noqa: RUF012
    sent: list = []  # noqa: RUF012
    failures: dict = {}  # noqa: RUF012 - by what is asked: which time of it, and what is raised

    @classmethod
    def empty(cls):
        cls.store, cls.pseudo_dirs, cls.asked = {}, [""], Counter()
        cls.sent, cls.failures = [], {}

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("elsewhere://"))

    def _count(self, what):
        self.asked[what] += 1
        number, error = self.failures.get(what, (0, None))
        if error is not None and self.asked[what] >= number:
            raise error

    def ls(self, path, detail=True, **options):
        self._count("ls")
        return super().ls(path, detail=detail, **options)

    def cat_file(self, path, *places, **options):
        self._count("read")
        return super().cat_file(path, *places, **options)

    def get_file(self, rpath, lpath, **options):
        self._count("get")
        return super().get_file(rpath, lpath, **options)

    def put_file(self, lpath, rpath, **options):
        self._count("put")
        self.sent.append(PurePosixPath(rpath).name)
        return super().put_file(lpath, rpath, **options)


def content(folder="bucket"):
    """Every file at an address, with what is in it."""
    files = {k: v for k, v in Elsewhere.store.items() if k.startswith(f"/{folder}/")}
    return {PurePosixPath(path).name: file.getvalue() for path, file in files.items()}


def change(name, new, folder="bucket"):
    """Replace what is in a file, or remove it."""
    Elsewhere().rm(f"/{folder}/{name}")
    if new is not None:
        Elsewhere().pipe_file(f"/{folder}/{name}", new)


fsspec.register_implementation("elsewhere", Elsewhere, clobber=True)
