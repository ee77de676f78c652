"""Small models with tokenizers of any kind, and recipes over them."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from conftest_models import tiny_model
from tutelage.doctor.patient import Patient
from tutelage.pipeline.context.display import Display
from tutelage.recipe import load_recipe

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ROWS = [{"id": str(n), "prompt": f"{n} + {n}?", "completion": str(2 * n)} for n in range(24)]


def byte_tokenizer(*, template=None, bos=None, eos="<|im_end|>", pad=None, split=None, special=()):
    """One token for each byte, with the parts that differ between families as arguments."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {symbol: number for number, symbol in enumerate([*alphabet, "20", "23", "2023"])}
    merges = [("2", "0"), ("2", "3"), ("20", "23")]
    tokenizer = Tokenizer(models.BPE(vocab, merges=merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    tokenizer.pre_tokenizer = (
        byte_level if split is None else pre_tokenizers.Sequence([split, byte_level])
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>", "<s>", *special])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad
    )
    fast.chat_template = CHATML if template == "chatml" else template
    return fast


def save(folder, tokenizer, *, rows=None, seed=1, **options):
    """A model whose head has as many rows as there are tokens, or as many as asked."""
    model = tiny_model(seed=seed, vocab=rows or len(tokenizer), **options)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def make():
    """Makes tokenizers; see ``byte_tokenizer``."""
    return byte_tokenizer


@pytest.fixture
def patient_of(tmp_path):
    """A function from two tokenizers, rows and settings to a patient."""

    def make(student, teacher=None, *, rows=ROWS, sample=0, heads=(None, None), **settings):
        save(tmp_path / "student", student, rows=heads[0])
        save(tmp_path / "teacher", teacher or student, rows=heads[1], seed=2, hidden=24)
        recipe = {
            "extends": "kld",
            "student": {"model": str(tmp_path / "student")},
            "teacher": {"model": str(tmp_path / "teacher")},
            "data": {
                "train": write(tmp_path / "rows.jsonl", rows),
                "max_length": 64,
                "max_prompt_length": 48,
                **settings.pop("data", {}),
            },
            "output": str(tmp_path / "runs"),
            "training": {"batch_size": 4, "micro_batch_size": 4},
            **settings,
        }
        return Patient(load_recipe(recipe), Display(quiet=True), sample)

    return make
