"""The tiled loss against a dense one in float64 that is written another way."""

import copy

import pytest
import torch
from scipy.special import log_softmax

from conftest_models import VOCAB, tiny_model
from tutelage.divergences import forward_kl, reverse_kl
from tutelage.models.head import head_logits, response_hidden
from tutelage.targets import probability_mix, vouched
from tutelage.teachers import LiveTeacher
from tutelage.training.loss import DistillLoss, StepValues, at_drawn_tokens


@pytest.fixture
def batch():
    torch.manual_seed(5)
    input_ids = torch.randint(3, VOCAB, (4, 11))
    labels = input_ids.clone()
    labels[:, :4] = -100
    labels[1, 7:] = -100
    labels[3] = -100  # a row without response tokens
    return input_ids, torch.ones_like(input_ids), labels


def dense_loss(student, teacher, batch, values, *, reverse=False, tau2=True, vocab=VOCAB):
    """Sum over response tokens, from whole logits, with numpy's and scipy's own formulas."""
    input_ids, mask, labels = batch
    with torch.no_grad():
        z_s = student(input_ids=input_ids, attention_mask=mask).logits.double().numpy()
        z_t = teacher(input_ids=input_ids, attention_mask=mask).logits.double().numpy()
    total = 0.0
    for b in range(len(input_ids)):
        for t in range(input_ids.shape[1] - 1):
            label = int(labels[b, t + 1])
            if label == -100:
                continue
            s, z = z_s[b, t, :vocab], z_t[b, t, :vocab]
            tau, share = values.distill_temperature, values.student_share
            q, p = log_softmax(s / tau), log_softmax(z / tau)
            m = share * torch.tensor(q).exp() + (1 - share) * torch.tensor(p).exp()
            q_tensor = torch.tensor(q).exp()
            left, right = (q_tensor, m) if reverse else (m, q_tensor)
            kd = float((left * (left / right).log()).sum()) * (tau**2 if tau2 else 1.0)
            ce = -float(log_softmax(s)[label])
            total += values.ce_weight * ce + (1 - values.ce_weight) * kd
    return total


def tiled(student, teacher, batch, values, *, vocab=VOCAB, **options):
    signal = LiveTeacher(teacher, vocab)
    loss = DistillLoss(
        options.pop("divergence", forward_kl), probability_mix, vocab_size=vocab, **options
    )
    hidden, targets = response_hidden(student, *batch)
    return loss(student, hidden, targets, values, signal, signal.encode([], *batch))


@pytest.mark.parametrize("tile_tokens", [1, 3, 1000])
@pytest.mark.parametrize(
    "values",
    [
        StepValues(0.0, 1.0, 0.0),
        StepValues(0.4, 2.0, 0.3),
        StepValues(1.0, 2.0, 0.3),
        StepValues(0.4, 1.5, 1.0),
    ],
)
def test_value_equals_the_dense_reference(student, teacher, batch, values, tile_tokens):
    sums = tiled(student, teacher, batch, values, tile_tokens=tile_tokens)
    expected = dense_loss(student, teacher, batch, values)
    assert sums.total.item() == pytest.approx(expected, rel=3e-5)


def test_reverse_kl_and_the_tau2_switch(student, teacher, batch):
    values = StepValues(0.2, 2.0, 0.1)
    for tau2 in (True, False):
        sums = tiled(student, teacher, batch, values, divergence=reverse_kl, tau2_scaling=tau2)
        expected = dense_loss(student, teacher, batch, values, reverse=True, tau2=tau2)
        assert sums.total.item() == pytest.approx(expected, rel=3e-5)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("tile_tokens", [2, 1000])
