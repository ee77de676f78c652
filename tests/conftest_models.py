"""Tiny models and rows for tests."""

import datasets
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

VOCAB = 32


def tiny_model(seed=0, hidden=16, layers=2, vocab=VOCAB, **options):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        **options,
    )
    return LlamaForCausalLM(config)


def random_rows(count=24, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        prompt = rng.integers(3, VOCAB, rng.integers(2, 6)).tolist()
        answer = rng.integers(3, VOCAB, rng.integers(1, 8)).tolist()
        rows.append(
            {
                "id": f"r{number:03d}",
                "input_ids": prompt + answer,
                "labels": [-100] * len(prompt) + answer,
            }
        )
    return datasets.Dataset.from_list(rows)
