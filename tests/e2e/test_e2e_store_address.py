"""Runs whose teacher is stored at an address."""

import json
import os
import shutil
import subprocess
import time
from contextlib import closing
from pathlib import Path
from socket import socket

import pytest
import yaml
from killing import make_models, small_recipe
from test_e2e_cli import tutelage

from elsewhere import Elsewhere, content
from tutelage.errors import ConfigError, MissingDependencyError, StoreError
from tutelage.pipeline import cache, run
from tutelage.pipeline.context.models import Models
from tutelage.recipe import load_recipe
from tutelage.teachers import TeacherStore

ADDRESS = "elsewhere://bucket/store"


@pytest.fixture
def models(tmp_path):
    make_models(tmp_path)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """The recipe as another machine has it, with an output folder of its own."""
    Elsewhere.empty()
    monkeypatch.setattr("tutelage.teachers.store.write.SMALLEST_SHARD", 1)
    monkeypatch.setattr("tutelage.teachers.store.write.SHARDS_WANTED", 4)

    def made(name, store=ADDRESS):
        recipe = small_recipe(tmp_path)
        recipe["teacher"].update(store=store, signal="hidden")
        recipe["evaluation"]["teacher"] = False
        recipe["difficulty"] = {"kind": "response_length", "batch_tokens": 512}
        return {**recipe, "controls": {}, "output": str(tmp_path / name)}

    return made


def shards():
    return {name for name in content("bucket/store") if name.endswith(".safetensors")} - {
        "head.safetensors"
    }


@pytest.mark.usefixtures("models")
def test_two_hosts_make_a_part_each_and_a_third_reads_both(host, monkeypatch, tmp_path):
    (first,) = cache(host("one"), part=(0, 2))
    assert first.address == ADDRESS and first.folder.parent == tmp_path / "one" / "cache"
    half = shards()
    (second,) = cache(host("two"), part=(1, 2))
    assert 0 < len(half) < len(shards()) and first.added + second.added == second.examples
    monkeypatch.setattr(Models, "load_teacher", lambda *_: pytest.fail("the teacher was loaded"))
    puts = Elsewhere.asked["put"]
    (third,) = cache(host("three"), run_dir=tmp_path / "run")
    assert third.added == 0 and third.examples == second.examples
    assert Elsewhere.asked["put"] == puts
    # What both hosts spent is charged to who reads what they made.
    files = content("bucket/store")
    spent = [json.loads(files[name])["seconds"] for name in files if name.startswith("seconds-")]
    clock = json.loads((tmp_path / "run" / "seconds.json").read_text())
    assert len(spent) == 2 and sum(spent) > 0
    assert clock["seconds"]["teacher store"] == pytest.approx(sum(spent), abs=0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("models")
def test_addresses_and_folders_are_one_store(host, tmp_path):
    cache(host("one"), part=(0, 2))
    cache(host("two", store=str(tmp_path / "plain")), part=(1, 2))
    both = [str(tmp_path / "plain"), ADDRESS]
    (found,) = cache(host("three", store=both))
    assert found.added == 0 and found.folder == tmp_path / "plain" and not found.address
    with pytest.raises(StoreError, match="'elsewhere://none' is no teacher store"):
        cache(host("four", store=[*both, "elsewhere://none"]))
    run(host("three", store=[ADDRESS, str(tmp_path / "plain")]))


@pytest.mark.usefixtures("models")
def test_a_network_that_fails_stops_nothing_and_loses_nothing(host, tmp_path, capsys):
    Elsewhere.failures = {"put": (5, OSError("the line is cut"))}
    with pytest.raises(StoreError, match=r"cannot be written \(the line is cut\)"):
        cache(host("one"), quiet=False)
    said = capsys.readouterr().err
    assert said.count("The pass goes on; at its end it is tried again") == 1
    (folder,) = (tmp_path / "one" / "cache").glob("store-*")
    here = TeacherStore(folder)
    assert here.examples > 40 and len(shards()) < len(here._paths)
    # The same command sends the rest; the teacher is not asked again.
    Elsewhere.failures = {}
    (again,) = cache(host("one"))
    assert again.added == 0 and len(shards()) == len(here._paths)
    # Who may not write knows it before the pass.
    Elsewhere.empty()
    Elsewhere.failures = {"put": (1, PermissionError("Access Denied"))}
    with pytest.raises(StoreError, match=r"written \(Access Denied\)\. The keys"):
        cache(host("two"))
    (folder,) = (tmp_path / "two" / "cache").glob("store-*")
    assert not list(folder.glob("shard-*"))


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("s3://me:secret-1@bucket/x", "teacher.store: The address holds a password"),
        (["here", "https://bucket/x?sig=secret-1"], "The address holds a password or a query"),
        ("s3:/secret-1/x", "is named by its address"),
        ("file:///data/x", "Name the folder itself, without 'file://'"),
    ],
)
def test_what_must_not_be_shown_is_refused_and_not_repeated(host, store, words):
    with pytest.raises(ConfigError, match=words) as said:
        load_recipe(host("one", store=store))
    assert "secret-1" not in str(said.value)


