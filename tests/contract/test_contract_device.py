"""What an accelerator must do as the CPU does. Run with `TUTELAGE_TEST_DEVICE=cuda`."""

import os

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from conftest_models import tiny_model
from tutelage.data.arithmetic import build_tokenizer
from tutelage.generation import GenerationSettings, LocalEngine
from tutelage.generation.stopping import Stops
from tutelage.models import packed_attention
from tutelage.models.head import response_hidden
from tutelage.models.packed_attention import restore_attention
from tutelage.models.projection import LinearProjection
from tutelage.training.fused import fused
from tutelage.training.written_out import written_out

DEVICE = os.environ.get("TUTELAGE_TEST_DEVICE", "cpu")
pytestmark = pytest.mark.skipif(DEVICE == "cpu", reason="TUTELAGE_TEST_DEVICE names none")

SHAPE = {
    "vocab_size": 211,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "window": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=5)),
}


def batch():
    ids = torch.randint(1, 211, (6, 33))
    lengths = torch.tensor([33, 4, 17, 17, 9, 1])
    mask = (torch.arange(33) < lengths.unsqueeze(1)).long()
    return ids, mask, ids.masked_fill(mask == 0, -100)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("autocast", [False, True])
def test_rows_in_one_call_attend_as_padded_rows_do(kind, autocast, monkeypatch):
    torch.manual_seed(0)
    model = MODELS[kind]().to(DEVICE, torch.float32 if autocast else torch.bfloat16)
    body = list(model.model.parameters())  # the head is given nothing
    calls = []
    inner = packed_attention._of_all_rows
    monkeypatch.setattr(
        packed_attention, "_of_all_rows", lambda *a: (calls.append(1), inner(*a))[1]
    )
    rows = batch()
    results = []
    for packed in (False, True):
        model.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
            hidden, _ = response_hidden(model, *rows, packed=packed)
        hidden.float().square().sum().backward()
        restore_attention(model)
        results.append((hidden.detach().float(), [p.grad.float() for p in body]))
    (padded, padded_grads), (packed, packed_grads) = results
    assert len(calls) == 3, "one call a layer"
    torch.testing.assert_close(packed, padded, rtol=5e-2, atol=5e-2 * float(padded.abs().max()))
    for ours, theirs in zip(packed_grads, padded_grads, strict=True):
        assert (ours - theirs).norm() <= 5e-2 * theirs.norm() + 1e-6


def test_greedy_answers_are_those_of_generate():
    tokenizer = build_tokenizer()
    model = tiny_model(seed=3, vocab=len(tokenizer)).to(DEVICE).eval()
    stops = Stops.of(tokenizer, model)
    prompts = [[5, 6, 7], [9], [4, 4, 8, 12, 3, 7], [10, 11]]
    wanted = []
    for prompt in prompts:
        ids = torch.tensor([prompt], device=DEVICE)
        made = model.generate(
            ids, max_new_tokens=12, do_sample=False, eos_token_id=list(stops.tokens), pad_token_id=0
        )
        wanted.append(stops.read(prompt, made[0, len(prompt) :].tolist()).tokens)
    settings = GenerationSettings(max_new_tokens=12, sampling_temperature=0.0)
    found = LocalEngine(model, tokenizer).answer(prompts, settings, seed=range(4))
    assert [one.tokens for one in found] == wanted


@pytest.mark.parametrize("vocab", [8192, 8191])
@pytest.mark.parametrize("bias", [False, True])
def test_products_in_sixteen_bits_whatever_the_number_of_tokens(vocab, bias):
    torch.manual_seed(0)
    head = torch.nn.Linear(64, 8192, bias=bias, device=DEVICE)
    hidden, above = torch.randn(37, 64, device=DEVICE), torch.randn(37, vocab, device=DEVICE)
    wide = [one.detach().bfloat16().double() for one in (head.weight, hidden, above)]
    weight, states, gradient = wide[0][:vocab], wide[1], wide[2]
    ours = LinearProjection(head, vocab, torch.bfloat16, trained=True)
    for _ in range(2):  # memory is used again
        logits = ours.logits(hidden.bfloat16())
        wanted = states @ weight.T + (head.bias[:vocab].double() if bias else 0.0)
        torch.testing.assert_close(logits.double(), wanted, rtol=1e-5, atol=1e-5)
        logits.copy_(above)
        back = ours.backward(logits, hidden.bfloat16())
        torch.testing.assert_close(back.double(), gradient @ weight, rtol=1e-5, atol=1e-3)
    found = ours.gradients[0]
    torch.testing.assert_close(
        found[:vocab].double(), 2 * gradient.T @ states, rtol=1e-5, atol=1e-3
    )
    assert not found[vocab:].any()
    if bias:
        torch.testing.assert_close(ours.gradients[1][:vocab], 2 * above.sum(0))


@pytest.mark.parametrize("vocab", [8192, 8191])
@pytest.mark.parametrize(("tau", "ce_weight"), [(1.0, 0.0), (1.0, 0.3), (2.0, 0.3)])
def test_a_compiled_loss_is_that_of_written_out(vocab, tau, ce_weight):
    torch.manual_seed(0)
    logits, teacher = (3 * torch.randn(2, 41, vocab, device=DEVICE)).unbind()
    targets = torch.randint(vocab, (41,), device=DEVICE)
    settings = {"ce_weight": ce_weight, "temperature": tau, "scale": tau**2}
    for rows in (slice(0, 41), slice(7, 30)):
        known = (teacher[rows].double() / tau).log_softmax(-1)
        wanted = written_out(logits[rows].double(), targets[rows], known, **settings)
        spent = logits[rows].clone()
        found = fused(spent, targets[rows], teacher[rows], teacher_temperature=tau, **settings)
        assert found is not None, "this machine has no compiler"
        assert found[3] is spent
        for ours, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-5, atol=1e-5)
