"""A teacher beside the student."""

import pytest
import torch

from conftest_models import VOCAB, random_rows, tiny_model
from tutelage.data.collate import collate
from tutelage.errors import ModelError
from tutelage.models.packed_attention import uses_packed_attention
from tutelage.teachers import live_teacher


@pytest.mark.parametrize("padding_free", [None, True, False])
def test_a_live_teacher_runs_without_padding_unless_it_may_not(padding_free):
    rows = random_rows(4)
    batch = collate(rows, 0)
    ids = [row["id"] for row in rows]
    padded = live_teacher(tiny_model(), VOCAB, padding_free=False).encode(ids, *batch.values())
    model = tiny_model()

    found = live_teacher(model, VOCAB, padding_free=padding_free).encode(ids, *batch.values())

    assert uses_packed_attention(model) is (padding_free is not False)
    torch.testing.assert_close(found, padded, rtol=1e-5, atol=1e-5)


def test_a_head_that_does_more_than_it_says_is_refused():
    model = tiny_model()
    original = model.forward

    def forward(*args, **kwargs):
        output = original(*args, **kwargs)
        output.logits = output.logits**2
        return output

    model.forward = forward
    with pytest.raises(ModelError, match="cannot be rebuilt"):
        live_teacher(model, VOCAB)
