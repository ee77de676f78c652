"""Generated answers: the same in any batch, seeded, limited, and nothing left changed behind."""

import copy
import itertools
import logging
import math
import warnings

import pytest
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from conftest_models import tiny_model
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError, DataError
from tutelage.generation import Answer, GenerationSettings, LocalEngine, halving
from tutelage.generation.engines import local
from tutelage.generation.rows import rows_of

TOKENIZER = build_tokenizer()
PROMPTS = [[5, 6, 7], [9], [4, 4, 8, 12, 3, 7], [10, 11], [3, 5], [17, 16, 15, 14], [7, 7, 7]]
GREEDY = GenerationSettings(max_new_tokens=10)
LONG = GenerationSettings(max_new_tokens=20)
SAMPLED = GenerationSettings(max_new_tokens=10, sampling_temperature=1.3, top_p=0.95, top_k=12)


def llama(**options):
    model = tiny_model(seed=3, vocab=len(TOKENIZER), **options).eval()
    model.generation_config.eos_token_id = None
    return model


def gpt2():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(TOKENIZER),
        n_positions=24,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=1,
    )
    return GPT2LMHeadModel(config).eval()


def mistral(sliding_window):
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        sliding_window=sliding_window,
        initializer_range=0.3,
    )
    return MistralForCausalLM(config).eval()


@torch.no_grad()
def slow_greedy(model, prompt, limit, stop=TOKENIZER.eos_token_id):
    """One token at a time, without a cache, padding or `generate`."""
    tokens = list(prompt)
    for _ in range(limit):
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        if tokens[-1] == stop:
            break
    return tokens[len(prompt) :]


def mixture():
    """A mixture of experts whose configuration asks for its routers' loss, as training wants it."""
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
        initializer_range=0.3,
        output_router_logits=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    return MixtralForCausalLM(config).eval()


@pytest.fixture(params=["refill", "halving"])
def way(request, monkeypatch):
    """Either way to continue prompts: with rows that come and go, or with `generate`."""
    if request.param == "halving":
        monkeypatch.setattr(local, "decodes", lambda model: False)
    return request.param


@pytest.mark.parametrize("build", [llama, gpt2, mixture])
def test_greedy_in_batches_equals_one_token_at_a_time(build, way):
    model = build()
    expected = [slow_greedy(model, prompt, 10) for prompt in PROMPTS]
    for batch_tokens in (1, 40, 10_000):
        settings = GenerationSettings(max_new_tokens=10, batch_tokens=batch_tokens)
        answers = LocalEngine(model, TOKENIZER).answer(PROMPTS, settings)
        assert [a.num_tokens for a in answers] == [len(tokens) for tokens in expected]
        assert [a.text for a in answers] == [
            TOKENIZER.decode(tokens, skip_special_tokens=True) for tokens in expected
        ]
        ends = [tokens[-1] != TOKENIZER.eos_token_id for tokens in expected]
        assert [a.truncated for a in answers] == ends
    assert getattr(model.config, "output_router_logits", True)  # as it was


def counting_model():
    """A Llama that counts: after token k comes token k + 1."""
    size = len(TOKENIZER)
    model = llama(hidden=size + size % 2)
    width = model.config.hidden_size
    for layer in model.model.layers:
        nn.init.zeros_(layer.self_attn.o_proj.weight)
        nn.init.zeros_(layer.mlp.down_proj.weight)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size, width))
        model.lm_head.weight.copy_(10 * torch.eye(size, width).roll(1, 0))
    return model


def test_stops_at_every_end_token_and_counts_it(way):
    model = counting_model()
    model.generation_config.eos_token_id = [6, 9]
    first, second = LocalEngine(model, TOKENIZER).answer([[3], [7, 7]], GREEDY)
    # Tokens 3, 4, 5... are the characters 0, 1, 2...; 6 and 9 end an answer and stay as text would.
    assert first == Answer("12", 3, "stop")
    assert second == Answer("5", 2, "stop")


