"""``tutelage runs``: what there is, and what may go."""

import fcntl
import json
import re
import threading

import pytest
from test_e2e_cli import tutelage

from tutelage.errors import RunFolderError
from tutelage.files import atomic_write_json
from tutelage.locks import taken, unused, used
from tutelage.pipeline.context.folder import PartsFolder, RunFolder
from tutelage.pipeline.context.session import USED
from tutelage.pipeline.context.shared import SharedParts
from tutelage.pipeline.runs import list_runs
from tutelage.proofs import write_sealed


def small_run(runs, name, *, student=True, uses=()):
    """A run folder as far as listing reads it, and what it keeps for others."""
    folder = runs / name
    write_sealed(folder / "recipe.json", {"fingerprint": name})
    run, shared = PartsFolder(folder), SharedParts(runs / "cache" / "parts")
    for part in ("data", *(["arms/cpd/student"] if student else [])):
        with run.making(part, {"of": name}) as made:
            (made / "file").write_bytes(b"x" * 1000)
        shared.put(run, part, {"of": name}, "r")
    write_sealed(folder / USED, {"names": list(uses)})
    if student:
        told = {"name": "mine", "main_arm": "cpd", "finished": "now", "started": "2026-01-01"}
        write_sealed(folder / "run.json", told)
    return folder