def test_gradients_equal_those_of_the_dense_loss(teacher, batch, tile_tokens, tied):
    values = StepValues(0.4, 2.0, 0.3)
    students = [tiny_model(seed=1, tie_word_embeddings=tied) for _ in range(2)]
    tiled(students[0], teacher, batch, values, tile_tokens=tile_tokens).total.backward()

    input_ids, mask, labels = batch
    response = labels[:, 1:] != -100
    logits = students[1](input_ids=input_ids, attention_mask=mask).logits[:, :-1][response]
    with torch.no_grad():
        z = teacher(input_ids=input_ids, attention_mask=mask).logits[:, :-1][response]
    q, p = (logits / 2).log_softmax(-1), (z / 2).log_softmax(-1)
    m = 0.4 * q.exp() + 0.6 * p.exp()
    kd = 4 * (m * (m.log() - q)).sum()
    ce = torch.nn.functional.cross_entropy(logits, labels[:, 1:][response], reduction="sum")
    (0.3 * ce + 0.7 * kd).backward()
    for (name, a), b in zip(students[0].named_parameters(), students[1].parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_parts(student, teacher, batch):
    values = StepValues(0.0, 1.0, 0.25)
    sums = tiled(student, teacher, batch, values)
    ce, kd, agreed, tokens, _ = sums.parts.tolist()
    assert 0.25 * ce + 0.75 * kd == pytest.approx(sums.total.item(), rel=1e-6)
    assert tokens == int((batch[2][:, 1:] != -100).sum())
    assert 0 <= agreed <= tokens
    same = tiled(student, student, batch, values)
    assert same.parts[1].abs() < 1e-4 and same.parts[2] == tokens


def test_padded_vocabularies_are_cut_not_filled(batch):
    student = tiny_model(seed=1, vocab=VOCAB + 4)
    teacher = tiny_model(seed=2, vocab=VOCAB + 9)
    values = StepValues(0.3, 1.0, 0.5)
    sums = tiled(student, teacher, batch, values, vocab=VOCAB)
    assert sums.total.item() == pytest.approx(
        dense_loss(student, teacher, batch, values, vocab=VOCAB), rel=3e-5
    )
    with torch.no_grad():  # rows beyond the tokenizer say nothing
        student.lm_head.weight[VOCAB:] += 50.0
        teacher.lm_head.weight[VOCAB:] -= 50.0
    again = tiled(student, teacher, batch, values, vocab=VOCAB)
    assert again.total.item() == pytest.approx(sums.total.item(), rel=1e-6)


def test_no_response_token_gives_zero_and_zero_gradients(student, teacher, batch):
    input_ids, mask, labels = batch
    nothing = (input_ids, mask, torch.full_like(labels, -100))
    sums = tiled(student, teacher, nothing, StepValues(0.0, 1.0, 0.5))
    sums.total.backward()
    assert sums.total == 0
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in student.parameters())


def test_full_logits_are_never_made(student, teacher, batch, monkeypatch):
    """A head that is not a plain linear map sees at most a tile of tokens at a time."""
    seen = []
    for model in (student, teacher):
        forward = model.lm_head.forward

        def spy(hidden, forward=forward):
            seen.append(hidden.shape[:-1].numel())
            return forward(hidden)

        monkeypatch.setattr(model.lm_head, "forward", spy)
    tiled(student, teacher, batch, StepValues(0.0, 1.0, 0.5), tile_tokens=3)
    assert max(seen) == 3


def test_heads_that_change_logits_are_rebuilt():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    model = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=VOCAB,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
            final_logit_softcapping=0.5,
        )
    ).eval()
    input_ids = torch.randint(3, VOCAB, (2, 7))
    mask = torch.ones_like(input_ids)
    with torch.no_grad():
        hidden, targets = response_hidden(model, input_ids, mask, input_ids)
        expected = model(input_ids=input_ids, attention_mask=mask).logits[:, :-1].flatten(0, 1)
        torch.testing.assert_close(head_logits(model, hidden), expected)
    assert expected.abs().max() <= 0.5
    torch.testing.assert_close(targets, input_ids[:, 1:].flatten())


def test_sixteen_bits_only_in_the_matrix_product(student, teacher, batch):
    values = StepValues(0.4, 2.0, 0.3)
    exact = tiled(student, teacher, batch, values).total
    rounded = tiled(student, teacher, batch, values, autocast_dtype=torch.bfloat16).total
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), rel=0.02)


def test_drawn_tokens_estimate_reverse_kl_and_its_gradient():
    torch.manual_seed(3)
    logits = torch.randn(5, VOCAB, dtype=torch.float64, requires_grad=True)
    target = torch.randn(5, VOCAB, dtype=torch.float64).log_softmax(-1)
    logp = logits.log_softmax(-1)
    # Over every token with the probability of drawing it: the expectation, not a sample.
    expected = torch.zeros(5, dtype=torch.float64)
    gradient = torch.zeros_like(logits)
    for token in range(VOCAB):
        drawn = torch.full((5,), token)
        value = at_drawn_tokens(target, logits.log_softmax(-1), drawn)
        chance = logp[:, token].exp().detach()
        expected += chance * value.detach()
        gradient += torch.autograd.grad((chance * value).sum(), logits)[0]
    q, m = (log_softmax(x.detach().numpy(), axis=-1) for x in (logits, target))
    whole = (torch.tensor(q).exp() * torch.tensor(q - m)).sum(-1)
    torch.testing.assert_close(expected, whole)
    exact = reverse_kl(target, logits.log_softmax(-1)).sum()
    torch.testing.assert_close(gradient, torch.autograd.grad(exact, logits)[0])


def test_sampled_loss_is_that_of_the_drawn_tokens(batch):
    student, teacher = tiny_model(seed=1), tiny_model(seed=2)
    values = StepValues(0.25, 1.5, 0.0)
    hidden, targets = response_hidden(student, *batch)
    signal = LiveTeacher(teacher, VOCAB)
    states = signal.encode([], *batch)
    loss = DistillLoss(reverse_kl, probability_mix, vocab_size=VOCAB, tile_tokens=3)
    found = loss(student, hidden, targets, values, signal, states, sampled=True)
    with torch.no_grad():
        student_logp, teacher_logp = (
            (head_logits(model, h, VOCAB).double() / 1.5).log_softmax(-1)
            for model, h in ((student, hidden), (teacher, states))
        )
    mixed = (0.25 * student_logp.exp() + 0.75 * teacher_logp.exp()).log()
    each = [float(student_logp[i, t] - mixed[i, t]) for i, t in enumerate(targets.tolist())]
    assert float(found.total.detach()) == pytest.approx(1.5**2 * sum(each), rel=1e-4)
    found.total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())


