"""The stage that reads the user's data, and keeps examples, tokens and lengths for all others."""

import functools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from tutelage.checks.data import column_names
from tutelage.data import (
    Opening,
    TokenizedSplit,
    ending_note,
    load_examples,
    tokenize_examples,
)
from tutelage.data.arithmetic import arithmetic_examples
from tutelage.data.kept import read_columns, read_examples, write_examples
from tutelage.data.lengths import NUM_RESPONSE_TOKENS, stored_lengths
from tutelage.data.lists import list_examples
from tutelage.data.loaded import LoadedExamples, draw_positions
from tutelage.data.tokenize import LongPrompts
from tutelage.errors import DataError
from tutelage.files import atomic_write_json
from tutelage.hashes import content_sha256
from tutelage.ids import Ids
from tutelage.models.saving import disk_checked
from tutelage.pipeline.context.display import Report
from tutelage.pipeline.context.inputs import (
    SPLITS,
    SPLITS_FILE,
    Inputs,
    data_inputs,
    wanted_columns,
)
from tutelage.pipeline.context.session import Session
from tutelage.proofs import fingerprint
from tutelage.recipe import Recipe
from tutelage.recipe.sections import ArithmeticData, ListsData
from tutelage.teachers.store import save_keys
from tutelage.types import Example

EXAMPLES = "examples.parquet"
"""With the rows of each split: the examples that they were made from."""


def prepare_data(session: Session) -> None:
    """Load, format, tokenize; one saved data set for each split, and a summary."""
    inputs = data_inputs(session)
    with session.missing("data", inputs) as missing:
        if missing:
            _make(session, inputs)


def _make(session: Session, inputs: Inputs) -> None:
    settings = session.recipe.data_section
    with (
        session.making("data", inputs, "data") as folder,
        session.display.task("Reading and tokenizing the data") as report,
    ):
        summaries, contents = {}, {}
        openings: tuple[Opening, ...] = ()
        for split, loaded in load_splits(session, folder).items():
            long = "drop" if split == "train" else settings.long_prompts
            tokenized = tokenize(
                session,
                loaded,
                long_prompts=long,
                openings=openings,
                progress=report,
                folder=folder,
            )
            if split == "train":
                openings = tokenized.openings
            with disk_checked(folder / split):
                tokenized.dataset.save_to_disk(folder / split)
                save_keys(folder / split)
            ids = Ids(tokenized.dataset.data["id"])
            kept = _kept(loaded.examples, ids)
            of_each = loaded.by_source(ids)
            summaries[split] = tokenized.summary | ({"sources": of_each} if of_each else {})
            contents[split] = {
                "rows": _content(folder / split, inputs["tokenizer"]),
                **vars(write_examples(folder / split / EXAMPLES, kept)),
            }
        atomic_write_json(folder / "summary.json", summaries)
        atomic_write_json(folder / SPLITS_FILE, contents)
    note = ending_note(session.models.tokenizer)
    if note and any("chat" in summary["template"] for summary in summaries.values()):
        session.display.note(note)
    for split, summary in summaries.items():
        for line in (*source_notes(summary), *data_notes(summary)):
            session.display.note(f"{split}: {line}")


def tokenize(
    session: Session,
    examples: LoadedExamples | Sequence[Example],
    *,
    long_prompts: LongPrompts = "drop",
    openings: Sequence[Opening] = (),
    progress: Report | None = None,
    folder: Path | None = None,
) -> TokenizedSplit:
    """Examples as the student reads them: its tokenizer, the recipe's template and lengths."""
    return tokenize_as(
        session.recipe,
        session.models.tokenizer,
        examples,
        long_prompts=long_prompts,
        openings=openings,
        progress=progress,
        folder=folder,
    )


def tokenize_as(
    recipe: Recipe,
    tokenizer: Any,
    examples: LoadedExamples | Sequence[Example],
    **options: Any,
) -> TokenizedSplit:
    """Examples by a tokenizer, with a recipe's template and lengths.

    Args:
        recipe: the recipe.
        tokenizer: whose tokens.
        examples: what ``load_examples`` returned, or examples of your own.
        options: what else ``tokenize_examples`` takes.
    """
    settings = recipe.data_section
    return tokenize_examples(
        examples,
        tokenizer,
        template=getattr(settings, "template", "auto"),
        system=getattr(settings, "system", None),
        max_length=settings.max_length,
        max_prompt_length=settings.max_prompt_length,
        **options,
    )


def _kept(examples: Sequence[Example], ids: Ids) -> Iterator[Example]:
    """The examples with these ids, which are in the same order."""
    rest = iter(ids)
    wanted = next(rest, None)
    for example in examples:
        if example.id == wanted:
            yield example
            wanted = next(rest, None)
    assert wanted is None, "every row was made from an example, in order"


_REMEDIES = {
    "thoughts_without_end": (
        "; their answers break off after <think>, so that a student would learn to stop there. End"
        " the thoughts with </think> and an answer"
    )
}


def data_notes(summary: dict[str, Any]) -> list[str]:
    """What became of a split, where that is not what one would expect, in lines."""
    total = summary["loaded"]
    lines = [
        f"{count} of {total} examples dropped: {reason.replace('_', ' ')} (for example"
        f" {summary['dropped_ids'][reason][0]}){_REMEDIES.get(reason, '')}"
        for reason, count in summary["dropped"].items()
        if count
    ]
    if summary["cut"].get("prompts"):
        lines.append(
            f"{summary['cut']['prompts']} of {total} prompts cut to the last tokens that"
            " data.max_prompt_length allows (data.long_prompts=keep asks all of them)"
        )
    if summary["cut"].get("answers"):
        lines.append(
            f"{summary['cut']['answers']} of {total} reference answers cut at data.max_length where"
            " students are compared with the teacher token by token; scores see all of them"
        )
    lines += [f"{count} {what} are not learned" for what, count in summary["not_learned"].items()]
    lines += [
        f"{count} of {total} prompts are the chat template's generation prompt {how}, as the"
        " finished conversation has it; ask the student in the same way"
        for how, count in summary["openings"].items()
    ]
    if summary["reopened"]:
        lines.append(
            f"{summary['reopened']} of {total} prompts open the answer as the training data do, and"
            " not as the chat template opens their own reference answers (with or without"
            " thoughts); these are scored as texts, and no student is compared with the teacher on"
            " them token by token"
        )
    return lines


