"""Competition mathematics: the answer is an expression."""

import dataclasses
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from tutelage.components import Limits
from tutelage.data.row import object_row
from tutelage.errors import DataError
from tutelage.evaluation.asking import as_chat, generated
from tutelage.evaluation.metric import bound_metrics
from tutelage.evaluation.question import Question
from tutelage.evaluation.reading import Entry, Layout, Names
from tutelage.evaluation.shots import Shot, before, drawn_shots, examples_file
from tutelage.evaluation.suite import PromptForm, Suite
from tutelage.evaluation.suites.gsm8k import BOXED

_LAYOUT = Layout(
    "math",
    {"problem": ("problem", "question"), "solution": ("solution", "answer")},
    {"answer": ("answer",), "group": ("subject", "type", "level")},
)


def math(
    asked: Suite,
    *,
    data: str,
    shots: Annotated[int, Limits(0, 1000)] = 4,
    examples: str = "",
    shots_seed: int = 0,
    prompt: PromptForm = "auto",
    group: str = "",
    max_new_tokens: Annotated[int, Limits(1, 1_000_000)] = 1024,
    sampling_temperature: Annotated[float, Limits(0.001, 1000, or_zero=True)] = 0.0,
    samples: Annotated[int, Limits(1, 10_000)] = 1,
    ks: list[int] = [],  # noqa: B006
) -> Suite:
    r"""Whether an answer means the same as the right one, after four solved problems.

    Args:
        asked: precision, batches and limit.
        data: ``problem`` and ``solution`` with its last ``\boxed{}`` (MATH, also its folders of one
            file a problem), or ``answer`` (MATH-500).
        shots: solved problems before each question, where it is asked as text.
        examples: the file (or folder) that they are drawn from; what is called ``train`` beside the
            data if left out. They need a ``solution``.
        shots_seed: of that draw.
        prompt: as a conversation (without solved problems), as text, or whatever the model can.
        group: a column to report scores by, in place of ``subject`` or ``type``.
        max_new_tokens: longest answer.
        sampling_temperature: 0 is greedy.
        samples: answers to each question, for pass@k.
        ks: report pass@k for these.

    References:
        Hendrycks et al., Measuring Mathematical Problem Solving With the MATH Dataset,
        arXiv:2103.03874. Lightman et al., Let's Verify Step by Step, arXiv:2305.20050 (MATH-500).
    """
    if prompt != "chat":
        examples = examples_file(data, examples, shots, "math")
    return dataclasses.replace(
        generated(
            asked,
            max_new_tokens=max_new_tokens,
            text_ends=["\nProblem:"],
            sampling_temperature=sampling_temperature,
            samples=samples,
            ks=ks,
        ),
        metrics=bound_metrics({"math": {}}),
        prompt=prompt,
        read=functools.partial(_read, data, examples if shots else "", shots, shots_seed, group),
    )


def _read(data: str, examples: str, count: int, seed: int, group: str) -> list[Question]:
    shots: list[Shot] = []
    if examples:
        names = Names()
        solved = [_shot(entry, names) for entry in _entries(examples, "")]
        shots = drawn_shots(solved, count, seed, examples)
    names = Names()
    return [_question(entry, shots, count, names) for entry in _entries(data, group)]


def _entries(data: str, group: str) -> Iterator[Entry]:
    """Of a file, or of a folder of folders with one file for each problem."""
    folder = Path(data).expanduser()
    files = sorted(folder.glob("*/*.json")) if folder.is_dir() else []
    if not files:
        yield from _LAYOUT.read(data, group=group)
        return
    for file in files:
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"'{file}' cannot be read as JSON: {error}. Mend or remove it."
            ) from error
        if isinstance(value, dict):
            value.setdefault("id", file.relative_to(folder).with_suffix("").as_posix())
        yield _LAYOUT.entry(object_row(value, f"'{file}'"), group)


def _shot(entry: Entry, names: Names) -> Shot:
    return Shot(_id(entry, names), _asked(entry), f"\n{entry.text('solution').strip()}")


def _asked(entry: Entry) -> str:
    return f"Problem:\n{entry.text('problem').strip()}\n\nSolution:"


def _id(entry: Entry, names: Names) -> str:
    return names.of(entry, entry.text("problem"), entry.text("solution"))


def _question(entry: Entry, shots: list[Shot], count: int, names: Names) -> Question:
    own = _id(entry, names)
    return Question(
        own,
        before(_asked(entry), shots, count, without=own),
        chat=as_chat(f"{entry.text('problem').strip()}\n\n{BOXED}"),
        references=(_right(entry),),
        group=entry.label("group"),
    )


def _right(entry: Entry) -> str:
    """The right answer: its own column, or a solution, which must have one to be compared with."""
    if "answer" in entry.names:
        return entry.text("answer")
    solution = entry.text("solution")
    if "\\boxed" not in solution and "\\fbox" not in solution:
        raise DataError(
            f"{entry.row.where}: the solution has no \\boxed{{}}, and there is no column 'answer',"
            " so nothing says what is right. Add the answer or remove the row."
        )
    return solution
