"""Any task of lm-evaluation-harness, with the model in memory."""

import dataclasses
from typing import Annotated

from tutelage.components import Limits
from tutelage.evaluation.harness import Harness
from tutelage.evaluation.measure import Found
from tutelage.evaluation.suite import Suite


def lm_eval(
    asked: Suite,
    *,
    task: str,
    include_path: str = "",
    shots: Annotated[int, Limits(0, 1000)] | None = None,
    chat: bool = False,
) -> Suite:
    """A task, asked and scored by lm-evaluation-harness itself, with results for each question.

    Args:
        asked: precision, batches and limit.
        task: the name of a task or of a group of tasks.
        include_path: a folder with task files of your own.
        shots: solved examples before each question, where it is not as the task says.
        chat: ask in the model's chat template.
    """
    harness = Harness(task, include_path, shots, chat)
    return dataclasses.replace(
        asked,
        metrics={"lm-eval": Found()},
        measure=harness,
        seeds=(0,),
        ks=(),
        prompt="text",
        read=harness.questions,
    )
