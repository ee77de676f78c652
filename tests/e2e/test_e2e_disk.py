"""A write that is refused is one message, whoever wrote: Python, torch, safetensors, Arrow.

And a disk that is full at any moment of any command is one message, and the same command goes on
once there is room: to the same result.
"""

import os
import re
import resource
import shutil
import sys
import traceback

import pytest
import torch
from disk_full import Disk, attempt
from killing import make_models, small_recipe
from safetensors.torch import save_file
from test_e2e_kill_count import Eval, Run, Store, Study, make_home

from tutelage.errors import RunFolderError
from tutelage.models.saving import disk_checked
from tutelage.studies.board import Board


def refused(limit, work):
    """Work in a child whose files may have so many bytes; what it was told."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            # Python keeps what it compiles even where it was cut off, and breaks on it for ever.
            sys.dont_write_bytecode = True
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            work()
            os._exit(0)
        except RunFolderError as error:
            os.write(writing, str(error).encode())
            os._exit(2)
        except BaseException:
            traceback.print_exc(file=sys.stdout)
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    return told


def by_arrow(path):
    import datasets

    datasets.Dataset.from_dict({"a": list(range(9000))}).save_to_disk(path / "rows")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: (path / "file").write_bytes(b"x" * 9000),
        lambda path: torch.save(torch.zeros(9000), path / "file.pt"),
        lambda path: save_file({"a": torch.zeros(9000)}, path / "file.safetensors"),
        by_arrow,
    ],
    ids=["python", "torch", "safetensors", "arrow"],
)
def test_a_file_size_limit(tmp_path, write):
    def work():
        (tmp_path / "folder").mkdir()
        with disk_checked(tmp_path / "folder"):
            write(tmp_path / "folder")

    told = refused(4096, work)
    assert "larger than is allowed" in told and "folder" in told and "same command" in told
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("limit", [3000, 40_000])
def test_a_run_under_a_file_size_limit(tmp_path, limit):
    from tutelage.pipeline import run

    make_models(tmp_path)
    recipe = {**small_recipe(tmp_path), "controls": {}}
    told = refused(limit, lambda: run(recipe, run_dir=tmp_path / "run"))
    assert "larger than is allowed" in told
    assert not list(tmp_path.rglob(".tmp-*"))


class StudyAgain(Study):
    """As ``tutelage study`` does: what failed is tried again."""

    def __call__(self, folder):
        Board(self._loaded(folder).folder).forget_failures()
        super().__call__(folder)


COMMANDS = {"run": Run, "cache": Store, "eval": Eval, "study": StudyAgain}
WORDS = "disk is full: .* Free some space|needs .* free"
"""What was not written; or what is not even begun, because it would not fit."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    make_home(folder)
    return folder


@pytest.fixture
def disk(home, request):
    made = Disk(home / f"disk-{len([*home.glob('disk-*')])}")
    yield made
    made.close()


def full_at(command, disk, points):
    """Fill the disk before some operations of a command, which are said by their number of all."""
    whole = disk.path / "whole"
    code, said, operations = attempt(lambda: command(whole), disk)
    assert code == 0, said
    assert operations > 10
    met = 0
    for number in points(operations):
        folder = disk.path / f"full-{number}"
        code, said, _ = attempt(lambda folder=folder: command(folder), disk, number)
        disk.free()
        assert code in (0, 2), (number, said)
        # What needs no room any more, such as a removal, may still get through.
        met += code == 2
        assert code == 0 or re.search(WORDS, said), (number, said)
        assert not [*folder.rglob(".tmp-*")], number
        code, said, _ = attempt(lambda folder=folder: command(folder), disk)
        assert code == 0, (number, said)
        command.check(whole, folder)
        shutil.rmtree(folder)
    return met, operations


@pytest.mark.parametrize(("name", "parts"), [("run", (0.6,)), ("eval", (0.5,))])
def test_a_disk_that_is_full_from_some_operation_on(home, disk, name, parts):
    met, _ = full_at(
        COMMANDS[name](disk.path, home), disk, lambda count: [int(one * count) for one in parts]
    )
    assert met == len(parts)


STRIDE = int(os.environ.get("TUTELAGE_DISK_STRIDE", "7"))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_is_full_at_every_operation(home, disk, name, capsys):
    """Every one with TUTELAGE_DISK_STRIDE=1."""
    met, operations = full_at(
        COMMANDS[name](disk.path, home), disk, lambda count: range(0, count, STRIDE)
    )
    assert met
    with capsys.disabled():
        kind = "a file system that is full" if disk.mounted else "writes that are refused"
        print(
            f"\n{name}: {met} of {operations} operations met {kind} (every {STRIDE}th was tried),"
            " and the same command came to the same result"
        )
