import copy
import itertools

import pytest
import torch
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
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from tutelage.errors import ConfigError, ModelError
from tutelage.models.prune import keep_layers, layer_indices

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


def test_layers_that_differ_by_position():
    # Layers 1, 3 and 5 are mixtures of experts; of layers 0, 3 and 5 the configuration would make
    # number 1 alone such a mixture.
    config = Qwen2MoeConfig(
        **SMALL,
        moe_intermediate_size=8,
        shared_expert_intermediate_size=8,
        num_experts=LAYERS,
        num_experts_per_tok=2,
        decoder_sparse_step=2,
    )
    with pytest.raises(ModelError, match="differ by position"):
        keep_layers(Qwen2MoeForCausalLM(config), 3)