def test_stops_at_the_end_of_a_turn_that_is_not_the_end_of_a_text():
    tokenizer = build_tokenizer()
    end = tokenizer.convert_ids_to_tokens(7)  # as base models end turns with a token of their own
    tokenizer.add_special_tokens({"additional_special_tokens": [end]})
    assert tokenizer.eos_token_id != 7
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}" + end + "{% endfor %}" + tokenizer.eos_token
    )
    answers = LocalEngine(counting_model(), tokenizer).answer([[3]], LONG)
    assert answers == [Answer("123", 4, "stop")]


def test_the_limit_truncates():
    model = counting_model()
    answers = LocalEngine(model, TOKENIZER).answer([[3]], GenerationSettings(max_new_tokens=4))
    assert answers == [Answer("1234", 4, "length")]


ENDS_AT_18 = [[first] for first in (3, 16, 10, 17, 14, 4, 12)]


@pytest.mark.parametrize("sliding_window", [None, 4])
@pytest.mark.parametrize("with_cache", [True, False])
def test_answers_of_different_length_leave_the_batch(monkeypatch, sliding_window, with_cache):
    model = counting_model() if sliding_window is None else mistral(sliding_window)
    model.generation_config.eos_token_id = 18 if sliding_window is None else [18, 4, 7]
    alone = [LocalEngine(model, TOKENIZER).answer([p], LONG)[0] for p in [*ENDS_AT_18, *PROMPTS]]
    monkeypatch.setattr(local, "decodes", lambda model: False)
    if not with_cache:
        monkeypatch.setattr(halving, "rows_of_cache", lambda cache, rows: None)
    rows = []
    generate = model.generate
    monkeypatch.setattr(
        model,
        "generate",
        lambda **options: rows.append(len(options["input_ids"])) or generate(**options),
    )
    assert LocalEngine(model, TOKENIZER).answer([*ENDS_AT_18, *PROMPTS], LONG) == alone
    assert all(later <= earlier / 2 for earlier, later in itertools.pairwise(rows))
    assert rows[0] == len(alone) and len(rows) > 2
    if sliding_window is None:
        assert [a.num_tokens for a in alone[: len(ENDS_AT_18)]] == [15, 2, 8, 1, 4, 14, 6]


@pytest.mark.parametrize("batch_tokens", [1, 1000])
def test_max_total_tokens_is_by_prompt(batch_tokens, way):
    settings = GenerationSettings(max_new_tokens=5, max_total_tokens=6, batch_tokens=batch_tokens)
    prompts = [[3], [3, 3], [3, 3, 3, 3], [3] * 6, [3] * 9]
    answers = LocalEngine(counting_model(), TOKENIZER).answer(prompts, settings)
    assert [a.text for a in answers] == ["12345", "1234", "12", "", ""]
    assert [a.num_tokens for a in answers] == [5, 4, 2, 0, 0]
    assert all(a.truncated for a in answers)


def test_the_positions_of_the_model_are_a_limit(way):
    model = gpt2()
    prompts = [[5] * 20, [6, 7], [8] * 24, [5] * 20]
    answers = LocalEngine(model, TOKENIZER).answer(prompts, GenerationSettings(max_new_tokens=100))
    expected = [slow_greedy(model, prompt, 24 - len(prompt)) for prompt in prompts]
    assert [a.num_tokens for a in answers] == [len(tokens) for tokens in expected]
    assert answers[2] == Answer("", 0, "length")


def test_seeds():
    model = llama()
    one = LocalEngine(model, TOKENIZER).answer(PROMPTS, SAMPLED, seed=1)
    assert one == LocalEngine(model, TOKENIZER).answer(PROMPTS, SAMPLED, seed=1)
    assert one != LocalEngine(model, TOKENIZER).answer(PROMPTS, SAMPLED, seed=2)
    greedy = LocalEngine(model, TOKENIZER).answer(PROMPTS, GREEDY, seed=1)
    assert greedy == LocalEngine(model, TOKENIZER).answer(PROMPTS, GREEDY, seed=2)


