"""``tutelage runs``: what there is, and what may go."""

import fcntl
import json

from test_e2e_cli import tutelage

from tutelage.files import atomic_write_json, write_sealed
from tutelage.pipeline.folder import PartsFolder
from tutelage.pipeline.session import USED
from tutelage.pipeline.shared import SharedParts


def small_run(runs, name, *, student=True, uses=()):
    """A run folder as far as listing reads it, and what it keeps for others."""
    folder = runs / name
    write_sealed(folder / "recipe.json", {"fingerprint": name})
    run, shared = PartsFolder(folder), SharedParts(runs / "cache" / "parts")
    for part in ("data", *(["arms/cpd/student"] if student else [])):
        with run.making(part, {"of": name}) as made:
            (made / "file").write_bytes(b"x" * 1000)
        shared.put(run, part, {"of": name}, {"recipe": "r", "stage": "", "seconds": 0.0})
    atomic_write_json(folder / USED, list(uses))
    if student:
        told = {"name": "mine", "main_arm": "cpd", "finished": "now", "started": "2026-01-01"}
        atomic_write_json(folder / "run.json", told)
    return folder


def test_runs_are_listed_and_only_what_no_run_needs_is_cleaned(capsys, tmp_path):
    runs = tmp_path / "runs"
    good = small_run(runs, "good", uses=["store-1"])
    bad = small_run(runs, "bad", student=False)
    for name in ("store-1", "store-2", "teacher-3"):
        (runs / "cache" / name).mkdir(parents=True)
    (runs / "cache" / ".tmp-x").write_text("half")
    (runs / "thesis").mkdir()
    (runs / "thesis" / "notes.txt").write_text("mine")

    code, out, _ = tutelage(capsys, "runs", "--output", runs, "--json")
    listed = {row["folder"]: row["state"] for row in json.loads(out)}
    assert code == 0 and listed == {str(good): "finished", str(bad): "stopped after data"}
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
    assert {path.name for path in (runs / "cache").iterdir()} == {"parts", "store-1"}
    assert (runs / "thesis" / "notes.txt").is_file()
