"""What a student is asked when its own answers are measured: the prompt, and nothing after it."""

import contextlib
from types import SimpleNamespace

import datasets

from tutelage.generation import Answer, AskedModel
from tutelage.pipeline.stages import difficulty as measuring


def test_a_chat_is_asked_up_to_its_last_answer():
    # Two turns: the tokens after each answer and the earlier answer are no labels of the prompt.
    row = {
        "id": "a",
        "input_ids": [1, 2, 7, 9, 3, 4, 8, 9, 5],
        "labels": [-100, -100, 7, 9, -100, -100, 8, 9, -100],
        "num_prompt_tokens": 6,
    }
    asked = []

    class Engine:
        def answer(self, prompts, settings, **more):
            asked.extend(prompts)
            return [Answer("x", 1, "stop") for _ in prompts]

    session = SimpleNamespace(
        models=SimpleNamespace(
            in_training=lambda model: AskedModel("", lambda: model, None),
            engine=lambda asked: Engine(),
        ),
        display=SimpleNamespace(task=lambda title: contextlib.nullcontext()),
    )
    recipe = SimpleNamespace(
        student_seed=0, evaluation=SimpleNamespace(batch_tokens=64, precision="float32")
    )
    rows = datasets.Dataset.from_list([row])
    measured = measuring.ModelMeasurements(session, recipe, rows, object())
    assert measured.answers(1, 0.0, 4) == [("x",)]
    assert asked == [[1, 2, 7, 9, 3, 4]]
