"""The data: how much there is, how long it is, what repeats, and what is in two splits at once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.doctor.finding import Finding
from tutelage.doctor.patient import ROWS, Patient
from tutelage.models.positions import positions_of
from tutelage.pipeline.stages.data import data_notes, source_notes
from tutelage.pipeline.stages.metric import metric_lines
from tutelage.placeholders import shorten
from tutelage.proofs import fingerprint
from tutelage.types import Example

_COMPARED = 200_000
"""Examples of a split that are compared with other splits; more would take minutes."""

_FEW = 100
_SAME = 0.5
"""A share of answers that are all alike, above which a model may learn to say that alone."""

_NEARLY_ALL = 0.5
"""A share of examples that are too long, above which what is left is other data."""

_QUANTILES = (0.5, 0.9, 0.99, 1.0)


def sizes(patient: Patient) -> Iterator[Finding]:
    """Examples of each split, and those that are dropped, cut or not learned."""
    counts = {split: len(loaded.examples) for split, loaded in patient.splits.items()}
    said = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    drawn = f"; {ROWS:,} of a split are looked at closely" if max(counts.values()) > ROWS else ""
    yield Finding("ok", f"examples: {said}{drawn}", numbers=counts)
    for split, loaded in patient.splits.items():
        for line in source_notes({"sources": loaded.by_source()}):
            yield Finding("ok", f"{split}: {line}")
    if counts["train"] < _FEW:
        yield Finding(
            "warning",
            f"{counts['train']} training examples are very few",
            "give more data, or let a teacher write answers (supervision.kind=text)",
        )
    if "test" not in counts and "validation" not in counts:
        yield Finding(
            "warning",
            "no test data and no validation data: nothing will say whether it worked",
            "data.test_share=0.1, or data.test=FILE",
        )
    elif 0 < counts.get("test", _FEW) < _FEW:
        yield Finding(
            "note",
            f"{counts['test']} test examples tell models apart only where they differ by some"
            f" {2 * 100 * 0.5 / counts['test'] ** 0.5 * 1.4:.0f} points",
            "give more test data (data.test, data.test_share)",
        )


def dropped(patient: Patient) -> Iterator[Finding]:
    """Examples that are too long, empty or unclosed, by the run's own notes."""
    for split, tokenized in patient.tokenized.items():
        summary = tokenized.summary
        gone = sum(summary["dropped"].values())
        share = gone / max(summary["loaded"], 1)
        for line in data_notes(summary):
            if "dropped" in line or " cut " in line:
                # What the limits drop, data.lengths says with its way out.
                long = "too long" in line or " cut " in line
                yield Finding(
                    "warning" if share > 0.01 and not long else "note",
                    f"{split}: {line}",
                    numbers={"split": split, "share": share},
                )
        if not gone:
            yield Finding("ok", f"{split}: none of {summary['loaded']:,} examples is dropped")


def lengths(patient: Patient) -> Iterator[Finding]:
    """Real lengths beside the limits, and what the limits cost or waste."""
    settings = patient.recipe.data_section
    rows = patient.whole["train"]
    for what, column, key, limit in (
        ("tokens of prompt and answer", "num_tokens", "max_length", settings.max_length),
        (
            "tokens of the prompt",
            "num_prompt_tokens",
            "max_prompt_length",
            settings.max_prompt_length,
        ),
    ):
        found = np.asarray(rows[column])
        over = float((found > limit).mean())
        quantiles = quantiles_of(found)
        said = ", ".join(f"{q:.0%} up to {n:,}" for q, n in quantiles.items())
        numbers = {"limit": limit, "over": over, **{f"q{q}": n for q, n in quantiles.items()}}
        fits = max(quantiles[1.0] if over <= 0.01 else quantiles[0.99], limit + 1)
        level = "ok" if over == 0 else "note" if over <= 0.01 else "warning"
        way_out = f"data.{key}={fits} keeps {'all' if over <= 0.01 else '99 %'}" if over else ""
        most = _positions(patient)
        if over and most is not None and fits > most:
            way_out = f"models that read more than {most:,} tokens, or shorter texts"
        yield Finding(
            "error" if over > _NEARLY_ALL else level,
            f"{what}: {said}; data.{key} is {limit:,}"
            + (f", which {over:.1%} of training examples exceed" if over else ""),
            way_out,
            numbers,
        )


def _positions(patient: Patient) -> int | None:
    """The fewest positions of a model that reads the data; None where none names any."""
    known = [positions_of(config).limit for config in patient.attempt("configs").values()]
    return min((limit for limit in known if limit is not None), default=None)


