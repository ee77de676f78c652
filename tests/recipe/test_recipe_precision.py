"""Bfloat16 is asked for speed: where the processor has none, that is said with the settings."""

from tutelage.pipeline.context import precision
from tutelage.recipe import load_recipe
from tutelage.studies.lines import Lines


def recipe(**more):
    teacher = {"model": "t", "finetune": {"precision": "bfloat16"}}
    return load_recipe(
        {"extends": "kld", "student": {"model": "s"}, "teacher": teacher, "data": {"train": "f"}}
        | more
    )


def test_what_asks_for_it_is_named(monkeypatch):
    loaded = recipe(evaluation={"precision": "bfloat16"})
    monkeypatch.setattr(precision, "fast_in", lambda dtype, device: True)
    assert precision.slow_precision([loaded.recipe]) is None
    monkeypatch.setattr(precision, "fast_in", lambda dtype, device: False)
    said = precision.slow_precision([loaded.recipe])
    assert said.endswith("Set evaluation.precision, teacher.finetune.precision to float32.")
    plain = recipe(teacher={"model": "t"})
    assert precision.slow_precision([plain.recipe]) is None


def test_a_study_says_it_once(monkeypatch):
    said = []
    loaded = type("Loaded", (), {"study": type("Study", (), {"search": None})})
    lines = Lines(loaded, None, said.append, 2)
    for _ in range(2):
        lines.told({"event": "note", "text": "slow"})
    assert said == ["note: slow"]
