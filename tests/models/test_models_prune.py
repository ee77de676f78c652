import copy
import itertools

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tutelage.errors import ConfigError, ModelError
from tutelage.models.prune import keep_layers
from tutelage.models.shorten import layer_indices

VOCAB, LAYERS = 40, 6
SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "bos_token_id": None,
    "eos_token_id": None,
    "initializer_range": 0.3,
}


def make(kind: str):
    """A random model whose layers matter: weights large enough that each changes the output."""
    torch.manual_seed(0)
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=False))
    if kind == "qwen2":
        sliding = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 3}
        return Qwen2ForCausalLM(Qwen2Config(**SMALL, **sliding, tie_word_embeddings=True))
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB,
            n_embd=16,
            n_layer=LAYERS,
            n_head=2,
            n_positions=64,
            bos_token_id=None,
            eos_token_id=None,
            initializer_range=0.3,
        )
    )


@pytest.fixture(params=["llama", "qwen2", "gpt2"])
def model(request):
    return make(request.param).eval()


def layers_of(model) -> nn.ModuleList:
    return model.transformer.h if isinstance(model, GPT2LMHeadModel) else model.model.layers


@torch.no_grad()
def logits(model, ids):
    return model(input_ids=ids).logits


@pytest.fixture
def ids():
    return torch.randint(0, VOCAB, (2, 9), generator=torch.Generator().manual_seed(0))


@given(st.integers(1, 200), st.data())
def test_indices_are_distinct_rising_and_evenly_spaced(total, data):
    num_layers = data.draw(st.integers(1, total))
    kept = layer_indices(total, num_layers)
    assert len(kept) == num_layers and kept[0] == 0
    gaps = [b - a for a, b in itertools.pairwise(kept)]
    assert all(gap >= 1 for gap in gaps)
    if num_layers >= 2:
        assert kept[-1] == total - 1
        assert max(gaps) - min(gaps) <= 1


def test_indices_by_hand():
    assert layer_indices(30, 10) == [0, 3, 6, 10, 13, 16, 19, 23, 26, 29]
    assert layer_indices(6, 1) == [0]
    assert layer_indices(6, 2) == [0, 5]
    assert layer_indices(4, 4) == [0, 1, 2, 3]


def test_the_student_is_the_teacher_without_the_other_layers(model, ids):
    student = keep_layers(model, 3)
    # The same function by another road: run the teacher with the other layers as identities.
    kept = layer_indices(LAYERS, 3)
    bypassed = copy.deepcopy(model)
    for index, layer in enumerate(layers_of(bypassed)):
        if index not in kept:
            layer.forward = lambda hidden_states, *args, **kwargs: hidden_states
    torch.testing.assert_close(logits(student, ids), logits(bypassed, ids), rtol=0, atol=0)
    assert student.config.num_hidden_layers == 3
    assert len(layers_of(student)) == 3


def test_the_given_model_is_left_as_it_was(model, ids):
    before = logits(model, ids)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    student = keep_layers(model, 2)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert model.config.num_hidden_layers == LAYERS
    assert len(layers_of(model)) == LAYERS
    assert all(torch.equal(weights[name], t) for name, t in model.state_dict().items())
    assert torch.equal(logits(model, ids), before)


def test_all_layers_give_an_equal_model(model, ids):
    assert torch.equal(logits(keep_layers(model, LAYERS), ids), logits(model, ids))


@pytest.mark.parametrize("num_layers", [1, 3])
def test_saved_and_loaded_it_is_the_same(model, ids, tmp_path, num_layers):
    student = keep_layers(model, num_layers)
    student.save_pretrained(tmp_path)
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert loaded.config.num_hidden_layers == num_layers
    assert torch.equal(logits(loaded, ids), logits(student, ids))