def by_hand(student, teacher, batch, label_weight, tau=1.0, second=None, share=0.0, ce_weight=0.3):
    """Value and gradients from whole logits in float64, with autograd; forward KL first."""
    input_ids, mask, labels = batch
    response = labels[:, 1:] != -100
    student, teacher = copy.deepcopy(student).double(), copy.deepcopy(teacher).double()
    z = student(input_ids=input_ids, attention_mask=mask).logits[:, :-1][response]
    with torch.no_grad():
        t = teacher(input_ids=input_ids, attention_mask=mask).logits[:, :-1][response]
    wanted = labels[:, 1:][response]
    ce = torch.nn.functional.cross_entropy(z, wanted, reduction="none")
    p, q = (t / tau).softmax(-1), (z / tau).softmax(-1)
    kd = (p * (p / q).log()).sum(-1)
    if second is not None:
        kd = (1 - share) * kd + share * second(p, q)
    weight = label_weight(t.softmax(-1), wanted)
    total = (ce_weight * weight * ce + (1 - ce_weight) * tau**2 * kd).sum()
    total.backward()
    return total.item(), {name: p.grad.float() for name, p in student.named_parameters()}


def assert_same(student, sums, expected):
    student.zero_grad()
    sums.total.backward()
    assert sums.total.item() == pytest.approx(expected[0], rel=3e-5)
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(
            parameter.grad, expected[1][name], rtol=2e-4, atol=1e-5, msg=name
        )


OF_LABEL = {
    "all": lambda p, y: torch.ones(len(y), dtype=p.dtype),
    "agreed": lambda p, y: (p.argmax(-1) == y).to(p.dtype),
    "probability": lambda p, y: p.gather(-1, y[:, None])[:, 0],
}


@pytest.mark.parametrize("tau", [1.0, 2.0])
@pytest.mark.parametrize("how", ["agreed", "probability"])
def test_cross_entropy_counts_as_far_as_the_teacher_vouches(student, teacher, batch, how, tau):
    input_ids, mask, labels = batch
    with torch.no_grad():  # the teacher agrees with every second label
        best = teacher(input_ids=input_ids, attention_mask=mask).logits.argmax(-1)
    labels[:, 5::2] = torch.where(labels[:, 5::2] == -100, -100, best[:, 4:-1:2])
    values = StepValues(0.0, tau, 0.3)
    for tile_tokens in (3, 1000):
        sums = tiled(student, teacher, batch, values, ce_trust=how, tile_tokens=tile_tokens)
        assert_same(student, sums, by_hand(student, teacher, batch, OF_LABEL[how], tau))
    plain = tiled(student, teacher, batch, values)
    assert sums.parts[0] == plain.parts[0], "the record is of all labels"
    assert sums.total < plain.total


def test_labels_that_a_cut_teacher_does_not_name_are_not_believed():
    logp = torch.tensor([[0.5, 0.3, 0.2], [0.6, 0.2, 0.2]]).log()
    kept = torch.tensor([[7, 4], [2, 9]])
    labels = torch.tensor([4, 5])
    assert vouched(logp, labels, how="probability", kept=kept).tolist() == pytest.approx([0.3, 0])
    assert vouched(logp, torch.tensor([7, 9]), how="agreed", kept=kept).tolist() == [1, 0]


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_second_divergence_takes_over_by_its_share(student, teacher, batch, share):
    values = StepValues(0.0, 2.0, 0.3, share)
    sums = tiled(student, teacher, batch, values, second=reverse_kl, tile_tokens=3)
    reverse = lambda p, q: (q * (q / p).log()).sum(-1)  # noqa: E731
    expected = by_hand(student, teacher, batch, OF_LABEL["all"], 2.0, reverse, share)
    assert_same(student, sums, expected)


def test_tokens_count_by_their_weights(student, teacher, batch):
    hidden, targets = response_hidden(student, *batch)
    weights = torch.linspace(0, 2, len(targets))
    signal, values = LiveTeacher(teacher, VOCAB), StepValues(0.0, 2.0, 0.3)
    states = signal.encode([], *batch)
    loss = DistillLoss(forward_kl, probability_mix, VOCAB, tile_tokens=3, block_tokens=2)
    whole = loss(student, hidden, targets, values, signal, states, weights_N=weights)
    alone = [
        loss(student, hidden[i : i + 1], targets[i : i + 1], values, signal, states[i : i + 1])
        for i in range(len(targets))
    ]
    expected = sum(w * one.total.item() for w, one in zip(weights.tolist(), alone, strict=True))
    assert whole.total.item() == pytest.approx(expected, rel=1e-5)
    ce, kd = whole.parts[:2].tolist()
    assert whole.total.item() == pytest.approx(0.3 * ce + 0.7 * kd, rel=1e-6)
