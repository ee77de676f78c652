"""The likeliest tokens and a tail: what is kept, at every temperature, and what it is worth."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest_models import VOCAB
from tutelage.data.collate import collate
from tutelage.divergences import DIVERGENCES, forward_kl
from tutelage.errors import ConfigError
from tutelage.models.head import head_logits, response_hidden
from tutelage.targets import TARGETS
from tutelage.teachers import LiveTeacher, StoredTeacher
from tutelage.teachers.store.topk import (
    bytes_per_token,
    decode_top_k,
    encode_top_k,
    high_bits,
)
from tutelage.training.loss import KD, DistillLoss, StepValues


def distributions(n, vocab, seed=0, peak=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = peak * torch.randn(n, vocab, generator=generator, dtype=torch.float64)
    return logits.log_softmax(-1).float()


@pytest.mark.parametrize(
    ("vocab", "bits"), [(32, 0), (65_536, 0), (65_537, 1), (131_073, 2), (300_000, 4)]
)
def test_ids_survive(vocab, bits):
    logp = distributions(3, vocab)
    stored = encode_top_k(logp, 11)
    assert high_bits(vocab) == bits
    assert stored.shape == (3, bytes_per_token(11, vocab)) and stored.dtype == torch.uint8
    known = decode_top_k(stored, 11, vocab)
    expected = logp.topk(11)
    assert torch.equal(known.kept_nK, expected.indices)
    torch.testing.assert_close(known.logp_nK, expected.values, rtol=1e-3, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    temperature=st.floats(1.0, 50.0),
    seed=st.integers(0, 1000),
    peak=st.floats(0.1, 6.0),
    k=st.integers(1, 40),
)
def test_the_tail_is_known_at_every_temperature(temperature, seed, peak, k):
    logp = distributions(4, 500, seed, peak)
    known = decode_top_k(encode_top_k(logp, k), k, 500)
    found = known.log_probs(temperature)
    soft = (logp.double() / temperature).log_softmax(-1).exp()
    kept = soft.gather(-1, known.kept_nK)
    expected = torch.cat([kept, 1 - kept.sum(-1, keepdim=True)], dim=-1)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(4))
    torch.testing.assert_close(found.exp().double(), expected, rtol=0, atol=4e-3)
    if temperature == 1.0:
        torch.testing.assert_close(found.exp().double(), expected, rtol=0, atol=5e-4)


def test_below_temperature_one_nothing_is_known():
    known = decode_top_k(encode_top_k(distributions(1, 50), 3), 3, 50)
    with pytest.raises(ConfigError, match=r"from 1 on.*signal: hidden"):
        known.log_probs(0.5)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd", "tvd", "skl", "srkl"])
def test_a_divergence_is_at_most_the_exact_one_and_never_negative(
    divergence, make_store, teacher, student, rows
):
    store = make_store(teacher, rows, kind="topk")
    signal = StoredTeacher(store, rows)
    picked = [rows[i] for i in range(12)]
    ids, batch = [row["id"] for row in picked], collate(picked, 0)
    hidden, targets = response_hidden(student, *batch.values())
    loss = DistillLoss(DIVERGENCES[divergence].function, TARGETS["probability_mix"].function, VOCAB)
    live = LiveTeacher(teacher, VOCAB)
    for tau in (1.0, 2.0):
        values = StepValues(0.0, tau, 0.0)
        truncated = loss(
            student, hidden, targets, values, signal, signal.encode(ids, *batch.values())
        )
        exact = loss(student, hidden, targets, values, live, live.encode(ids, *batch.values()))
        assert 0 <= truncated.parts[KD] <= exact.parts[KD] * (1 + 1e-3)
        assert truncated.parts[KD] > 0.3 * exact.parts[KD]


def test_more_tokens_lose_less(student, teacher, rows):
    picked = collate([rows[i] for i in range(12)], 0)
    with torch.no_grad():
        hidden, _ = response_hidden(teacher, *picked.values())
        p = head_logits(teacher, hidden).log_softmax(-1)
        hidden, _ = response_hidden(student, *picked.values())
        q = head_logits(student, hidden).log_softmax(-1)
    exact = forward_kl(p, q).mean()
    errors = []
    for k in (1, 4, 16, VOCAB - 1):
        known = decode_top_k(encode_top_k(p, k), k, VOCAB)
        tail = q.scatter(-1, known.kept_nK, -torch.inf).logsumexp(-1, keepdim=True)
        coarse = torch.cat([q.gather(-1, known.kept_nK), tail], dim=-1)
        errors.append(float(exact - forward_kl(known.log_probs(1.0), coarse).mean()))
    assert errors[0] > errors[1] > errors[2] > errors[3] - 1e-3
    assert abs(errors[-1]) < 2e-3
