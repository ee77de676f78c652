"""Instructions, scored by ROUGE-L: the evaluation of the papers on white-box distillation."""

import dataclasses
import functools
from typing import Annotated, Literal

from tutelage.components import Limits
from tutelage.evaluation.asking import as_chat
from tutelage.evaluation.metric import bound_metrics
from tutelage.evaluation.question import Question
from tutelage.evaluation.reading import Entry, Layout, Names, cluster_of
from tutelage.evaluation.suite import PromptForm, Suite

Counted = Literal["prompt_and_answer", "answer"]
"""What `max_length` is the length of: the papers' scripts count both, their texts the answer."""

_LAYOUT = Layout(
    "instruct",
    {"instruction": ("instruction",), "output": ("output", "outputs", "references")},
    {
        "input": ("input", "context"),
        "prompt": ("prompt",),
        "group": ("topic", "task", "category", "group"),
    },
)


def instruct(
    asked: Suite,
    *,
    data: str,
    prompt: PromptForm = "auto",
    own_prompt: bool = True,
    max_length: Annotated[int, Limits(1, 1_000_000)] = 512,
    counts: Counted = "prompt_and_answer",
    sampling_temperature: Annotated[float, Limits(0.001, 1000, or_zero=True)] = 1.0,
    seeds: list[int] = [10, 20, 30, 40, 50],  # noqa: B006
    stemmer: bool = True,
    group: str = "",
) -> Suite:
    """ROUGE-L of answers to instructions, over five seeds at temperature 1.

    Args:
        asked: precision, batches and limit.
        data: ``instruction`` (with ``input``, ``prompt``) and ``output``, a text or several.
        prompt: as a conversation, as text, or whatever the model can.
        own_prompt: as text, take the file's own column ``prompt`` where it has one; else the prompt
            of Alpaca, which is the same in the papers' files.
        max_length: in tokens.
        counts: what ``max_length`` limits. The papers' scripts count prompt and answer together.
        sampling_temperature: 0 is greedy, and the first seed will do.
        seeds: an answer is sampled for each.
        stemmer: compare words without their English endings.
        group: a column to report scores by, in place of ``topic``, ``task`` or ``category``.

    References:
        Gu et al., MiniLLM, arXiv:2306.08543, section 3.1.
    """
    total = counts == "prompt_and_answer"
    return dataclasses.replace(
        asked,
        metrics=bound_metrics({"rouge_l": {} if stemmer else {"stemmer": False}}),
        generation=dataclasses.replace(
            asked.generation,
            max_new_tokens=max_length,
            max_total_tokens=max_length if total else None,
            sampling_temperature=sampling_temperature,
            top_p=1.0,
            top_k=0,
        ),
        seeds=tuple(seeds),
        prompt=prompt,
        read=functools.partial(_read, data, own_prompt, group),
    )


def _read(data: str, own_prompt: bool, group: str) -> list[Question]:
    names = Names()
    return [_question(entry, own_prompt, names) for entry in _LAYOUT.read(data, group=group)]


def _question(entry: Entry, own_prompt: bool, names: Names) -> Question:
    from tutelage.data.format import alpaca_prompt

    instruction, given = entry.text("instruction"), entry.text("input", empty=True)
    references = entry.texts("output")
    own = entry.text("prompt", empty=True) if own_prompt else ""
    return Question(
        names.of(entry, instruction, given, list(references)),
        own or alpaca_prompt(instruction, given),
        chat=as_chat("\n\n".join(filter(None, [instruction, given]))),
        references=references,
        group=entry.label("group"),
        # Instances of one task are as much alike as questions about one passage.
        cluster=cluster_of(instruction),
    )
