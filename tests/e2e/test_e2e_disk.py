"""A write that is refused is one message, whoever wrote: Python, torch, safetensors, Arrow."""

import os
import resource
import sys
import traceback

import pytest
import torch
from killing import make_models, small_recipe
from safetensors.torch import save_file

from tutelage.errors import RunFolderError
from tutelage.models.saving import disk_checked


def refused(limit, work):
    """Work in a child whose files may have so many bytes; what it was told."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
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