@pytest.mark.usefixtures("models")
def test_what_cannot_be_reached_is_said_by_validate(host, tmp_path, monkeypatch, capsys):
    import fsspec

    with pytest.raises(ConfigError, match=r"store: .*'sfpt' is no kind.*mean 'sftp'"):
        cache(host("one", store="sfpt://bucket/x"))

    def lacking(kind):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", lacking)
    with pytest.raises(MissingDependencyError, match=r"access S3\)\. Install it: pip install s3fs"):
        cache(host("one", store="s3://bucket/x"))
    assert not (tmp_path / "one").exists()
    # As the command says it: one message and exit code 2.
    monkeypatch.undo()
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(host("one", store="nowhere://bucket/x")))
    code, _, said = tutelage(capsys, "validate", path)
    assert code == 2 and "'nowhere' is no kind of storage" in said and "Traceback" not in said


@pytest.fixture
def s3(monkeypatch):
    """A server on this machine that speaks S3."""
    server, s3fs = shutil.which("moto_server"), pytest.importorskip("s3fs")
    if server is None:
        pytest.skip("moto's server is not installed")
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "some", "AWS_SECRET_ACCESS_KEY": "key", "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    process = subprocess.Popen([server, "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        s3fs.S3FileSystem.clear_instance_cache()
        for _ in range(100):
            with closing(socket()) as asking:
                if asking.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield s3fs.S3FileSystem()
    finally:
        process.kill()
        process.wait()
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.usefixtures("models")
@pytest.mark.slow
def test_a_server_that_speaks_s3(host, s3, monkeypatch):
    with pytest.raises(StoreError, match=r"cannot be written .*Make the bucket or folder first"):
        cache(host("one", store="s3://bucket/stores/mine"))
    assert not s3.exists("bucket")
    s3.mkdir("bucket")
    for number, name in enumerate(("one", "two")):
        cache(host(name, store="s3://bucket/stores/mine"), part=(number, 2))
    monkeypatch.setattr(Models, "load_teacher", lambda *_: pytest.fail("the teacher was loaded"))
    (third,) = cache(host("three", store="s3://bucket/stores/mine/"))
    assert third.added == 0 and third.examples > 40
    there = {Path(path).name: s3.cat_file(path) for path in s3.ls("bucket/stores/mine")}
    assert there == {
        path.name: path.read_bytes() for path in third.folder.iterdir() if path.is_file()
    }
    name = next(name for name in there if name.startswith("shard-") and name.endswith("s"))
    damaged = bytearray(there[name])
    damaged[-1] ^= 1
    s3.pipe_file(f"bucket/stores/mine/{name}", bytes(damaged))
    with pytest.raises(StoreError, match=f"stores/mine/{name}' was changed or damaged"):
        cache(host("four", store="s3://bucket/stores/mine"))
    os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:1"
    s3.clear_instance_cache()
    with pytest.raises(StoreError, match="cannot be listed"):
        cache(host("five", store="s3://bucket/stores/mine"))
