"""Rows that come and go: the texts of `generate`, prompts read once, budgets kept, all restored."""

import itertools

import numpy as np
import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from conftest_models import tiny_model
from tutelage.data.arithmetic import build_tokenizer
from tutelage.generation import GenerationSettings, LocalEngine
from tutelage.generation.engines import local
from tutelage.generation.refill import decodes
from tutelage.generation.row_cache import ROOM, Part, joined

TOKENIZER = build_tokenizer()
VOCAB = len(TOKENIZER)
STOPS = [4, 9]
SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": VOCAB}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}


def llama(**options):
    return tiny_model(seed=3, **{"vocab": VOCAB, **options})


def padded_llama():
    """Its head has rows that stand for no token and would be chosen at once."""
    model = llama(vocab=VOCAB + 5)
    with torch.no_grad():
        model.lm_head.weight[VOCAB:] = 10 * model.lm_head.weight[:5]
    return model


def qwen2():
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(**SHAPE, **HEADS, initializer_range=0.3, tie_word_embeddings=True)
    )


def gpt2(**options):
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=40, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3,
        bos_token_id=1, eos_token_id=1, **options,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


MODELS = {
    "llama": llama,
    "tied": lambda: llama(tie_word_embeddings=True),
    "padded": padded_llama,
    "qwen2": qwen2,
    "gpt2": gpt2,
}


@pytest.fixture(params=sorted(MODELS))
def model(request):
    found = MODELS[request.param]().eval()
    found.generation_config.eos_token_id = STOPS
    return found


def random_prompts(number, longest=9, seed=2):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest, number)
    return [rng.integers(3, VOCAB, length).tolist() for length in lengths]


def watched(model, monkeypatch):
    """Rows and tokens of every forward pass, and its columns."""
    passes = []
    forward = type(model).forward

    def watch(self, *args, **inputs):
        passes.append((*inputs["input_ids"].shape, inputs["attention_mask"].shape[1]))
        return forward(self, *args, **inputs)

    watch.__signature__ = __import__("inspect").signature(forward)
    monkeypatch.setattr(type(model), "forward", watch)
    return passes


def generated(model, prompt, limit):
    """What `generate` writes after a prompt by itself."""
    output = model.generate(
        torch.tensor([prompt]), max_new_tokens=limit, do_sample=False, pad_token_id=0,
        eos_token_id=[TOKENIZER.eos_token_id, *STOPS],
        suppress_tokens=list(range(VOCAB, model.get_output_embeddings().weight.shape[0])) or None,
    )  # fmt: skip
    return output[0, len(prompt) :].tolist()


@pytest.mark.parametrize("total", [None, pytest.param(20, marks=pytest.mark.slow)])
def test_greedy_equals_generate_prompt_by_prompt(model, total, monkeypatch):
    prompts = [*random_prompts(20), *random_prompts(4)]
    limits = [18 if total is None else min(18, total - len(prompt)) for prompt in prompts]
    expected = [generated(model, *row) for row in zip(prompts, limits, strict=True)]
    assert decodes(model)
    passes = watched(model, monkeypatch)
    for budget in (1, 60, 140, 10_000):
        settings = GenerationSettings(
            max_new_tokens=18, max_total_tokens=total, batch_tokens=budget
        )
        del passes[:]
        answers = LocalEngine(model, TOKENIZER).answer(prompts, settings)
        assert [list(answer.tokens) for answer in answers] == expected
        reads = [rows for rows, tokens, _ in passes if tokens > 1]
        assert budget > 140 or len(reads) > 3, "others took the place of those that had ended"
        assert all(rows == 1 or rows * columns <= budget for rows, _, columns in passes)


def test_draws_are_those_of_each_row_alone(model):
    prompts = [*random_prompts(12), *random_prompts(12)]
    shape = {"max_new_tokens": 18, "sampling_temperature": 1.2, "top_p": 0.95}
    engine = LocalEngine(model, TOKENIZER)
    alone = [
        engine.answer([prompt], GenerationSettings(**shape), seed=seed)[0].tokens
        for seed, prompt in enumerate(prompts)
    ]
    assert len({len(tokens) for tokens in alone}) > 3
    for budget in (60, 140, 10_000):
        settings = GenerationSettings(**shape, batch_tokens=budget)
        answers = engine.answer(prompts, settings, seed=range(24))
        assert [answer.tokens for answer in answers] == alone


@pytest.mark.parametrize("budget", [100, 10_000])
def test_a_prompt_with_several_samples_is_read_once(budget, monkeypatch):
    model = llama().eval()
    model.generation_config.eos_token_id = STOPS
    prompts = [[5, 6, 7], [8, 3], [11, 12, 13, 14], [9, 9, 7]]
    asked = [prompt for prompt in prompts for _ in range(8)]
    passes = watched(model, monkeypatch)
    settings = GenerationSettings(max_new_tokens=12, sampling_temperature=1.0, batch_tokens=budget)
    answers = LocalEngine(model, TOKENIZER).answer(asked, settings, seed=range(32))
    assert sum(rows for rows, tokens, _ in passes if tokens > 1) == len(prompts)
    assert all(len({a.tokens for a in answers[i : i + 8]}) > 3 for i in range(0, 32, 8))


def test_shorter_prompts_are_more_at_a_time(monkeypatch):
    model = llama().eval()
    model.generation_config.eos_token_id = None
    passes = watched(model, monkeypatch)
    settings = GenerationSettings(max_new_tokens=8, batch_tokens=80)
    prompts = [[5] * 32, *([6] * 12 for _ in range(4)), *([number, 7] for number in range(3, 11))]
    LocalEngine(model, TOKENIZER).answer(prompts, settings)
    rows = [rows for rows, tokens, _ in passes if tokens == 1]
    assert rows[0] == 2 and max(rows) > 4