def source_notes(summary: Mapping[str, Any]) -> list[str]:
    """What each of several sources gave to a split, in lines; none where there is one source."""
    lines = []
    for one in summary.get("sources", ()):
        weight = f", weight {one['weight']:g}" if "weight" in one else ""
        lost = one["given"] - one.get("kept", one["given"])
        dropped = f", of which {lost:,} are dropped" if lost else ""
        lines.append(
            f"{one['given']:,} of {one['had']:,} examples of {one['source']}{weight}{dropped}"
        )
    return lines


def _content(folder: Path, tokenizer: str) -> str:
    """Fingerprint of a split: its rows, and the tokenizer that they are read and answered with.

    What is made from one split is made anew when that split changes, and not when another does.
    """
    rows = [content_sha256(path) for path in sorted(folder.glob("*.arrow"))]
    return fingerprint({"rows": rows, "tokenizer": tokenizer})


def load_splits(session: Session, folder: Path) -> dict[str, LoadedExamples]:
    """The examples of each split as the recipe's sources give them, before tokenizing.

    The sources are read here alone: later stages read ``kept_examples`` and ``kept_columns``.

    Args:
        session: the run.
        folder: where there is room for what memory does not hold.
    """
    return read_splits(session.recipe, wanted_columns(session), folder)


def read_splits(
    recipe: Recipe, columns: Sequence[str] = (), folder: Path | None = None
) -> dict[str, LoadedExamples]:
    """The same without a run.

    Args:
        recipe: the recipe of the main arm.
        columns: of the training data, to be kept with it.
        folder: where there is room for what memory does not hold.
    """
    settings, seed = recipe.data_section, recipe.data_seed
    if settings.kind != "files":
        return _made_splits(settings)
    loaded = {
        split: load_examples(
            sources,
            split=split,
            limit=getattr(settings, f"limit_{split}"),
            seed=seed,
            columns=columns if split == "train" else (),
            names=column_names(settings),
            folder=folder,
        )
        for split in SPLITS
        if (sources := settings.sources(split))
    }
    for split in ("validation", "test"):
        share = getattr(settings, f"{split}_share")
        if split not in loaded and share > 0:
            loaded[split], loaded["train"] = _hold_out(loaded["train"], share, split, seed)
    return loaded


def _made_splits(settings: ArithmeticData | ListsData) -> dict[str, LoadedExamples]:
    """The splits of an embedded task; labels have errors in the training split alone."""
    if settings.kind == "arithmetic":
        make = functools.partial(arithmetic_examples, levels=settings.levels)
    else:
        make = functools.partial(list_examples, levels=settings.levels, lengths=settings.lengths)
    return {
        split: LoadedExamples(
            tuple(
                make(
                    split,
                    count,
                    seed=settings.data_seed,
                    label_noise=settings.label_noise if split == "train" else 0.0,
                )
            )
        )
        for split in SPLITS
        if (count := getattr(settings, split))
    }


def _hold_out(
    loaded: LoadedExamples, share: float, split: str, seed: int
) -> tuple[LoadedExamples, LoadedExamples]:
    """Set a seeded share of the training examples aside, by id."""
    ids = loaded.ids
    count = math.ceil(share * len(ids))
    if count >= len(ids):
        raise DataError(
            f"data.{split}_share={share} of {len(ids)} examples leaves nothing to train on."
            " Give more data or a smaller share."
        )
    # Drawn from the ids in their own order, so that the order of the file does not matter.
    by_id = ids.order_by(np.zeros(len(ids)))
    held = np.zeros(len(ids), dtype=bool)
    held[by_id[draw_positions(random.Random(f"{split} {seed}"), len(ids), count)]] = True
    return (
        loaded.select(np.flatnonzero(held), duplicates=False),
        loaded.select(np.flatnonzero(~held), duplicates=True),
    )


def rows_of(session: Session, split: str) -> Any:
    """The tokenized rows of a split, read from the run folder; None when there is no such split."""
    folder = session.part(f"data/{split}")
    return datasets.load_from_disk(str(folder)) if folder.is_dir() else None


def kept_examples(session: Session, split: str) -> Iterator[Example]:
    """The examples of a split as the user's file gave them, those that were dropped left out."""
    return read_examples(session.part(f"data/{split}") / EXAMPLES)


def kept_columns(session: Session, split: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Ids, in their order, and the columns that some arm takes its difficulty from."""
    return read_columns(session.part(f"data/{split}") / EXAMPLES)


def training_rows(session: Session, arm: str) -> Any:
    """What an arm learns: the data's answers, or those that teachers wrote."""
    if not session.loaded.arms[arm].uses_text:
        return rows_of(session, "train")
    return datasets.load_from_disk(str(session.part(f"arms/{arm}/texts") / "rows"))


def rows_to_compare(rows: Any) -> Any:
    """The rows with a token at which a student can be compared with its teacher."""
    found = np.flatnonzero(stored_lengths(rows, NUM_RESPONSE_TOKENS))
    return rows if len(found) == len(rows) else rows.select(found)
