"""Speculative answers, held against whole prefixes that are read anew in float64."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from conftest_models import tiny_model
from tutelage.data import stop_ids
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ModelError
from tutelage.generation import GenerationSettings, LocalEngine
from tutelage.generation.drawing import private_stream
from tutelage.generation.speculative import SpeculativeEngine

TOKENIZER = build_tokenizer()
VOCAB = len(TOKENIZER)
PROMPTS = [[5, 6, 7], [9], [4, 4, 8, 12, 3, 7], [10, 11], [9], [5, 6, 7, 8, 9, 10, 3]]
SEEDS = [3, 4, 5, 6, 7, 8]
WARM = GenerationSettings(max_new_tokens=9, sampling_temperature=1.0, logprobs=True)


def gpt2(seed):
    torch.manual_seed(seed)
    shape = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64, "initializer_range": 0.3}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCAB + 3, bos_token_id=1, eos_token_id=2, **shape)
    )


def llama(seed, **options):
    return tiny_model(seed=seed, vocab=VOCAB, **options)


def engine(student, teacher, top_k):
    return SpeculativeEngine(student, TOKENIZER, teacher=teacher.eval(), top_k=top_k)


def probabilities(model, tokens, temperature):
    """Of the next token, from the whole prefix in float64."""
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, -1, :VOCAB].numpy() / temperature
    exponents = np.exp(logits - logits.max())
    return exponents / exponents.sum()


def written_out(student, teacher, prompt, seed, settings, top_k):
    """Tokens, their log-probabilities, and whether each was the student's, a token at a time."""
    ends = {*stop_ids(TOKENIZER), student.generation_config.eos_token_id}
    draws = private_stream(seed, prompt, settings.max_new_tokens)
    others = private_stream(-1 - seed, prompt, settings.max_new_tokens)
    tokens, logps, kept = [], [], []
    for draw, other in zip(draws, others, strict=True):
        prefix = [*prompt, *tokens]
        q = probabilities(student, prefix, settings.sampling_temperature)
        p = probabilities(teacher, prefix, settings.sampling_temperature)
        token = int(np.flatnonzero(np.cumsum(q) > draw)[0])
        good = np.argsort(-p)[:top_k]
        kept.append(token in good)
        if not kept[-1]:
            token = int(np.flatnonzero(np.cumsum(p) > other)[0])
        tokens.append(token)
        logps.append(float(np.log(probabilities(student, prefix, 1.0)[token])))
        if token in ends:
            break
    return tokens, logps, kept


@pytest.mark.parametrize("kind", [llama, gpt2])
@pytest.mark.parametrize("temperature", [1.0, 1.7])
@pytest.mark.parametrize("top_k", [3, 8])
def test_each_token_is_that_of_whole_prefixes(kind, temperature, top_k):
    student, teacher = kind(1).double().eval(), llama(2, hidden=24, layers=3).double().eval()
    settings = GenerationSettings(
        max_new_tokens=9, sampling_temperature=temperature, logprobs=True, batch_tokens=48
    )
    found = engine(student, teacher, top_k).mended(PROMPTS, settings, seed=SEEDS)
    kept = []
    for prompt, seed, mended in zip(PROMPTS, SEEDS, found, strict=True):
        answer = mended.answer
        tokens, logps, own = written_out(student, teacher, prompt, seed, settings, top_k)
        assert list(answer.tokens) == tokens and answer.seed == seed
        assert answer.logprobs == pytest.approx(logps, abs=1e-5)
        assert mended.kept == sum(own)
        kept += own
        # What the teacher said is what it says of the whole text, to float64's rounding.
        with torch.no_grad():
            whole = teacher.model(torch.tensor([[*prompt, *tokens]])).last_hidden_state[0]
        torch.testing.assert_close(mended.states, whole[len(prompt) - 1 : -1])
    assert 0 < sum(kept) < len(kept)


def test_a_row_does_not_depend_on_its_neighbours():
    student, teacher = llama(1).eval(), llama(2)
    mended = engine(student, teacher, 4)
    together = mended.answer(PROMPTS, WARM, seed=SEEDS)
    for prompt, seed, answer in zip(PROMPTS, SEEDS, together, strict=True):
        (alone,) = mended.answer([prompt], WARM, seed=seed)
        assert alone.tokens == answer.tokens
        assert alone.logprobs == pytest.approx(answer.logprobs, abs=1e-4)


@pytest.mark.parametrize("settings", [WARM, GenerationSettings(max_new_tokens=6)])
def test_with_every_token_it_is_the_student_alone(settings):
    student, teacher = llama(1).eval(), llama(2)
    local = LocalEngine(student, TOKENIZER).answer(PROMPTS, settings, seed=SEEDS)
    mended = engine(student, teacher, VOCAB).answer(PROMPTS, settings, seed=SEEDS)
    assert [one.tokens for one in mended] == [one.tokens for one in local]


def test_with_one_token_and_no_draw_it_is_the_teacher_alone():
    student, teacher = llama(1).eval(), llama(2).eval()
    greedy = GenerationSettings(max_new_tokens=6)
    local = LocalEngine(teacher, TOKENIZER).answer(PROMPTS, greedy)
    mended = engine(student, teacher, 1).answer(PROMPTS, greedy)
    assert [one.tokens for one in mended] == [one.tokens for one in local]


def test_models_and_random_state_are_left_as_they_were():
    student, teacher = llama(1), llama(2)
    student.train()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    engine(student, teacher, 4).answer(PROMPTS, WARM, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert student.training and not teacher.training
    assert all(p.grad is None for p in student.parameters())


def test_lengths_and_progress():
    student, teacher = llama(1).eval(), llama(2)
    told = []
    short = GenerationSettings(max_new_tokens=9, max_total_tokens=6, sampling_temperature=1.0)
    found = engine(student, teacher, 4).answer(
        PROMPTS, short, seed=SEEDS, progress=lambda *at: told.append(at)
    )
    assert all(len(p) + a.num_tokens <= max(6, len(p)) for p, a in zip(PROMPTS, found, strict=True))
    assert found[2].num_tokens == 0 and told[-1] == (6, 6)


def test_a_cache_of_another_kind_is_refused():
    config = MistralConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, sliding_window=4,
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"The teacher \(MistralForCausalLM\).*not a plain one"):
        engine(llama(1), MistralForCausalLM(config), 4)
