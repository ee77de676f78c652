"""A saved model is the model that was trained: adapters merged or not, heads tied or not."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import GPT2Config, GPT2LMHeadModel

from conftest_models import random_rows, tiny_model
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError, ModelError
from tutelage.generation import GenerationSettings, LocalEngine
from tutelage.models import load_model
from tutelage.models.adapters import (
    add_adapters,
    check_lora_targets,
    merge_adapters,
    with_adapter,
)
from tutelage.models.behaviour import behaviour, check_saved, read_behaviour, some_texts


def lora(*targets, **options):
    targets = targets[0] if targets and not isinstance(targets[0], str) else list(targets)
    values = {"rank": 2, "alpha": 8, "dropout": 0.0, "target_modules": targets or "all-linear"}
    return SimpleNamespace(**{**values, **options})


def trained(model, settings):
    """The model with adapters that say something."""
    torch.manual_seed(3)
    adapted = add_adapters(model, settings)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.5)
    return adapted.eval()


@pytest.fixture
def texts():
    return some_texts(random_rows())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "targets",
    [[], ["lm_head"], ["embed_tokens"], ["lm_head", "embed_tokens"], ["q_proj", "lm_head"]],
    ids=" ".join,
)
def test_merging_changes_nothing_that_the_model_says(tmp_path, texts, tied, targets):
    """A tied head with an adapter of its own would put its change into the embedding too."""
    model = trained(tiny_model(tie_word_embeddings=tied), lora(*targets))
    before = behaviour(model, texts)
    plain = behaviour(tiny_model(tie_word_embeddings=tied), texts)
    assert abs(before.loss - plain.loss) > 0.05
    merge_adapters(model).save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert behaviour(loaded, texts).logp == pytest.approx(before.logp, abs=1e-4)
    parted = tied and bool({"lm_head", "embed_tokens"} & set(targets))
    assert loaded.config.tie_word_embeddings is (tied and not parted)


def test_an_adapter_is_read_on_its_base(tmp_path, texts):
    model = trained(tiny_model(), lora("q_proj", "v_proj"))
    before = behaviour(model, texts)
    model.save_pretrained(tmp_path)
    loaded = with_adapter(tiny_model(), str(tmp_path))
    assert behaviour(loaded, texts).logp == pytest.approx(before.logp, abs=1e-5)
    with pytest.raises(ModelError, match=r"LoRA adapter in .* cannot be put on its Llama"):
        with_adapter(tiny_model(hidden=24), str(tmp_path))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            ["q_proj", "v_prj"],
            r"'v_prj'.*Did you mean 'v_proj'\? Known: down_proj, embed_tok",
        ),
        (["mlp"], "names 'mlp'"),
        ([], "names 'nothing'"),
        (r".*\.attn\..*", "no layer"),
        ("(", "no regular expression"),
        ("q_proj", "names 'q_proj'"),
    ],
)
def test_misspelt_targets_are_named(targets, message):
    with pytest.raises(ConfigError, match=message):
        check_lora_targets(tiny_model(), targets)


@pytest.mark.parametrize(
    "targets", ["all-linear", ["q_proj"], ["layers.0.mlp.up_proj", "lm_head"], r".*\.[qv]_proj"]
)
def test_targets_that_are_there_pass(targets):
    check_lora_targets(tiny_model(), targets)


def test_the_linear_maps_of_gpt2_count():
    config = GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1, n_positions=16)
    check_lora_targets(GPT2LMHeadModel(config), ["c_attn"])


def test_another_model_is_not_taken_for_the_saved_one(texts):
    before = behaviour(tiny_model(), texts)
    check_saved(tiny_model, before, "The student")
    other = behaviour(tiny_model(seed=5), texts).loss
    with pytest.raises(ModelError) as error:
        check_saved(lambda: tiny_model(seed=5), before, "The student")
    message = str(error.value)
    assert message.startswith("The student is not the model that was trained")
    assert f"{before.loss:.4g}" in message and f"{other:.4g}" in message


def test_rounding_to_16_bits_is_no_other_model(texts):
    before = behaviour(tiny_model(), texts)
    check_saved(lambda: tiny_model().bfloat16(), before, "The student")
    with pytest.raises(ModelError):
        check_saved(lambda: tiny_model(seed=5).bfloat16(), before, "The student")


def test_a_model_without_sense_is_not_the_same(texts):
    def broken():
        model = tiny_model()
        model.lm_head.weight.data[0, 0] = float("nan")
        return model

    with pytest.raises(ModelError, match="not the model that was trained"):
        check_saved(broken, behaviour(tiny_model(), texts), "The student")


def test_what_a_model_says_is_kept_and_leaves_it_as_it_was(tmp_path, texts):
    model = tiny_model(attention_dropout=0.5).train()
    found = behaviour(model, texts)
    assert model.training and found == behaviour(model, texts)
    found.write(tmp_path)
    assert read_behaviour(tmp_path) == found
    assert read_behaviour(tmp_path / "nowhere") is None
    assert max(map(len, texts)) <= 128 and len(texts) == 4


@pytest.fixture
def in_bfloat16():
    """A function that makes a model ready for training with products in bfloat16."""
    # One state serves a whole process: another test's, in another precision, would be refused.
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(mixed_precision="bf16").prepare_model
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("with_adapters", [False, True])
def test_the_precision_of_a_training_is_not_that_of_its_measurements(
    texts, in_bfloat16, with_adapters
):
    """Both are what their callers say, although accelerate puts autocast around ``forward``."""
    model = trained(tiny_model(), lora()) if with_adapters else tiny_model()
    before, seen = behaviour(model, texts), []
    prepared = in_bfloat16(model)
    layer = prepared.get_base_model().lm_head if with_adapters else prepared.lm_head
    layer.register_forward_hook(lambda _, given, made: seen.append(made.dtype))
    assert behaviour(prepared, texts) == before
    tokenizer = build_tokenizer()
    for precision in ("float32", "bfloat16"):
        settings = GenerationSettings(max_new_tokens=2, precision=precision)
        seen.clear()
        LocalEngine(prepared, tokenizer).answer([[5, 6, 7]], settings)
        assert set(seen) == {getattr(torch, precision)}
    seen.clear()
    prepared(input_ids=torch.tensor([[5, 6, 7]]))
    assert set(seen) == {torch.bfloat16}
