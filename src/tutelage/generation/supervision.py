"""Choosing among the texts that teachers wrote: which of them a student learns from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tutelage.components import bind
from tutelage.errors import ConfigError, DataError, unknown_name
from tutelage.generation.store import TextStore, WrittenText
from tutelage.types import Example
from tutelage.verifiers import VERIFIERS

OnWrong = Literal["keep", "drop", "resample"]
"""What happens to a wrong answer, as a type; see ``choose_texts``."""
ON_WRONG: tuple[str, ...] = get_args(OnWrong)
"""What may happen to a wrong answer; see ``choose_texts``."""

ExampleVerifier = Callable[[str, str], float]
"""A verifier that knows the references: example id and text to a score; a half or more is right."""


def example_verifier(
    examples: Iterable[Example], kind: str, options: Mapping[str, Any] | None = None
) -> ExampleVerifier:
    """A verifier that compares a text with the references of its example.

    Args:
        examples: the examples whose answers are to be verified.
        kind: name of a verifier, see ``tutelage.verifiers.VERIFIERS``.
        options: options of the verifier.

    Returns:
        A function of an example's id and a text.

    Raises:
        ConfigError: an unknown verifier or option.
        DataError: references that the verifier cannot use. Found now, not after hours of writing.
    """
    verify = bind(VERIFIERS, "verifier", kind, options or {})
    accepted = {e.id: e.references or (e.completion,) for e in examples}
    for example_id, references in accepted.items():
        try:
            verify("", references)
        except DataError as error:
            raise DataError(f"Verifier '{kind}', example '{example_id}': {error}") from error

    def scored(example_id: str, text: str) -> float:
        return float(verify(text, accepted[example_id]))

    return scored


@dataclass(frozen=True)
class Chosen:
    """The texts to learn from, and what became of the others.

    Attributes:
        texts: one text for each id that has one, in the order that was asked for.
        dropped: every other id with the reason: ``not_written``, ``wrong``, ``truncated``,
            ``empty`` or ``unjudged`` (of the last answer that was tried).
        summary: counts: ``asked``, ``kept``, ``right``, ``wrong``, ``unjudged`` and ``truncated``
            (of the first answers; one that is cut and judged is wrong, too), ``dropped``,
            ``rescued`` (right only at a later try).
    """

    texts: Mapping[str, WrittenText]
    dropped: Mapping[str, str]
    summary: Mapping[str, int]


def choose_texts(
    store: TextStore,
    ids: Iterable[str],
    on_wrong: OnWrong,
    max_samples: int = 1,
    *,
    drop_truncated: bool = False,
) -> Chosen:
    """Choose the text of each example.

    ``keep`` takes the first answer whatever it is worth, as sequence-level distillation does;
    ``drop`` takes it only when it is right; ``resample`` takes the first right one of several, as
    rejection sampling does. An empty text is never taken: it teaches nothing. Keeping and dropping
    differ in which examples a teacher gets to teach, so a comparison of teachers reports both.

    Args:
        store: the texts.
        ids: example ids; those without a text are dropped.
        on_wrong: one of ``ON_WRONG``.
        max_samples: how many answers ``resample`` looks at.
        drop_truncated: let ``keep`` drop answers that the length limit cut; the others always do.

    Raises:
        ConfigError: an unknown ``on_wrong``, or wrong answers are to go and none was judged.

    References:
        Kim and Rush, Sequence-Level Knowledge Distillation, EMNLP 2016, arXiv:1606.07947.
        Yuan et al., Scaling Relationship on Learning Mathematical Reasoning, arXiv:2308.01825.
        Cao et al., Curriculum Learning-Guided Progressive Distillation, arXiv:2605.11260.
    """
    if on_wrong not in ON_WRONG:
        raise unknown_name("way with wrong answers", on_wrong, ON_WRONG)
    texts: dict[str, WrittenText] = {}
    dropped: dict[str, str] = {}
    firsts: list[WrittenText] = []
    for example_id in ids:
        tries = _tries(store, example_id, max_samples if on_wrong == "resample" else 1)
        firsts += tries[:1]
        reasons = [_fault(text, on_wrong, drop_truncated) for text in tries]
        if None in reasons:
            texts[example_id] = tries[reasons.index(None)]
        else:
            dropped[example_id] = str(reasons[-1]) if reasons else "not_written"
    if on_wrong != "keep" and firsts and all(text.right is None for text in firsts):
        raise ConfigError(
            f"Wrong answers are to be handled by '{on_wrong}', but nobody judged these answers."
            " Give the writer a verifier and write again, or keep all answers."
        )
    summary = {
        "asked": len(texts) + len(dropped),
        "kept": len(texts),
        "right": sum(text.right is True for text in firsts),
        "wrong": sum(text.right is False for text in firsts),
        "unjudged": sum(text.right is None for text in firsts),
        "truncated": sum(text.truncated for text in firsts),
        "dropped": len(dropped),
        "rescued": sum(text.sample > 0 for text in texts.values()),
    }
    return Chosen(texts, dropped, summary)


def unwritten(
    store: TextStore, ids: Iterable[str], on_wrong: OnWrong, max_samples: int = 1
) -> list[str]:
    """Ids for which something is still to be written before ``choose_texts``, in order.

    Args:
        store: the texts.
        ids: example ids.
        on_wrong: one of ``ON_WRONG``.
        max_samples: how many answers ``resample`` tries.
    """
    wanted = max_samples if on_wrong == "resample" else 1
    todo = []
    for example_id in ids:
        tries = _tries(store, example_id, wanted)
        if len(tries) < wanted and not any(text.right for text in tries):
            todo.append(example_id)
    return todo


def _tries(store: TextStore, example_id: str, limit: int) -> Sequence[WrittenText]:
    """The first answers to a prompt, in order."""
    texts = (store.get(example_id, sample) for sample in range(limit))
    return [text for text in texts if text is not None]


def _fault(text: WrittenText, on_wrong: OnWrong, drop_truncated: bool) -> str | None:
    """Why a text is not to be learned from; None when it may be."""
    filtered = on_wrong != "keep"
    if not text.text.strip():
        return "empty"
    if text.truncated and (drop_truncated or filtered):
        return "truncated"
    if not filtered or text.right:
        return None
    return "unjudged" if text.right is None else "wrong"