def test_the_global_random_state_is_neither_read_nor_changed(way):
    model = llama()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one = LocalEngine(model, TOKENIZER).answer(PROMPTS, SAMPLED, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert LocalEngine(model, TOKENIZER).answer(PROMPTS, SAMPLED, seed=1) == one


def test_top_k_one_is_greedy():
    settings = GenerationSettings(max_new_tokens=10, sampling_temperature=2.0, top_k=1)
    model = llama()
    assert LocalEngine(model, TOKENIZER).answer(PROMPTS, settings) == LocalEngine(
        model, TOKENIZER
    ).answer(PROMPTS, GREEDY)


def test_the_defaults_of_the_model_do_not_leak_in(way):
    model = llama()
    expected = LocalEngine(model, TOKENIZER).answer(PROMPTS, GREEDY)
    sampled = LocalEngine(model, TOKENIZER).answer(PROMPTS, SAMPLED, seed=1)
    model.generation_config.update(
        repetition_penalty=5.0, top_k=2, temperature=0.1, do_sample=True, max_length=4, min_length=9
    )
    assert LocalEngine(model, TOKENIZER).answer(PROMPTS, GREEDY) == expected
    assert LocalEngine(model, TOKENIZER).answer(PROMPTS, SAMPLED, seed=1) == sampled


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_left_changed(training, way):
    model = llama(attention_dropout=0.5).train(training)
    model.config.use_cache = False
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.padding_side = "right"
    own = model.generation_config
    saved = copy.deepcopy(own.to_dict()), copy.deepcopy(model.config.to_dict())
    evaluated = llama().eval()
    answers = LocalEngine(model, tokenizer).answer(PROMPTS, GREEDY)
    assert answers == LocalEngine(evaluated, tokenizer).answer(PROMPTS, GREEDY)
    assert all(module.training is training for module in model.modules())
    assert model.generation_config is own
    assert (own.to_dict(), model.config.to_dict()) == saved
    assert tokenizer.padding_side == "right"
    assert torch.is_grad_enabled()


def test_parts_kept_in_evaluation_mode_stay_there():
    model = llama().train()
    model.model.layers[0].eval()
    LocalEngine(model, TOKENIZER).answer(PROMPTS, GREEDY)
    assert model.training and not model.model.layers[0].mlp.training
    assert model.model.layers[1].mlp.training


def test_restored_after_a_failure(way, monkeypatch):
    model = llama().train()
    own = model.generation_config
    monkeypatch.setattr(model.model.layers[1], "forward", lambda *args, **more: [][0])
    with pytest.raises(IndexError):
        LocalEngine(model, TOKENIZER).answer(PROMPTS, GREEDY)
    assert model.training and model.generation_config is own


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_no_warnings(settings, way):
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    model = llama()
    model.generation_config.max_length = 99
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            LocalEngine(model, TOKENIZER).answer([*PROMPTS, [TOKENIZER.pad_token_id]], settings)
    finally:
        logger.removeHandler(handler)
    assert [r.getMessage() for r in records if r.levelno >= logging.WARNING] == []


def test_lora_is_active_and_left_as_it_was(way):
    peft = pytest.importorskip("peft")
    model = llama()
    plain = LocalEngine(model, TOKENIZER).answer(PROMPTS, GREEDY)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    assert LocalEngine(adapted, TOKENIZER).answer(PROMPTS, GREEDY) == plain
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    changed = LocalEngine(adapted, TOKENIZER).answer(PROMPTS, GREEDY)
    assert changed != plain
    merged = adapted.merge_and_unload().eval()
    assert LocalEngine(merged, TOKENIZER).answer(PROMPTS, GREEDY) == changed


def test_bfloat16_runs_in_autocast(way):
    seen = []
    model = llama()
    handle = model.model.layers[0].mlp.up_proj.register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    settings = GenerationSettings(max_new_tokens=2, precision="bfloat16")
    assert len(LocalEngine(model, TOKENIZER).answer(PROMPTS, settings)) == len(PROMPTS)
    handle.remove()
    assert set(seen) == {torch.bfloat16}
    assert model.lm_head.weight.dtype == torch.float32


def test_progress_counts_every_prompt_once(way):
    calls = []
    settings = GenerationSettings(max_new_tokens=2, max_total_tokens=7, batch_tokens=20)
    prompts = [*PROMPTS, [3] * 8]
    LocalEngine(llama(), TOKENIZER).answer(
        prompts, settings, progress=lambda done, all: calls.append((done, all))
    )
    done = [call[0] for call in calls]
    assert done == sorted(set(done)) and len(calls) > 1
    assert calls[-1] == (len(prompts), len(prompts))


def test_no_prompts():
    assert LocalEngine(llama(), TOKENIZER).answer([], GREEDY) == []


def test_a_prompt_without_tokens_is_refused():
    with pytest.raises(DataError, match="Prompt 1 has no tokens"):
        LocalEngine(llama(), TOKENIZER).answer([[5], []], GREEDY)


def test_batches_keep_the_budget():
    lengths = [3, 9, 1, 7, 7, 2, 30]
    limits = [5, 1, 5, 3, 3, 5, 5]
    prompts = [[5] * length for length in lengths]

    def batches(limits):
        rows = rows_of(prompts, limits, range(7), greedy=True)
        found = halving.batches(rows, 30, math.inf)
        return [[row.place for row in batch] for batch in found]

    found = batches(limits)
    assert sorted(i for batch in found for i in batch) == list(range(7))
    assert found[0] == [6]  # longer than the budget: a batch of its own
    for batch in found[1:]:
        width = max(lengths[i] for i in batch) + max(limits[i] for i in batch)
        assert len(batch) * width <= 30
    assert batches([0] * 7) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "`max_new_tokens` is 0"),
        ({"max_total_tokens": 0}, "`max_total_tokens` is 0"),
        ({"batch_tokens": 0}, "`batch_tokens` is 0"),
        ({"sampling_temperature": -1.0}, "`sampling_temperature`"),
        ({"sampling_temperature": float("nan")}, "`sampling_temperature`"),
        ({"sampling_temperature": 1e-30}, "`sampling_temperature`"),
        ({"sampling_temperature": 1e30}, "`sampling_temperature`"),
        ({"top_p": 0.0}, "`top_p`"),
        ({"top_k": -1}, "`top_k`"),
        ({"precision": "bfloat"}, "Did you mean 'bfloat16'"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        GenerationSettings(**options)


@pytest.mark.parametrize("fails", [False, True])
def test_frozen_weights_are_cast_once_and_stay_frozen(fails):
    model = tiny_model(seed=3, vocab=len(TOKENIZER))
    settings = GenerationSettings(max_new_tokens=6, precision="bfloat16")
    expected = LocalEngine(model, TOKENIZER).answer(PROMPTS, settings)
    model.requires_grad_(False)
    model.model.norm.requires_grad_(True)
    before = [parameter.requires_grad for parameter in model.parameters()]
    seen = []

    def watched(module, arguments):
        seen.append(all(parameter.requires_grad for parameter in module.parameters()))
        if fails and len(seen) > 2:
            raise RuntimeError("in the middle")

    model.register_forward_pre_hook(watched)
    if fails:
        with pytest.raises(RuntimeError, match="in the middle"):
            LocalEngine(model, TOKENIZER).answer(PROMPTS, settings)
    else:
        answers = LocalEngine(model, TOKENIZER).answer(PROMPTS, settings)
        assert answers == expected
    # Autocast keeps the 16-bit copies of weights that ask for gradients, and of no others.
    assert seen and all(seen)
    assert [parameter.requires_grad for parameter in model.parameters()] == before
