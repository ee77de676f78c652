"""One file of each kind, damaged in every way: whoever reads it back finds it and names it."""

import pytest
from damaging import WAYS

from tutelage.errors import RunFolderError
from tutelage.files import append_jsonl
from tutelage.generation import TextStore
from tutelage.generation.store import WrittenText
from tutelage.pipeline.context.clock import Clock
from tutelage.pipeline.context.folder import PartsFolder
from tutelage.training.checkpoints import (
    cut_logs,
    damage,
    is_complete,
    last_checkpoint,
    mark_complete,
)

INPUTS = {"seed": 1}
PARTS = {
    "data": [
        "train/data-00000-of-00001.arrow",
        "train/state.json",
        "train/examples.parquet",
        "splits.json",
    ],
    "difficulty": ["profile.parquet", "summary.json"],
    "student_start": ["model.safetensors"],
    "teacher-0123456789abcdef": ["model.safetensors", "seconds.json", "metrics.jsonl"],
    "arms/cpd/plan": ["plan.json", "steps.parquet", "ids.parquet"],
    "arms/cpd/replanned/after_stage_1": ["steps.parquet", "difficulty/profile.parquet"],
    "arms/cpd/texts": ["rows/data-00000-of-00001.arrow"],
    "arms/cpd/student_last": ["model.safetensors"],
    "arms/cpd/student": ["model.safetensors", "tokenizer.json", "selected.json"],
    "arms/cpd/evaluation": ["scores.json", "answers.jsonl"],
}
BESIDE = ["arms/cpd/metrics.jsonl", "arms/cpd/validation.jsonl"]
FILES = [f"{part}/{file}" for part, files in PARTS.items() for file in [*files, "manifest.json"]]
CHECKPOINT = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth",
              "trainer_state.json", "window_0_of_1.json", "complete.json"]  # fmt: skip


def write(path, text=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text or f"the content of {path.name}, which matters")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("file", [*FILES, *BESIDE])
def test_a_part(tmp_path, file, way):
    made = PartsFolder(tmp_path)
    for log in BESIDE:
        write(tmp_path / log)
    for part, names in PARTS.items():
        with made.making(part, INPUTS) as folder:
            for name in names:
                write(folder / name)
    WAYS[way](tmp_path / file)
    again, told = PartsFolder(tmp_path), []
    again.tell = told.append
    stale = [part for part in PARTS if not again.fresh(part, INPUTS)]
    # A student vouches for what lies beside it too.
    owner = next((part for part in PARTS if file.startswith(f"{part}/")), "arms/cpd/student")
    assert owner in stale and {*stale} <= {owner, "arms/cpd/student"}
    assert len(told) == len(stale) and all(f"'{tmp_path / file}'" in line for line in told)


@pytest.fixture
def training(tmp_path):
    """Two checkpoints and the best student of a training, with its logs."""
    logs = [tmp_path / "metrics.jsonl", tmp_path / "validation.jsonl"]
    for step in (2, 4):
        for log in logs:
            append_jsonl(log, {"step": step, "exact_match": 0.5})
        folder = tmp_path / f"training/checkpoint-{step}"
        for name in CHECKPOINT[:-1]:
            write(folder / name)
        mark_complete(folder, logs)
    write(tmp_path / "training/best/model.safetensors")
    mark_complete(tmp_path / "training/best")
    return tmp_path, logs


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("file", CHECKPOINT)
def test_a_checkpoint(training, file, way):
    folder, logs = training
    bad, told = folder / "training/checkpoint-4", []
    WAYS[way](bad / file)
    found = last_checkpoint(
        folder / "training", wrong=lambda path: damage(path, logs), tell=told.append
    )
    assert found == folder / "training/checkpoint-2"
    if (file, way) == ("complete.json", "delete"):  # as a kill leaves it
        assert not told and not is_complete(bad)
    else:
        assert len(told) == 1 and str(bad) in told[0] and f"'{file}'" in told[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("log", ["metrics.jsonl", "validation.jsonl"])
def test_a_log_of_a_training(training, log, way):
    folder, logs = training
    WAYS[way](folder / log)
    for step in (2, 4):
        reason = damage(folder / f"training/checkpoint-{step}", logs)
        # Half of the file is what the first checkpoint has seen.
        assert (reason is None) == (step == 2 and way in ("flip", "cut"))
        assert reason is None or f"'{log}'" in reason


def test_a_row_from_after_a_checkpoint_does_not_pass_for_one_from_before(training):
    folder, logs = training
    whole = [log.read_text() for log in logs]
    for log in logs:
        append_jsonl(log, {"step": 5, "exact_match": 0.9})
        log.write_text(log.read_text().replace('"step": 5', '"step": 3'))
    checkpoint = folder / "training/checkpoint-4"
    assert damage(checkpoint, logs) is None
    cut_logs(checkpoint, logs)
    assert [log.read_text() for log in logs] == whole
    cut_logs(None, logs)
    assert [log.read_text() for log in logs] == ["", ""]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("file", ["model.safetensors", "complete.json"])
def test_the_best_student_so_far(training, file, way):
    best = training[0] / "training/best"
    WAYS[way](best / file)
    assert f"'{file}'" in damage(best)


@pytest.mark.parametrize("way", WAYS)
def test_texts_of_a_teacher(tmp_path, way):
    def texts(store):
        return [(text.id, text.text) for text in store]

    chunk = [WrittenText(str(n), 0, f"text {n}", "t", 3, False, None, 0, 0.0) for n in range(4)]
    store = TextStore(tmp_path / "texts", INPUTS)
    store.add(chunk[:3])
    store.add(chunk[3:])
    WAYS[way](tmp_path / "texts/texts.jsonl")
    if way == "flip":
        with pytest.raises(RunFolderError, match=r"texts\.jsonl', line 1 is damaged"):
            TextStore(tmp_path / "texts", INPUTS)
        return
    again = TextStore(tmp_path / "texts", INPUTS)
    assert texts(again) == []
    again.add(chunk)
    assert texts(TextStore(tmp_path / "texts", INPUTS)) == texts(store)


@pytest.mark.parametrize("way", WAYS)
def test_the_manifest_of_texts(tmp_path, way):
    text = WrittenText("1", 0, "text", "t", 3, False, None, 0, 0.0)
    TextStore(tmp_path, INPUTS).add([text])
    WAYS[way](tmp_path / "manifest.json")
    with pytest.raises(RunFolderError, match="manifest"):
        TextStore(tmp_path, INPUTS)


@pytest.mark.parametrize("way", WAYS)
def test_a_record_of_time(tmp_path, way):
    with Clock(tmp_path).charge("data"):
        pass
    WAYS[way](tmp_path / "seconds.json")
    told = []
    assert Clock(tmp_path, tell=told.append).seconds == {}
    assert way == "delete" or "seconds.json'" in told[0]