def way(monkeypatch, name):
    if name == "halving":
        monkeypatch.setattr(local, "decodes", lambda model: False)


@pytest.mark.parametrize("name", ["refill", "halving"])
@pytest.mark.parametrize("temperature", [0.0, 1.6])
def test_log_probabilities_are_the_models_own(monkeypatch, name, temperature):
    model = padded_llama().eval()
    model.generation_config.eos_token_id = STOPS
    way(monkeypatch, name)
    settings = GenerationSettings(
        max_new_tokens=12, sampling_temperature=temperature, top_k=9, batch_tokens=70,
        max_total_tokens=15, logprobs=True,
    )  # fmt: skip
    prompts = [*random_prompts(10), [5] * 15]
    answers = LocalEngine(model, TOKENIZER).answer(prompts, settings, seed=range(11))
    exact = padded_llama().double().eval()
    for prompt, answer in zip(prompts, answers, strict=True):
        row = torch.tensor([[*prompt, *answer.tokens]])
        with torch.no_grad():
            logits = exact(row).logits[0, len(prompt) - 1 : -1, :VOCAB]
        expected = logits.log_softmax(-1)[range(answer.num_tokens), list(answer.tokens)]
        assert answer.logprobs == pytest.approx(expected.tolist(), abs=1e-5)
    plain = GenerationSettings(**{**vars(settings), "logprobs": False})
    others = LocalEngine(model, TOKENIZER).answer(prompts, plain, seed=range(11))
    assert others == answers and all(answer.logprobs is None for answer in others)


def test_stop_strings_make_room_for_others():
    model = llama().eval()
    engine = LocalEngine(model, TOKENIZER)
    prompts = random_prompts(16)
    plain = engine.answer(prompts, GenerationSettings(max_new_tokens=30))
    strings = tuple(answer.text[4:6] for answer in plain if len(answer.text) > 9)[:2]
    for budget in (80, 10_000):
        settings = GenerationSettings(max_new_tokens=30, stop_strings=strings, batch_tokens=budget)
        for answer, whole in zip(engine.answer(prompts, settings), plain, strict=True):
            places = [p for string in strings if (p := whole.text.find(string)) >= 0]
            assert answer.text == whole.text[: min(places, default=None)]
            assert answer.truncated == (whole.truncated and not places)


@pytest.mark.parametrize("number", [0, 3, 9])
def test_all_is_restored_when_a_pass_fails(number):
    model = llama(attention_dropout=0.5).train()
    model.model.layers[0].eval()
    model.generation_config.eos_token_id = STOPS
    modes = [module.training for module in model.modules()]
    own, before = model.generation_config, torch.get_rng_state()
    passes = itertools.count()

    def fail(module, arguments):
        if next(passes) == number:
            raise KeyboardInterrupt

    handle = model.model.layers[1].register_forward_pre_hook(fail)
    settings = GenerationSettings(max_new_tokens=18, sampling_temperature=1.0, batch_tokens=60)
    with pytest.raises(KeyboardInterrupt):
        LocalEngine(model, TOKENIZER).answer(random_prompts(12), settings)
    handle.remove()
    assert [module.training for module in model.modules()] == modes
    assert model.generation_config is own and torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.is_autocast_enabled("cpu")


ROTATED = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
OTHERS = {
    "a window": lambda: MistralForCausalLM(MistralConfig(**SHAPE, **HEADS, sliding_window=4)),
    "a state": lambda: MambaForCausalLM(
        MambaConfig(vocab_size=VOCAB, hidden_size=16, state_size=4)
    ),
    "no positions": lambda: BloomForCausalLM(BloomConfig(vocab_size=VOCAB, hidden_size=16)),
    "an encoder": lambda: gpt2(add_cross_attention=True),
    "rotations that change": lambda: llama(rope_parameters=ROTATED),
}


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_what_is_special_is_left_to_generate(name):
    assert not decodes(OTHERS[name]())


def test_a_model_with_a_generation_of_its_own_is_left_to_it():
    class Own(type(llama())):
        def prepare_inputs_for_generation(self, *args, **options):
            return super().prepare_inputs_for_generation(*args, **options)

    assert decodes(llama()) and not decodes(Own(llama().config))


def test_a_joined_cache_holds_what_its_parts_hold():
    first, second = (DynamicCache() for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    for cache, rows, columns in ((first, 3, 6), (second, 2, 4)):
        cache.update(*torch.randn(2, rows, 2, columns, 3, generator=generator), 0)
    parts = [Part(first, torch.tensor([2, 0]), 3), Part(second, torch.tensor([1, 1]), 4)]
    cache = joined(parts, room=2)
    old, new = first.layers[0].keys, second.layers[0].keys
    expected = torch.cat([torch.zeros(4, 2, 4, 3)])
    expected[:2, :, 1:] = old[[2, 0]][..., 3:, :]
    expected[2:] = new[[1, 1]]
    assert torch.equal(cache.layers[0].keys, expected)
    for _ in range(2 * ROOM + 5):  # beyond its room
        more = torch.randn(4, 2, 1, 3, generator=generator)
        expected = torch.cat([expected, more], dim=-2)
        keys, values = cache.update(more, 2 * more, 0)
        assert torch.equal(keys, expected) and torch.equal(values[..., -1:, :], 2 * more)
    assert cache.get_seq_length() == expected.shape[-2]
