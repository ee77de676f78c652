"""Tiny saved models and tokenizers."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


@pytest.fixture(scope="session")
def make_word_tokenizer():
    """A function that makes a tokenizer with one token for each of some words."""

    def make(words, eos="<eos>") -> PreTrainedTokenizerFast:
        vocab = {word: i for i, word in enumerate([*words, "<unk>", "<eos>", "<end>"])}
        tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token=eos)

    return make


@pytest.fixture
def tiny_llama() -> LlamaForCausalLM:
    """A random Llama of two layers with 12 tokens."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=12,
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            tie_word_embeddings=False,
        )
    )


@pytest.fixture
def saved_llama(tiny_llama, make_word_tokenizer, tmp_path) -> Path:
    """The folder of a saved Llama with its tokenizer."""
    folder = tmp_path / "llama"
    tiny_llama.save_pretrained(folder)
    make_word_tokenizer(["a", "b"]).save_pretrained(folder)
    return folder