def test_runs_are_listed_and_only_what_no_run_needs_is_cleaned(capsys, tmp_path):
    runs = tmp_path / "runs"
    good = small_run(runs, "good", uses=["store-0123456789ab"])
    bad = small_run(runs, "bad", student=False)
    for name in ("store-0123456789ab", "store-0123456789ac", "teacher-0123456789ad-training"):
        (runs / "cache" / name).mkdir(parents=True)
    (runs / "cache" / ".tmp-x").write_text("half")
    aside = small_run(runs, ".tmp-0123456789abcdef")  # a removal of a run was killed
    (runs / "thesis").mkdir()
    (runs / "thesis" / "notes.txt").write_text("mine")

    code, out, _ = tutelage(capsys, "runs", "--output", runs, "--json")
    listed = {row["folder"]: row["state"] for row in json.loads(out)}
    assert code == 0 and listed == {str(good): "finished", str(bad): "stopped after data"}
    (bad / "arms" / "cpd" / "plan").mkdir(parents=True)
    assert {run.folder: run.state for run in list_runs(runs)}[bad] == "planned, nothing trained"
    (good / "run.json").rename(good / "aside")
    assert {run.folder: run.state for run in list_runs(runs)}[good] == "stopped after cpd"
    (good / "aside").rename(good / "run.json")
    code, out, _ = tutelage(capsys, "runs", "--output", runs)
    assert code == 0 and f"{good}: mine, 2026-01-01, finished" in out

    code, out, err = tutelage(capsys, "runs", "--output", runs, "--clean")
    assert code == 0 and "nothing was removed" in err and str(good) not in out and bad.is_dir()
    with (good / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = tutelage(capsys, "runs", "--output", runs, "--clean", "--yes")
        assert code == 2 and "in use" in err and bad.is_dir()
    code, _, err = tutelage(capsys, "runs", "--output", runs, "--clean", "--yes")
    assert code == 0 and "removed: " in err
    kinds = [path.name.split("-")[0] for path in sorted((runs / "cache" / "parts").iterdir())]
    assert kinds == ["data", "student"] and not bad.exists() and good.is_dir()
    assert not aside.exists() and (runs / "thesis/notes.txt").exists()
    assert {path.name for path in (runs / "cache").iterdir()} == {
        ".locks",
        "parts",
        "store-0123456789ab",
    }
    assert (runs / "thesis" / "notes.txt").is_file()


def test_cleaning_and_runs_keep_out_of_each_others_way(capsys, tmp_path):
    small_run(tmp_path, "bad", student=False)
    cache, clean = tmp_path / "cache", ("runs", "--output", tmp_path, "--clean", "--yes")
    with used(cache):
        code, _, err = tutelage(capsys, *clean)
        assert code == 2 and f"A run uses '{cache}'" in err and (tmp_path / "bad").is_dir()
    began, entered = threading.Event(), []

    def begin():
        began.set()
        with used(cache):
            entered.append(sorted(path.name for path in tmp_path.iterdir()))

    run = threading.Thread(target=begin)
    with unused(cache):  # as long as it is cleaned
        run.start()
        began.wait()
        run.join(0.1)
        assert not entered
        (tmp_path / "bad").rename(tmp_path / "gone")
    run.join()
    assert entered == [["cache", "gone"]]


def test_a_run_whose_folder_is_cleaned_as_it_begins_has_a_lock_that_others_see(
    monkeypatch, tmp_path
):
    def cleaned(file):
        if not (tmp_path / "aside").exists():
            (tmp_path / "run").rename(tmp_path / "aside")
            (tmp_path / "run").mkdir()
        return taken(file)

    monkeypatch.setattr("tutelage.pipeline.context.folder.taken", cleaned)
    with RunFolder(tmp_path / "run", "f", "name: x\n"):
        with pytest.raises(RunFolderError, match="in use by process"):
            RunFolder(tmp_path / "run", "f", "name: x\n").__enter__()
        assert (tmp_path / "run/recipe.json").is_file()


def test_scores_that_were_changed_are_not_listed(capsys, tmp_path):
    folder = small_run(tmp_path, "good")
    with PartsFolder(folder).making("arms/cpd/evaluation", {}) as made:
        atomic_write_json(made / "scores.json", {"scores": {"exact_match": {"mean": 0.5}}})
    assert list_runs(tmp_path)[0].scores == {"exact_match": 0.5}
    path = folder / "arms/cpd/evaluation/scores.json"
    path.write_text(path.read_text().replace("0.5", "0.9"))
    code, out, _ = tutelage(capsys, "runs", "--output", tmp_path)
    assert code == 0 and "0.9" not in out
    assert f"finished, but '{path}' was changed or damaged" in out


@pytest.mark.parametrize(
    "name", ["cache/users/1.json", "good/cache.json", "good/data/manifest.json"]
)
def test_where_a_record_of_what_a_run_needs_is_damaged_nothing_is_cleaned(capsys, tmp_path, name):
    small_run(tmp_path, "good", uses=["store-0123456789ab"])
    bad = small_run(tmp_path, "bad", student=False)
    (tmp_path / "cache/store-0123456789ab").mkdir()
    write_sealed(tmp_path / "cache/users/1.json", {"run": str(tmp_path / "place12")})
    path = tmp_path / name
    path.write_text(re.sub(r"12", "21", path.read_text()) if "data" not in name else "{")
    code, _, err = tutelage(capsys, "runs", "--output", tmp_path, "--clean", "--yes")
    assert code == 2 and f"'{path}' is damaged" in err and "Give the command" in err
    assert bad.is_dir() and (tmp_path / "cache/store-0123456789ab").is_dir()


def test_what_is_not_ours_stays(capsys, tmp_path):
    """Folders that look like ours, links, what lies among ours, and what runs elsewhere use."""
    runs, cache = tmp_path / "runs", tmp_path / "runs" / "cache"
    small_run(runs, "good")
    small_run(runs, "mixed", student=False)
    theirs = {
        "pasta/recipe.json": runs,  # another program's recipe
        "mixed/notes.txt": runs,
        "parts/notes.txt": cache,
        "parts/mine/data": cache,
        "store-mine/data": cache,
        "store-0123456789ab/shard": cache,
        "target/data": tmp_path,
    }
    for name, place in theirs.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("precious")
    for link in (cache / "store-0123456789ac", cache / "parts" / "data-0123456789abcdef"):
        link.symlink_to(tmp_path / "target")
    (runs / "linked").symlink_to(small_run(tmp_path, "elsewhere", student=False))
    used = small_run(tmp_path, "outside", student=True, uses=["store-0123456789ab"])
    write_sealed(cache / "users" / "1.json", {"run": str(used)})
    code, _, _ = tutelage(capsys, "runs", "--output", runs, "--clean", "--yes")
    assert code == 0
    assert all((place / name).read_text() == "precious" for name, place in theirs.items())
    assert (cache / "store-0123456789ac").is_symlink() and (runs / "linked" / "data").is_dir()
    with (used / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = tutelage(capsys, "runs", "--output", runs, "--clean", "--yes")
        assert code == 2 and "in use" in err


def test_a_linked_cache_is_not_cleaned(capsys, tmp_path):
    """Runs of other output folders may use it, and nothing here says so."""
    store = tmp_path / "shared" / "store-0123456789ab"
    store.mkdir(parents=True)
    small_run(tmp_path / "runs" / "x", "good")
    (tmp_path / "runs" / "cache").symlink_to(tmp_path / "shared")
    code, _, _ = tutelage(capsys, "runs", "--output", tmp_path / "runs", "--clean", "--yes")
    assert code == 0 and store.is_dir()


def test_damaged_records_are_listed_as_text(capsys, tmp_path):
    folder = small_run(tmp_path, "odd\x1b[2J")
    for value in ({"scores": {"a": 1, "b": {"mean": "x"}}}, {"scores": []}, []):
        path = folder / "arms/cpd/evaluation/scores.json"
        atomic_write_json(path, value)
        write_sealed(folder / "run.json", {"name": 3, "main_arm": "cpd", "started": [1]})
        small_run(tmp_path, "other")
        code, out, _ = tutelage(capsys, "runs", "--output", tmp_path)
        assert code == 0 and "odd\\x1b[2J: 3, [1], stopped" in out and "\x1b" not in out


def test_a_name_too_long_for_a_folder_is_one_message(capsys):
    for clean in ((), ("--clean", "--yes")):
        code, _, err = tutelage(capsys, "runs", "--output", "x" * 5000, *clean)
        assert code == 2 and "cannot be made" in err and len(err) < 500