def test_generation_with_cache_equals_generation_without(model, ids):
    student = keep_layers(model, 3)
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    with_cache = student.generate(ids, use_cache=True, **options)
    without = student.generate(ids, use_cache=False, **options)
    assert torch.equal(with_cache, without)
    # Step by step as well: each layer must find its own place in the cache.
    with torch.no_grad():
        start = student(input_ids=ids[:, :5], use_cache=True)
        rest = student(input_ids=ids[:, 5:], past_key_values=start.past_key_values)
    torch.testing.assert_close(rest.logits, logits(student, ids)[:, 5:], rtol=1e-4, atol=1e-5)


def test_tied_weights_stay_tied():
    for kind, tied in (("llama", False), ("qwen2", True), ("gpt2", True)):
        student = keep_layers(make(kind), 2)
        embedding = student.get_input_embeddings().weight
        assert (student.get_output_embeddings().weight is embedding) == tied


def test_lists_with_one_entry_for_each_layer_follow():
    model = make("qwen2")
    assert model.config.layer_types == ["full_attention"] * 3 + ["sliding_attention"] * 3
    student = keep_layers(model, 3)  # layers 0, 3 and 5
    assert student.config.layer_types == [
        "full_attention",
        "sliding_attention",
        "sliding_attention",
    ]


def test_the_dtype_and_training_mode_stay():
    student = keep_layers(make("llama").to(torch.bfloat16).train(), 2)
    assert {parameter.dtype for parameter in student.parameters()} == {torch.bfloat16}
    assert student.training
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize("num_layers", [0, -1, LAYERS + 1])
def test_impossible_numbers(num_layers):
    with pytest.raises(ConfigError, match=rf"{num_layers} layers cannot .* from 1 to {LAYERS}"):
        keep_layers(make("llama"), num_layers)


def test_layers_that_are_not_found():
    model = make("llama")
    model.config.num_hidden_layers = 5
    with pytest.raises(ModelError, match="layers of a LlamaForCausalLM were not found"):
        keep_layers(model, 2)


# ---- architectures whose layers are of several kinds -------------------------------------------

KINDS = {name: value for name, value in SMALL.items() if name != "num_hidden_layers"}
KINDS |= {"num_hidden_layers": 8, "pad_token_id": 0, "max_position_embeddings": 64}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
CONFIGS = {
    "lfm2": lambda: transformers.Lfm2Config(
        **KINDS,
        layer_types=["conv", "conv", "full_attention", "conv"] * 2,
        block_auto_adjust_ff_dim=False,
    ),
    "qwen3_next": lambda: transformers.Qwen3NextConfig(
        **KINDS, **DELTA, **EXPERTS, head_dim=8, shared_expert_intermediate_size=8
    ),
    "jamba": lambda: transformers.JambaConfig(
        **KINDS,
        attn_layer_period=4,
        attn_layer_offset=2,
        num_experts=2,
        num_experts_per_tok=1,
        mamba_d_state=4,
        mamba_dt_rank=2,
        use_mamba_kernels=False,
    ),
    "granite": lambda: transformers.GraniteMoeHybridConfig(
        **KINDS,
        **MAMBA,
        layer_types=["mamba", "mamba", "mamba", "attention"] * 2,
        shared_intermediate_size=16,
        num_local_experts=0,
        num_experts_per_tok=0,
    ),
    "bamba": lambda: transformers.BambaConfig(**KINDS, **MAMBA, attn_layer_indices=[2, 5]),
    "nemotron_h": lambda: transformers.NemotronHConfig(
        **{name: value for name, value in KINDS.items() if name != "num_hidden_layers"},
        layers_block_type=["mamba", "mlp", "attention", "mlp"] * 2,
        mamba_num_heads=4,
        mamba_head_dim=8,
        ssm_state_size=4,
        n_groups=1,
        head_dim=8,
        use_mamba_kernels=False,
    ),
    "smollm3": lambda: transformers.SmolLM3Config(**KINDS),
    "gemma3": lambda: transformers.Gemma3TextConfig(**KINDS, head_dim=8, sliding_window=3),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
        **KINDS, **EXPERTS, head_dim=8, decoder_sparse_step=2, mlp_only_layers=[3]
    ),
    "glm4_moe": lambda: transformers.Glm4MoeConfig(
        **KINDS,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=8,
        first_k_dense_replace=3,
        head_dim=8,
        n_group=1,
        topk_group=1,
    ),
    "gpt_neo": lambda: transformers.GPTNeoConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        num_layers=8,
        num_heads=2,
        attention_types=[[["global", "local"], 4]],
        window_size=3,
        max_position_embeddings=64,
    ),
    "llama4": lambda: transformers.Llama4TextConfig(
        **KINDS,
        head_dim=8,
        intermediate_size_mlp=24,
        num_local_experts=2,
        num_experts_per_tok=1,
        interleave_moe_layer_step=2,
        attention_chunk_size=4,
    ),
}


