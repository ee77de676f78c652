"""What is damaged in a finished run is named and mended, whatever file it is."""

import shutil

import pytest

from tutelage.files import atomic_directory, remove_directory
from tutelage.pipeline.context.folder import PartsFolder
from tutelage.pipeline.context.shared import SharedParts

STUDENT, INPUTS = "arms/cpd/student", {"seed": 1}
BESIDE = {
    "metrics.jsonl": '{"step": 1}\n',
    "validation.jsonl": '{"step": 1, "exact_match": 0.5}\n',
    "student_last/model.safetensors": "weights",
    "replanned/after_stage_1/plan.json": "{}",
}


@pytest.fixture
def finished(tmp_path):
    """A run folder with a finished student, which is also kept for other runs."""
    run, shared = PartsFolder(tmp_path / "run"), SharedParts(tmp_path / "parts")
    for name, text in BESIDE.items():
        path = run.part("arms/cpd") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with run.making(STUDENT, INPUTS) as folder:
        (folder / "config.json").write_text("{}")
    shared.put(run, STUDENT, INPUTS, "r")
    return run.path, shared


def files(folder):
    return {p.relative_to(folder): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("file", ["student/config.json", "student/manifest.json", *BESIDE])
@pytest.mark.parametrize("how", ["cut", "delete"])
def test_a_damaged_student_is_named_and_taken_anew_with_all_beside_it(finished, file, how):
    path, shared = finished
    whole, bad = files(path), path / "arms/cpd" / file
    bad.unlink() if how == "delete" else bad.write_text("{")
    run, told = PartsFolder(path), []
    run.tell = told.append
    assert not run.fresh(STUDENT, INPUTS)
    assert all(f"'{bad}'" in line for line in told)
    assert told
    assert shared.take(run, STUDENT, INPUTS) == str(path)
    assert files(path) == whole
    assert PartsFolder(path).fresh(STUDENT, INPUTS)


@pytest.mark.parametrize("file", ["shared.json", "student/config.json", *BESIDE])
def test_a_damaged_copy_is_not_taken_and_is_kept_anew(finished, tmp_path, file):
    path, shared = finished
    kept = shared.place(STUDENT, INPUTS).path
    (kept / file).write_text("{")
    other, told = PartsFolder(tmp_path / "other"), []
    other.tell = told.append
    assert shared.take(other, STUDENT, INPUTS) is None
    assert str(kept / file) in told[0]
    assert not other.path.exists()
    shared.put(PartsFolder(path), STUDENT, INPUTS, "r")
    assert shared.take(other, STUDENT, INPUTS) is not None
    assert files(other.path) == files(path)


def test_what_is_in_the_way_of_a_folder_goes_and_what_a_link_leads_to_stays(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "precious").write_text("x")
    ways = {
        "file": lambda p: p.write_text("x"),
        "folder": lambda p: shutil.copytree(theirs, p),
        "link": lambda p: p.symlink_to(theirs),
        "dead": lambda p: p.symlink_to(tmp_path / "nowhere"),
    }
    for name, make in ways.items():
        make(tmp_path / name)
        remove_directory(tmp_path / name)
        make(tmp_path / name)
        with atomic_directory(tmp_path / name) as folder:
            (folder / "new").write_text("y")
        assert files(tmp_path / name) == {(tmp_path / "new").relative_to(tmp_path): "y"}
    assert files(theirs) == {(theirs / "precious").relative_to(theirs): "x"}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*ways, "theirs"])
