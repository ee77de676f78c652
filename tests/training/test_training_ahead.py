"""A stored teacher is read a step ahead, in another thread: the student is the same to the bit."""

import threading

import pytest
import torch

from conftest_models import random_rows, tiny_model
from conftest_teachers import spec_of
from tutelage import DistillConfig, DistillTrainer
from tutelage.errors import StoreError
from tutelage.teachers import EnsembleTeacher, StoredTeacher, TeacherStore, begin_store, fill_store
from tutelage.training.ahead import StepsAhead


@pytest.fixture
def store(tmp_path):
    teacher = tiny_model(seed=2, hidden=24, layers=3)
    begin_store(tmp_path / "store", spec_of(), teacher)
    fill_store(tmp_path / "store", spec_of(), teacher, random_rows())
    return TeacherStore(tmp_path / "store")


@pytest.fixture
def reading(monkeypatch):
    """In which threads the store was read."""
    threads, signal = [], TeacherStore.signal

    def read(*arguments, **named):
        threads.append(threading.current_thread().name)
        return signal(*arguments, **named)

    monkeypatch.setattr(TeacherStore, "signal", read)
    return threads


def trained(folder, teacher, **options):
    student = tiny_model(seed=1)
    settings = {"max_steps": 5, "learning_rate": 1e-2, "seed": 3, "report_to": []}
    shape = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}
    shown = {"logging_steps": 1, "use_cpu": True, "disable_tqdm": True, "save_steps": 2}
    config = DistillConfig(str(folder), **settings, **shape, **shown, **options)
    trainer = DistillTrainer(student, config, random_rows(), teacher=teacher)
    trainer.train(resume_from_checkpoint=options.pop("resume", None))
    return [row["loss"] for row in trainer.state.log_history if "loss" in row], student


def threads_left():
    return [t for t in threading.enumerate() if t.name.startswith("teacher store")]


@pytest.mark.parametrize("options", [{}, {"micro_batch_tokens": 14}])
@pytest.mark.parametrize("several", [False, True])
def test_reading_ahead_changes_nothing(tmp_path, store, reading, monkeypatch, options, several):
    def teacher():
        one = StoredTeacher(store, random_rows())
        return EnsembleTeacher([one, StoredTeacher(store)], [2, 1], "logit") if several else one

    losses, student = trained(tmp_path / "ahead", teacher(), **options)
    assert not threads_left()
    elsewhere = [name for name in reading if name.startswith("teacher store")]
    # But for looks at no row, which say how wide they are.
    assert len(elsewhere) >= 10 * (1 + several) and reading.count("MainThread") == 1 + several
    monkeypatch.setattr(
        StepsAhead, "step", lambda _, them, count: [next(them) for _ in range(count)]
    )
    reading.clear()
    before, other = trained(tmp_path / "now", teacher(), **options)
    assert set(reading) == {"MainThread"}
    assert losses == before
    for name, weight in student.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])


def test_an_error_of_the_thread_ends_the_training(tmp_path, store, monkeypatch):
    signal = TeacherStore.signal

    def read(self, positions, *more, **named):
        if len(reads) == 7:
            raise StoreError("the disk is gone")
        reads.append(len(positions))
        return signal(self, positions, *more, **named)

    reads = []
    monkeypatch.setattr(TeacherStore, "signal", read)
    with pytest.raises(StoreError, match="the disk is gone"):
        trained(tmp_path / "out", StoredTeacher(store, random_rows()))
    assert not threads_left()