def of_kinds(name):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()


@pytest.mark.parametrize(
    ("name", "refused", "works"),
    [
        ("lfm2", {1: "(0)", 2: "(0, 7)", 3: "(0, 4, 7)"}, "4 to 8"),
        ("qwen3_next", {1: "(0)"}, "2 to 8"),
        ("jamba", {1: "(0)", 2: "(0, 7)", 3: "(0, 4, 7)"}, "8"),
        ("granite", {1: "(0)"}, "2 to 8"),
        ("bamba", {1: "(0)", 6: "(0, 1, 3, 4, 6, 7)"}, "4, 5, 7, 8"),
        ("nemotron_h", {2: "(0, 7)"}, "4 to 8"),
    ],
)
def test_a_hybrid_keeps_some_attention(name, refused, works):
    """Without any it can be trained, and fails when it is asked to write."""
    model = of_kinds(name)
    for number, kept in refused.items():
        with pytest.raises(ModelError) as error:
            keep_layers(model, number)
        message = str(error.value)
        assert f"none of the layers that would be kept {kept} has attention" in message
        assert message.endswith(f"Numbers of layers that work: {works}.")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("lfm2", 4),
        ("qwen3_next", 2),
        ("jamba", 8),
        ("granite", 3),
        ("bamba", 5),
        ("nemotron_h", 4),
        ("smollm3", 3),
        ("gemma3", 4),
        ("qwen3_moe", 3),
        ("qwen3_moe", 6),
        ("glm4_moe", 4),
        ("gpt_neo", 3),
        ("llama4", 3),
    ],
)
@torch.no_grad()
def test_kinds_of_layers_are_cut_along(name, number, ids, tmp_path):
    """What is loaded again has the same kinds in the same places, and writes."""
    student = keep_layers(of_kinds(name), number)
    student.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    # To rounding: processors add up in an order that hangs on where an array lies.
    torch.testing.assert_close(logits(loaded, ids), logits(student, ids), rtol=0, atol=1e-5)
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    written = loaded.generate(ids, attention_mask=torch.ones_like(ids), **options)
    assert written.shape == (2, 13)


def test_layers_that_differ_by_position():
    """Of eight layers every second has experts: of 0, 2, 5 and 7 no rule of Jamba's says that."""
    with pytest.raises(ModelError, match=r"differ by position.*Numbers of layers that work: 8\."):
        keep_layers(of_kinds("jamba"), 4)


def test_layers_that_share_weights():
    config = transformers.Zamba2Config(
        **KINDS,
        mamba_d_state=4,
        mamba_headdim=8,
        n_mamba_heads=4,
        mamba_ngroups=1,
        num_mem_blocks=1,
        layers_block_type=["mamba", "hybrid", "mamba", "mamba"] * 2,
        use_mamba_kernels=False,
    )
    with pytest.raises(ModelError, match=r"layers 1 and 5 share weights. No number"):
        keep_layers(transformers.Zamba2ForCausalLM(config), 7)


def test_a_model_without_attention_anywhere_is_cut_as_any(ids):
    config = transformers.MambaConfig(
        vocab_size=VOCAB, hidden_size=16, num_hidden_layers=4, state_size=4
    )
    student = keep_layers(transformers.MambaForCausalLM(config), 2)
    assert logits(student, ids).shape == (2, 9, VOCAB)
