"""Grade-school mathematics: the answer is a number."""

import dataclasses
import functools
from typing import Annotated

from tutelage.components import Limits
from tutelage.evaluation.asking import as_chat, generated
from tutelage.evaluation.metric import bound_metrics
from tutelage.evaluation.question import Question
from tutelage.evaluation.reading import Entry, Layout, Names
from tutelage.evaluation.shots import Shot, before, drawn_shots, examples_file
from tutelage.evaluation.suite import PromptForm, Suite

BOXED = "Reason step by step, and put the final answer in \\boxed{}."
"""What a chat model is told, as most of them were trained to be."""

_LAYOUT = Layout(
    "gsm8k",
    {"question": ("question", "problem"), "answer": ("answer", "solution")},
    {"group": ("group", "level")},
)


def gsm8k(
    asked: Suite,
    *,
    data: str,
    shots: Annotated[int, Limits(0, 1000)] = 8,
    examples: str = "",
    shots_seed: int = 0,
    prompt: PromptForm = "auto",
    max_new_tokens: Annotated[int, Limits(1, 1_000_000)] = 1024,
    sampling_temperature: Annotated[float, Limits(0.001, 1000, or_zero=True)] = 0.0,
    samples: Annotated[int, Limits(1, 10_000)] = 1,
    ks: list[int] = [],  # noqa: B006
) -> Suite:
    """Whether the number that an answer gives is the right one, after eight solved problems.

    Args:
        asked: precision, batches and limit.
        data: ``question`` and ``answer``, a number or a solution that ends in ``#### 42``.
        shots: solved problems before each question, where it is asked as text.
        examples: the file that they are drawn from; a ``train`` file beside the data if left out.
        shots_seed: of that draw.
        prompt: as a conversation (without solved problems), as text, or whatever the model can.
        max_new_tokens: longest answer.
        sampling_temperature: 0 is greedy.
        samples: answers to each question, for pass@k.
        ks: report pass@k for these.

    References:
        Cobbe et al., Training Verifiers to Solve Math Word Problems, arXiv:2110.14168.
    """
    if prompt != "chat":
        examples = examples_file(data, examples, shots, "gsm8k")
    return dataclasses.replace(
        generated(
            asked,
            max_new_tokens=max_new_tokens,
            text_ends=["\nQuestion:"],
            sampling_temperature=sampling_temperature,
            samples=samples,
            ks=ks,
        ),
        metrics=bound_metrics({"number": {}}),
        prompt=prompt,
        read=functools.partial(_read, data, examples if shots else "", shots, shots_seed),
    )


def _read(data: str, examples: str, count: int, seed: int) -> list[Question]:
    shots: list[Shot] = []
    if examples:
        names = Names()
        solved = [_shot(entry, names) for entry in _LAYOUT.read(examples)]
        shots = drawn_shots(solved, count, seed, examples)
    names = Names()
    return [_question(entry, shots, count, names) for entry in _LAYOUT.read(data)]


def _shot(entry: Entry, names: Names) -> Shot:
    return Shot(_id(entry, names), _asked(entry), f" {entry.text('answer').strip()}")


def _asked(entry: Entry) -> str:
    return f"Question: {entry.text('question').strip()}\nAnswer:"


def _id(entry: Entry, names: Names) -> str:
    return names.of(entry, entry.text("question"), entry.text("answer"))


def _question(entry: Entry, shots: list[Shot], count: int, names: Names) -> Question:
    own = _id(entry, names)
    return Question(
        own,
        before(_asked(entry), shots, count, without=own),
        chat=as_chat(f"{entry.text('question').strip()}\n\n{BOXED}"),
        references=(entry.text("answer"),),
        group=entry.label("group"),
    )
