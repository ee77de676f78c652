"""Passes without padding: what they give, where they are refused, and what they leave behind."""

import copy
import gc
import json
import pickle

import pytest
import torch
import transformers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from tutelage.errors import ModelError
from tutelage.models import packed_attention
from tutelage.models.head import causal_lm, response_hidden
from tutelage.models.packed_attention import use_packed_attention, uses_packed_attention
from tutelage.models.packing import packing, supports_packing

VOCAB = 31
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4}
GROUPED = {**SIZES, "num_key_value_heads": 2}
LENGTHS = (9, 4, 1, 7, 7, 12)

SUPPORTED = {
    "llama": ("Llama", GROUPED),
    "llama_eager": ("Llama", {**GROUPED, "attn_implementation": "eager"}),
    "qwen2": ("Qwen2", GROUPED),
    "qwen2_window": (
        "Qwen2",
        {**GROUPED, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "mistral_window": ("Mistral", {**GROUPED, "sliding_window": 5}),
    "gemma2": (
        "Gemma2",
        {**GROUPED, "head_dim": 8, "sliding_window": 5, "attn_logit_softcapping": 1.0},
    ),
    "gpt_oss": (
        "GptOss",
        {**GROUPED, "head_dim": 8, "sliding_window": 5, "num_local_experts": 4},
    ),
    "gpt2": ("GPT2", {"n_embd": 16, "n_head": 2, "n_positions": 40}),
}
REFUSED = {
    "mamba": ("Mamba", {"hidden_size": 16, "state_size": 4}),
    "convolution": (
        "Lfm2",
        {**GROUPED, "layer_types": ["conv", "full_attention"], "block_multiple_of": 1},
    ),
    "alibi": ("Bloom", {"hidden_size": 16, "n_head": 2}),
    "own_attention": ("Falcon", {"hidden_size": 16, "num_attention_heads": 2}),
    "chunks": (
        "Llama4",
        {
            **GROUPED,
            "head_dim": 8,
            "attention_chunk_size": 5,
            "intermediate_size_mlp": 24,
            "attn_temperature_tuning": False,
            "num_local_experts": 2,
        },
    ),
}


def make(architecture: tuple[str, dict], dtype: torch.dtype | None = None) -> nn.Module:
    """A random model of two layers whose attention has something to say, in float64 if it can be.

    Gemma 2 and gpt-oss give NaN in float64 when padding attends to nothing but padding.
    """
    name, options = architecture
    dtype = dtype or (torch.float32 if name in ("Gemma2", "GptOss") else torch.float64)
    config_class = getattr(transformers, f"{name}{'Text' * (name == 'Llama4')}Config")
    layers = "n_layer" if name in ("GPT2", "Bloom") else "num_hidden_layers"
    config = config_class(
        vocab_size=VOCAB, **{layers: 2}, bos_token_id=1, eos_token_id=2, pad_token_id=0, **options
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.to(dtype).train().apply(without_dropout)


def without_dropout(module: nn.Module) -> None:
    if isinstance(module, nn.Dropout):
        module.p = 0.0


@pytest.fixture(params=SUPPORTED)
def model(request) -> nn.Module:
    return make(SUPPORTED[request.param])


@pytest.fixture
def llama() -> nn.Module:
    return make(SUPPORTED["llama"])


@pytest.fixture
def batch() -> tuple[torch.Tensor, ...]:
    """Padded rows with prompts and answers, and one that is a filler."""
    torch.manual_seed(1)
    ids = torch.randint(3, VOCAB, (len(LENGTHS), max(LENGTHS)))
    columns = torch.arange(max(LENGTHS))
    mask = (columns < torch.tensor(LENGTHS).unsqueeze(1)).long()
    labels = ids.masked_fill((mask == 0) | (columns < 2), -100)
    return ids.masked_fill(mask == 0, 0), mask, labels


def gradients(model: nn.Module, batch, *, packed: bool) -> dict[str, torch.Tensor]:
    model.zero_grad()
    hidden_NH, _ = response_hidden(model, *batch, packed=packed)
    weights = torch.linspace(-1, 1, hidden_NH.numel(), dtype=hidden_NH.dtype)
    (hidden_NH.flatten() * weights).sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(model: nn.Module, batch, tolerance: float = 1e-9) -> None:
    expected = gradients(model, batch, packed=False)
    found = gradients(model, batch, packed=True)
    assert found.keys() == expected.keys()
    scale = max(grad.abs().max() for grad in expected.values())
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=0, atol=tolerance * scale, msg=name)


def rounding(model: nn.Module) -> float:
    """How equal two passes can be: an eager softmax is in float32 whatever the model is."""
    if next(model.parameters()).dtype == torch.float32:
        return 1e-5
    return 1e-9 if "sdpa" in model.config._attn_implementation else 1e-6


def test_states_and_targets_are_those_of_the_padded_pass(model, batch):
    hidden_NH, targets_N = response_hidden(model, *batch)
    packed_NH, packed_N = response_hidden(model, *batch, packed=True)
    assert torch.equal(packed_N, targets_N)
    torch.testing.assert_close(packed_NH, hidden_NH, rtol=0, atol=10 * rounding(model))


def test_the_model_sees_no_padding(llama, batch):
    seen = []
    llama.model.embed_tokens.register_forward_hook(lambda *a: seen.append(a[2].shape))
    response_hidden(llama, *batch, packed=True)
    assert seen == [(1, sum(LENGTHS), 16)]


def test_gradients_agree(model, batch):
    assert_same_gradients(model, batch, rounding(model))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradients_agree_when_layers_run_again_for_them(model, batch, use_reentrant):
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    if use_reentrant:
        model.enable_input_require_grads()
    assert_same_gradients(model, batch, rounding(model))


def test_gradients_agree_under_lora(llama, batch):
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(llama, lora)
    assert supports_packing(adapted)
    assert_same_gradients(adapted, batch)


def test_gradients_agree_under_ddp(llama, batch, tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    # Its gradients come from the loss, which is no part of this.
    llama.lm_head.requires_grad_(False)
    try:
        parallel = nn.parallel.DistributedDataParallel(llama)
        assert_same_gradients(parallel, batch)
    finally:
        # Freed after its group it may wait for gloo's threads for ever.
        parallel = None
        gc.collect()
        torch.distributed.destroy_process_group()


def test_autocast_changes_no_more_than_it_does_to_padded_rows(llama, batch):
    llama.float()
    exact, _ = response_hidden(llama, *batch)
    with torch.autocast("cpu", torch.bfloat16):
        padded, _ = response_hidden(llama, *batch)
        packed, _ = response_hidden(llama, *batch, packed=True)
    assert (packed - exact).norm() <= 2 * (padded - exact).norm()


def test_padding_on_the_left_keeps_the_positions_of_the_padded_pass(batch):
    gpt2 = make(SUPPORTED["gpt2"])
    rolled = [
        torch.stack([row.roll(12 - n) for row, n in zip(rows, LENGTHS, strict=True)])
        for rows in batch
    ]
    # The padding now comes before the row, and its rows of the mask attend to nothing.
    padded, _ = response_hidden(gpt2, *rolled)
    packed, _ = response_hidden(gpt2, *rolled, packed=True)
    torch.testing.assert_close(packed, padded, rtol=0, atol=1e-9)


def test_a_model_that_agrees_is_supported_and_left_as_it_was(model):
    before = model.config._attn_implementation
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    assert supports_packing(model)
    assert model.config._attn_implementation == before
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions_are_supported_too(dtype):
    for name in ("llama", "gemma2"):
        assert supports_packing(make(SUPPORTED[name], dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_mixes_rows_is_refused(name, dtype):
    model = make(REFUSED[name], dtype)
    before = model.config._attn_implementation
    assert not supports_packing(model)
    assert model.config._attn_implementation == before


def test_an_attention_that_is_not_told_its_window_is_refused():
    model = make(SUPPORTED["qwen2_window"])
    for layer in model.model.layers:
        # The window is in the padded pass's mask still.
        layer.self_attn.sliding_window = None
    assert not supports_packing(model)


def test_rows_beyond_a_window_too_long_to_try_run_padded(batch, monkeypatch):
    monkeypatch.setattr("tutelage.models.packed_attention.CHECKED_WINDOW", 4)
    model = make(SUPPORTED["mistral_window"])
    expected, _ = response_hidden(model, *batch)
    found, _ = response_hidden(model, *batch, packed=True)
    assert torch.equal(found, expected)
    assert not uses_packed_attention(model)
    with packing(model, longest=6) as packed:
        assert not packed
    response_hidden(model, *(rows[:, :5] for rows in batch), packed=True)
    assert uses_packed_attention(model)


def test_an_architecture_with_attention_of_its_own_cannot_be_packed_by_force(batch):
    with pytest.raises(ModelError, match="Ask `supports_packing` first"):
        response_hidden(make(REFUSED["own_attention"]), *batch, packed=True)


def test_generation_and_padded_passes_are_unchanged_by_packing(model, batch):
    ids, mask, _ = batch
    # Prompts of a batch are padded on the left.
    prompts = ids[:, :4].flip(1)[:4], mask[:, :4].flip(1)[:4]
    config = transformers.GenerationConfig(max_new_tokens=8, do_sample=False, pad_token_id=0)

    def answers() -> torch.Tensor:
        model.eval()
        try:
            return model.generate(prompts[0], attention_mask=prompts[1], generation_config=config)
        finally:
            model.train()

    written, (states, _) = answers(), response_hidden(model, *batch)
    gradients(model, batch, packed=True)
    assert uses_packed_attention(model)
    assert torch.equal(answers(), written)
    assert torch.equal(response_hidden(model, *batch)[0], states)


def test_saving_does_not_tell(llama, batch, tmp_path):
    response_hidden(llama, *batch, packed=True)
    llama.save_pretrained(tmp_path)
    assert "packed" not in (tmp_path / "config.json").read_text()
    assert "packed" not in json.dumps(llama.config.to_dict())
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    assert not uses_packed_attention(loaded)
    torch.testing.assert_close(
        response_hidden(loaded.train(), *batch)[0], response_hidden(llama, *batch)[0]
    )


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_can_be_packed(model, batch, duplicate):
    expected, _ = response_hidden(model, *batch, packed=True)
    other = duplicate(model)
    assert torch.equal(response_hidden(other, *batch, packed=True)[0], expected)
    assert_same_gradients(other, batch, rounding(model))


def test_a_block_that_measures_puts_the_attention_back(llama, batch):
    before = llama.config._attn_implementation
    with torch.no_grad(), packing(llama, longest=12) as packed:
        assert packed
        response_hidden(llama, *batch, packed=packed)
        assert uses_packed_attention(causal_lm(llama))
    assert llama.config._attn_implementation == before
    use_packed_attention(llama)
    with packing(llama, longest=12):
        pass
    assert uses_packed_attention(llama)
    with packing(make(REFUSED["mamba"]), longest=12) as packed:
        assert not packed


def test_packed_by_default_where_all_rows_attend_in_one_call():
    gpu, half = torch.device("cuda"), torch.bfloat16
    there = packed_attention._varlen() is not None

    def says(dtype=half, device=gpu, **config):
        shape = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1}
        shape |= {"num_key_value_heads": 2, "intermediate_size": 8, "vocab_size": 16, **config}
        model = LlamaForCausalLM(LlamaConfig(**shape))
        return packed_attention.attends_in_one_call(model, device, dtype)

    assert says() == there
    assert not says(dtype=torch.float32), "there is no such attention in 32 bits"
    assert not says(device=torch.device("cpu"))
    assert not says(attention_dropout=0.1)
    assert not says(hidden_size=48), "heads of 12 numbers"
    assert not says(head_dim=512)
    assert not says(attn_implementation="eager")


def of_each_row(
    query, key, value, ends, ends_of_keys, longest, longest_key, *, scale, window_size, enable_gqa
):
    """What torch's attention for rows of several lengths gives, row by row and by hand."""
    assert torch.equal(ends, ends_of_keys) and longest == longest_key == int(ends.diff().max())
    if enable_gqa:
        groups = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    made = []
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        q, k, v = (x[start:end].transpose(0, 1) for x in (query, key, value))
        there = torch.arange(end - start)
        back = there.unsqueeze(1) - there
        left = window_size[0] if window_size[0] >= 0 else len(there)
        hidden = (back < 0) | (back > left)
        scores = (q @ k.transpose(1, 2) * scale).masked_fill(hidden, -torch.inf)
        made.append((scores.softmax(-1) @ v).transpose(0, 1))
    return torch.cat(made)


@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral_window"])
def test_one_call_for_all_rows_is_told_what_it_needs(name, batch, monkeypatch):
    names = frozenset(("window_size", "enable_gqa"))
    monkeypatch.setattr(packed_attention, "_varlen", lambda: (of_each_row, names))
    monkeypatch.setattr(packed_attention, "_one_call_takes", lambda *unused: True)
    model = make(SUPPORTED[name])
    expected, _ = response_hidden(model, *batch)
    found, _ = response_hidden(model, *batch, packed=True)
    torch.testing.assert_close(found, expected)
