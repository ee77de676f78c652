"""Agreement with the teacher against whole arrays of logits."""

import json

import pytest
import torch

from conftest_models import VOCAB, random_rows, tiny_model
from tutelage.errors import DataError
from tutelage.evaluation import agreement as module
from tutelage.evaluation import save_agreement, teacher_agreement


@torch.no_grad()
def slow(student, teacher, rows, vocab_size):
    """Row by row, with all logits, in float64."""
    totals, count = torch.zeros(5, dtype=torch.float64), 0
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        labels = torch.tensor(row["labels"])
        places = (labels[1:] != -100).nonzero()[:, 0]
        targets = labels[places + 1].unsqueeze(-1)
        p, q = (
            model(ids).logits[0, places, :vocab_size].double().log_softmax(-1)
            for model in (teacher, student)
        )
        totals[0] += (p.exp() * (p - q)).sum()
        totals[1] += (q.exp() * (q - p)).sum()
        totals[2] += (p.argmax(-1) == q.argmax(-1)).sum()
        totals[3] -= q.gather(-1, targets).sum()
        totals[4] -= p.gather(-1, targets).sum()
        count += len(places)
    return (totals / count).tolist(), count


def values(found):
    return [
        found.forward_kl,
        found.reverse_kl,
        found.top1_agreement,
        found.student_nll,
        found.teacher_nll,
    ]


@pytest.mark.parametrize(("batch_tokens", "tile"), [(8192, 1024), (30, 1024), (8192, 3)])
def test_equals_the_slow_reference(student, teacher, rows, monkeypatch, batch_tokens, tile):
    monkeypatch.setattr(module, "TILE_TOKENS", tile)
    found = teacher_agreement(
        student, teacher, rows, vocab_size=VOCAB, batch_tokens=batch_tokens, pad_token_id=1
    )
    expected, count = slow(student.eval(), teacher.eval(), rows, VOCAB)
    assert values(found) == pytest.approx(expected, rel=1e-5)
    assert found.num_tokens == count
    assert found.forward_kl > 0.01 and found.reverse_kl > 0.01


def test_a_model_agrees_with_itself(student, rows):
    found = teacher_agreement(student, student, rows, vocab_size=VOCAB, batch_tokens=100)
    assert found.forward_kl == pytest.approx(0.0, abs=1e-7)
    assert found.reverse_kl == pytest.approx(0.0, abs=1e-7)
    assert found.top1_agreement == 1.0
    assert found.student_nll == found.teacher_nll


def test_padded_vocabularies_of_different_size(rows):
    student, teacher = tiny_model(seed=1, vocab=VOCAB + 8), tiny_model(seed=2, vocab=VOCAB + 3)
    found = teacher_agreement(student, teacher, rows, vocab_size=VOCAB, batch_tokens=100)
    expected, _ = slow(student.eval(), teacher.eval(), rows, VOCAB)
    assert values(found) == pytest.approx(expected, rel=1e-5)


def test_bfloat16_models_are_compared_in_float32(student, teacher, rows):
    exact = teacher_agreement(student, teacher, rows, vocab_size=VOCAB, batch_tokens=100)
    found = teacher_agreement(
        student.bfloat16(), teacher.bfloat16(), rows, vocab_size=VOCAB, batch_tokens=100
    )
    assert found.forward_kl == pytest.approx(exact.forward_kl, rel=0.1)
    assert found.student_nll == pytest.approx(exact.student_nll, rel=0.05)


def test_modes_come_back_and_progress_ends(student, teacher, rows):
    student.train()
    teacher.eval()
    calls = []
    teacher_agreement(
        student,
        teacher,
        rows,
        vocab_size=VOCAB,
        batch_tokens=50,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert student.training and not teacher.training
    total = sum(len(tokens) for tokens in rows["input_ids"])
    assert calls[-1] == (total, total) and len(calls) > 1


def test_a_label_outside_the_vocabulary(student, teacher, rows):
    with pytest.raises(DataError, match="vocabulary compared has 8 entries"):
        teacher_agreement(student, teacher, rows, vocab_size=8, batch_tokens=100)


def test_no_response_token(student, teacher, rows):
    rows = random_rows(3).map(lambda row: {"labels": [-100] * len(row["labels"])})
    with pytest.raises(DataError, match="None of the 3 rows"):
        teacher_agreement(student, teacher, rows, vocab_size=VOCAB, batch_tokens=100)


def test_saved_as_json(student, teacher, rows, tmp_path):
    found = teacher_agreement(student, teacher, rows, vocab_size=VOCAB, batch_tokens=100)
    save_agreement(tmp_path / "new", found)
    content = json.loads((tmp_path / "new" / "agreement.json").read_text())
    assert list(content.values()) == [*values(found), found.num_tokens, len(rows)]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["agreement.json"]
