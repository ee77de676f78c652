"""What keeping the likeliest tokens alone loses, measured against the whole teacher."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tutelage.data.collate import collate, padding_id
from tutelage.divergences import DIVERGENCES
from tutelage.files import atomic_write_json, read_json
from tutelage.models.head import batch_hidden
from tutelage.pipeline.context.models import device, on_device
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.store import open_store
from tutelage.pipeline.stages.store_place import StorePlace
from tutelage.targets import probability_mix
from tutelage.teachers import LiveTeacher, StoredTeacher, join_rows
from tutelage.teachers.store.keys import describe_rows
from tutelage.training.loss import KD, DistillLoss, StepValues

ROWS = 16
"""Examples that are looked at, spread evenly over the data."""

COMPARED = ("forward_kl", "reverse_kl", "jsd", "tvd")
TEMPERATURES = (1.0, 2.0)


@dataclass(frozen=True)
class TopKError:
    """One divergence from the teacher to the untrained student, exact and as it is stored.

    Attributes:
        teacher: its name.
        divergence: its name in the table.
        temperature: divides the logits of both.
        exact: mean over the response tokens, in nats (no unit for bounded divergences).
        stored: the same over the k likeliest tokens and the tail; never more than ``exact``, but
            for rounding.
        response_tokens: how many tokens were looked at.
    """

    teacher: str
    divergence: str
    temperature: float
    exact: float
    stored: float
    response_tokens: int


def topk_error(session: Session, place: StorePlace, parts: Sequence[Any]) -> list[TopKError]:
    """What a filled store loses, measured once for a run and kept in its folder.

    Before training the student is far from the teacher, also where the teacher's likeliest tokens
    are not; so this is about as much as the store will ever lose.

    Args:
        session: the run.
        place: a store of the likeliest tokens that holds the rows.
        parts: data sets with ``id``, ``input_ids`` and ``labels``.
    """
    rows = join_rows(parts)
    rows = rows.select(range(0, len(rows), max(1, len(rows) // ROWS))[:ROWS])
    inputs = {
        "store": place.spec.key,
        "student": session.models.student_identity(),
        "rows": describe_rows(rows)["key"].tolist(),
    }
    name = f"topk_error/{place.spec.key}"
    if not session.run.fresh(name, inputs):
        with session.display.task("Comparing what is stored with the whole teacher"):
            found = _compare(session, place, rows)
        with session.run.making(name, inputs) as folder:
            atomic_write_json(folder / "error.json", [asdict(one) for one in found])
    return [TopKError(**one) for one in read_json(session.part(name) / "error.json")]


@torch.no_grad()
def _compare(session: Session, place: StorePlace, rows: Any) -> list[TopKError]:
    vocab = session.models.vocab_size
    batch = collate(list(rows), padding_id(session.models.tokenizer))
    batch = {name: tensor.to(device()) for name, tensor in batch.items()}
    student = on_device(session.models.student()).eval()
    hidden_NH, targets_N = batch_hidden(student, batch)
    found = []
    with session.models.borrowed(place.teacher) as model:
        kept = StoredTeacher(open_store(session, place), rows, device())
        states = {
            signal: signal.encode(rows["id"], **batch)
            for signal in (LiveTeacher(model, vocab), kept)
        }
        for name, temperature in itertools.product(COMPARED, TEMPERATURES):
            divergence = DIVERGENCES[name].function
            loss = DistillLoss(divergence, probability_mix, vocab, tau2_scaling=False)
            values = StepValues(student_share=0.0, distill_temperature=temperature, ce_weight=0.0)
            sums = [
                loss(student, hidden_NH, targets_N, values, signal, hidden).parts[KD].item()
                for signal, hidden in states.items()
            ]
            exact, stored = (total / max(len(targets_N), 1) for total in sums)
            found.append(TopKError(place.teacher, name, temperature, exact, stored, len(targets_N)))
    return found


def topk_error_text(found: Sequence[TopKError]) -> str:
    """What is lost, in a line or two for people.

    Args:
        found: of one store.
    """
    parts = [
        f"{one.divergence} at temperature {one.temperature:g} {one.stored:.4g} of {one.exact:.4g}"
        for one in found
    ]
    return (
        f"beside the whole teacher ({found[0].response_tokens:,} tokens, untrained student): "
        + ", ".join(parts)
    )