def positions(patient: Patient) -> Iterator[Finding]:
    """The longest texts beside what the models can read."""
    longest = max(t.summary["max_total_tokens"] for t in patient.tokenized.values())
    for name, config in patient.configs.items():
        if name != "student" and name not in {patient.title(n) for n in patient.comparable}:
            continue
        found = positions_of(config)
        if found.limit is None or longest <= found.limit:
            limit = "no limit" if found.limit is None else f"{found.limit:,} positions"
            yield Finding("ok", f"{name}: {limit}, the longest example has {longest:,} tokens")
            continue
        yield Finding(
            "error" if found.fixed else "warning",
            f"{name}: {found.limit:,} positions, and the longest example has {longest:,} tokens",
            f"data.max_length={found.limit}",
            {"limit": found.limit, "longest": longest},
        )


def duplicates(patient: Patient) -> Iterator[Finding]:
    """Copies within the training data."""
    loaded = patient.splits["train"]
    left_out, total = loaded.num_left_out, len(loaded.duplicates)
    if not total:
        yield Finding("ok", "no training example is there twice")
        return
    share = total / (len(loaded.examples) + left_out)
    yield Finding(
        "warning" if share > 0.05 else "note",
        f"{total:,} training examples ({share:.1%}) are copies of others; {left_out:,} without ids"
        " of their own are left out, the others are learned more often",
        "" if left_out == total else "remove the copies, or the id column",
        {"copies": total, "left_out": left_out},
    )


def contamination(patient: Patient) -> Iterator[Finding]:
    """Questions of validation and test that are learned as well."""
    known = {_question(example) for example in _some(patient.splits["train"].examples)}
    for split in ("validation", "test"):
        if split not in patient.splits:
            continue
        asked = [_question(example) for example in _some(patient.splits[split].examples)]
        both = sum(question in known for question in asked)
        if both:
            yield Finding(
                "error" if both > len(asked) / 2 else "warning",
                f"{both:,} of {len(asked):,} {split} questions are in the training data too, so"
                " scores there say how well these are remembered",
                f"remove them from the training data, or give other {split} data",
                {"split": split, "both": both, "asked": len(asked)},
            )
        else:
            yield Finding("ok", f"no {split} question is in the training data")


def _some(examples: Sequence[Example]) -> Sequence[Example]:
    return examples[:_COMPARED] if len(examples) > _COMPARED else examples


def _question(example: Example) -> str:
    """What is asked, without the answer, white space and case apart."""
    turns = [[turn.role, turn.content] for turn in example.messages[:-1]]
    asked = turns or [[name, text] for name, text in sorted(example.fields.items())]
    return fingerprint([[name, " ".join(text.split()).lower()] for name, text in asked])


def answers(patient: Patient) -> Iterator[Finding]:
    """Answers that are all alike, contradict each other, or only repeat the question."""
    examples = patient.drawn["train"]
    said = Counter(example.completion.strip() for example in examples)
    text, most = said.most_common(1)[0]
    if most > _SAME * len(examples) and len(examples) > 10:
        yield Finding(
            "warning",
            f"{most} of {len(examples)} answers are {shorten(text)}: a student may learn to say"
            " nothing else",
            "balance the data, and look at scores beside those of always saying it",
            {"same": most, "examples": len(examples)},
        )
    by_question: dict[str, set[str]] = {}
    for example in examples:
        by_question.setdefault(_question(example), set()).add(example.completion.strip())
    several = sum(len(found) > 1 for found in by_question.values())
    if several:
        yield Finding(
            "note",
            f"{several} of {len(by_question)} questions have several different answers",
            "that is fine for open questions; where one is right, remove the wrong ones",
            {"questions": several},
        )
    echo = sum(
        bool(e.completion.strip()) and e.completion.strip() in e.fields.values() for e in examples
    )
    if echo > 0.05 * len(examples):
        yield Finding(
            "warning",
            f"{echo} of {len(examples)} answers are the question once more",
            "look whether data.columns names the right columns",
            {"echo": echo},
        )
    if most <= _SAME * len(examples) and not echo:
        yield Finding("ok", f"{len(said):,} different answers among {len(examples):,}")


def metric(patient: Patient) -> Iterator[Finding]:
    """By which metric students are compared, and whether it fits the answers."""
    tested = patient.tokenized.get("test")
    lines = list(metric_lines(patient.loaded, None if tested is None else tested.dataset))
    yield Finding("note" if tested is None else "ok", lines[0])
    for line in lines[1:]:
        said, _, way = line.strip().partition(": --set ")
        yield Finding("warning", said, f"--set {way}" if way else "")


def quantiles_of(values: NDArray[Any]) -> dict[float, int]:
    """Some quantiles of lengths, each a length that occurs."""
    return {q: int(np.quantile(values, q, method="higher")) for q in _QUANTILES}
