"""StrategyQA: questions whose answer is yes or no, after some steps that nobody names."""

import functools
from typing import Annotated

from tutelage.components import Limits
from tutelage.evaluation.options import YES_NO, Choice
from tutelage.evaluation.reading import Entry, Layout
from tutelage.evaluation.suite import PromptForm, Suite
from tutelage.evaluation.suites.choice import Way, suite_of_choices

_LAYOUT = Layout(
    "strategyqa",
    {"question": ("question", "input"), "answer": ("answer", "label")},
    {"facts": ("facts",)},
)


def strategyqa(
    asked: Suite,
    *,
    data: str,
    way: Way = "generate",
    facts: bool = False,
    shots: Annotated[int, Limits(0, 1000)] = 0,
    examples: str = "",
    shots_seed: int = 0,
    prompt: PromptForm = "auto",
    max_new_tokens: Annotated[int, Limits(1, 1_000_000)] = 512,
) -> Suite:
    """Whether yes or no is answered rightly.

    Args:
        asked: precision, batches and limit.
        data: ``question`` and ``answer`` (true or false, yes or no), with ``facts`` if they are
            wanted.
        way: in words, or by the likelihood of "yes" and "no"; see the suite ``choice``.
        facts: tell the facts that decide it.
        shots: solved questions before each one, where it is asked as text. As an answer in words
            they say their facts first, where the file has them.
        examples: the file that they are drawn from; a ``train`` file beside the data if left out.
        shots_seed: of that draw.
        prompt: as a conversation, as text, or whatever the model can.
        max_new_tokens: longest answer.

    References:
        Geva et al., Did Aristotle Use a Laptop?, arXiv:2101.02235.
    """
    return suite_of_choices(
        asked, "strategyqa", functools.partial(_read, facts=facts), data=data, way=way,
        scored="text", shots=shots, examples=examples, shots_seed=shots_seed, prompt=prompt,
        max_new_tokens=max_new_tokens,
    )  # fmt: skip


def _read(data: str, facts: bool) -> list[Choice]:
    return [_choice(entry, facts) for entry in _LAYOUT.read(data)]


def _choice(entry: Entry, facts: bool) -> Choice:
    known = entry.value("facts")
    known = " ".join(fact.rstrip(". ") + "." for fact in entry.texts("facts")) if known else ""
    return Choice(
        entry,
        entry.text("question").strip(),
        YES_NO,
        YES_NO.index(_yes_or_no(entry)),
        passage=known if facts else "",
        reasons="" if facts else known,
    )


def _yes_or_no(entry: Entry) -> str:
    answer = entry.value("answer")
    word = str(answer).strip().lower()
    if isinstance(answer, int) and answer in (0, 1):
        word = "yes" if answer else "no"
    word = {"true": "yes", "false": "no"}.get(word, word)
    if word not in YES_NO:
        raise entry.wrong("answer", "true or false, or yes or no,")
    return word
