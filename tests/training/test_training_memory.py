"""The formula for memory is held against what trainings took, and does what a formula must."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from conftest_models import tiny_model
from tutelage.models.load import describe_model
from tutelage.pipeline.stages.memory import Sizes, memory_of, too_little, training_memory

MEASURED = Path(__file__).parents[2] / "benchmarks" / "results" / "memory.json"
RECORDS = json.loads(MEASURED.read_text())["records"]

STUDENT = Sizes(500_000_000, 140_000_000, 24, 896, 151_936)
TEACHER = Sizes(7_600_000_000, 1_090_000_000, 28, 3584, 151_936, 2)


def memory(**options):
    told = {"trainable": STUDENT.parameters, "tokens": 4096, **options}
    return training_memory(STUDENT, told.pop("teacher", TEACHER), **told)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: json.dumps(record["case"]))
def test_trainings_took_what_the_formula_says(record):
    case = record["case"]
    student = Sizes(**record["student"])
    found = training_memory(
        student,
        Sizes(**record["teacher"]),
        trainable=student.parameters,
        tokens=case["rows"] * case["length"],
        checkpointed=case.get("checkpointed", False),
        processes=case.get("processes", 1),
        shard=case.get("shard", "none"),
    )
    assert found.total == pytest.approx(record["peak"], rel=0.15)


def test_what_saves_memory_saves_it():
    plain = memory().total
    for saving in (
        {"live": False},
        {"checkpointed": True},
        {"trainable": 10**6},
        {"processes": 4, "shard": "student"},
        {"processes": 4, "shard": "teacher"},
        {"tokens": 1024},
    ):
        assert memory(**saving).total < plain, saving
    assert memory(processes=4).total == memory(shard="both").total == plain


def test_more_processes_need_less_each_down_to_a_whole_student():
    totals = [memory(processes=n, shard="both", tokens=64).total for n in (2, 4, 8, 1024)]
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] > 4 * STUDENT.parameters


def test_nothing_of_a_teacher_where_there_is_none():
    found = memory(teacher=None)
    assert found.teacher == 0 and found.total < memory(live=False).total


def test_more_than_there_is_comes_with_ways_out():
    there = memory_of(torch.device("cpu"))
    assert there is not None and there > 1 << 28
    assert too_little(there, there) is too_little(1, None) is None
    assert "more than the 24 GB here" in str(too_little(25 * 10**9, 24 * 10**9))


@pytest.mark.parametrize("tied", [False, True])
def test_sizes_are_those_of_the_model(tied):
    model = tiny_model(layers=3, tie_word_embeddings=tied)
    size = describe_model(model.config)
    inside = sum(p.numel() for layer in model.model.layers for p in layer.parameters())
    assert size.parameters == sum(p.numel() for p in model.parameters())
    assert size.outside == size.parameters - inside
    assert dataclasses.asdict(size)["bytes"] == 4 * size.parameters
