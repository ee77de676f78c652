"""Tiny teachers of four architectures, and stores made from them."""

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from conftest_models import VOCAB, tiny_model
from tutelage.teachers import StoreSpec


def teacher_log_probs(signal, hidden_NH, temperature):
    """All that a teacher predicts at a few tokens, as one tile."""
    tile = next(iter(signal.tiles(hidden_NH, len(hidden_NH))))
    return tile.log_probs(slice(None), temperature)


def architectures():
    """One tiny model for each way of building a head: tied, bias-free, padded, soft-capped."""
    torch.manual_seed(5)
    common = {"initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": 1}
    gpt2 = GPT2Config(vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=2, n_positions=64, **common)
    qwen = Qwen2Config(
        vocab_size=VOCAB + 8,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        **common,
    )
    gemma = Gemma2Config(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=5.0,
        **common,
    )
    return {
        "gpt2": GPT2LMHeadModel(gpt2),
        "llama": tiny_model(seed=2, hidden=24, layers=3),
        "qwen2": Qwen2ForCausalLM(qwen),
        "gemma2": Gemma2ForCausalLM(gemma),
    }


def spec_of(kind="hidden", **changes):
    values = {
        "kind": kind,
        "teacher": {"name": "tiny"},
        "tokenizer": "t",
        "vocab_size": VOCAB,
        "dtype": "float32",
        "top_k": 6 if kind == "topk" else None,
    }
    return StoreSpec(**{**values, **changes})
