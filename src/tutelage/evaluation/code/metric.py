"""Whether a program passes its tests, as a metric."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tutelage.errors import ConfigError, DataError
from tutelage.evaluation.code.extract import program_of
from tutelage.evaluation.code.tests import foreign_modules
from tutelage.evaluation.question import Question
from tutelage.evaluation.sandbox import Limits, Sandbox, Task, find_backend

MOST_WORKERS = 8


@dataclass(frozen=True)
class Passes:
    """1 for an answer whose program passes the tests of its question, else 0.

    Questions have in ``extra`` the ``checks``, the ``entry_point``, and ``before``: the beginning
    of a program that their prompt is, or nothing.

    Attributes:
        execute_code: whether the user lets programs run that a model wrote.
        limits: what a program may use.
    """

    execute_code: bool
    limits: Limits = field(default_factory=Limits)

    def check(self, questions: Sequence[Question]) -> None:
        """Refuse where programs may not run, or nothing can shut them in.

        Raises:
            ConfigError: nobody said that programs may run.
            SandboxError: there is no sandbox.
            DataError: a question has no tests.
        """
        if not self.execute_code:
            raise ConfigError(
                "This suite runs programs that the model writes, to see whether they pass tests,"
                " and nobody has allowed that. They run in a sandbox; read docs/evaluation.md,"
                " then give --execute-code (in a recipe or Python: execute_code: true)."
            )
        for question in questions:
            if not question.extra.get("checks"):
                raise DataError(f"The question '{question.id}' has no tests. Remove it.")
            missing = foreign_modules(question.extra["checks"])
            if missing:
                raise DataError(
                    f"The tests of the question '{question.id}' import {', '.join(missing)}, and"
                    " the sandbox has Python's standard library alone, so every program would fail"
                    " them. Give the file as its authors distribute it (of EvalPlus"
                    " HumanEvalPlus.jsonl, with `plus_input`), or remove the question."
                )
        find_backend()

    def score(
        self,
        questions: Sequence[Question],
        answers: Sequence[str],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[float]:
        """Run every program; those that are the same run once."""
        if not self.execute_code:
            self.check(questions)
        tasks = [
            _task(question, answer) for question, answer in zip(questions, answers, strict=True)
        ]
        different = list(dict.fromkeys(tasks))
        workers = max(1, min(MOST_WORKERS, len(different), len(os.sched_getaffinity(0))))
        with Sandbox(workers) as sandbox:
            outcomes = sandbox.run_all(different, self.limits, progress)
        passed = {task: outcome.passed for task, outcome in zip(different, outcomes, strict=True)}
        return [float(passed[task]) for task in tasks]


def _task(question: Question, answer: str) -> Task:
    extra = question.extra
    program = program_of(answer, extra["entry_point"], extra.get("before", ""))
    return Task(program, extra["checks"], extra["entry_point"])
