"""Texts beyond a model's positions: one message before anything is trained, or a warning."""

import sys
from types import SimpleNamespace

import pytest
import torch
from killing import make_models, small_recipe
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, MambaConfig

from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError
from tutelage.models.positions import Positions, positions_of
from tutelage.pipeline import run
from tutelage.pipeline.stages.positions import check_length, check_room

LEARNED, ROTARY = Positions(24, fixed=True), Positions(24, fixed=False)


def test_positions_by_architecture():
    assert positions_of(GPT2Config(n_positions=24)) == LEARNED
    assert positions_of(LlamaConfig(max_position_embeddings=24)) == ROTARY
    assert positions_of(MambaConfig()) == Positions(None, fixed=False)


@pytest.fixture
def noted():
    notes = []
    return SimpleNamespace(display=SimpleNamespace(note=notes.append), notes=notes)


def test_long_examples(noted):
    for positions in (LEARNED, ROTARY, Positions(None, fixed=False)):
        check_length(noted, "the student", positions, 24, "the longest example")
    assert noted.notes == []
    with pytest.raises(ConfigError, match=r"example has 25 tokens.*24 positions.*data.max_length"):
        check_length(noted, "the student", LEARNED, 25, "the longest example")
    check_length(noted, "the student", ROTARY, 25, "the longest example")
    assert "made for 24 positions; beyond them it gets worse" in noted.notes[0]


@pytest.mark.parametrize("positions", [LEARNED, ROTARY])
def test_prompts_that_leave_little_room(noted, positions):
    check_room(noted, "test: the student", positions, [3, 16], 8)
    assert noted.notes == []
    check_room(noted, "test: the student", positions, [3, 17, 23], 8)
    assert "2 of 3 prompts leave room for less than an answer of 8 tokens" in noted.notes[0]
    with pytest.raises(ConfigError, match=r"1 prompts fill all of them.*no room for an answer"):
        check_room(noted, "test: the student", positions, [3, 24], 8)


def test_a_run_is_refused_before_anything_is_trained(tmp_path):
    make_models(tmp_path)
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=24, n_embd=16, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "student")
    with pytest.raises(ConfigError, match="the student has 24 positions and can read no more"):
        run(small_recipe(tmp_path))
    assert not list((tmp_path / "runs").glob("small-*/arms/*/student"))


def test_a_control_with_more_stages_than_updates_is_found_once_the_rows_are_counted(
    tmp_path, monkeypatch
):
    """Rows that are too long are dropped: what the recipe's numbers allow, the data may not."""
    make_models(tmp_path)
    recipe = small_recipe(tmp_path)
    recipe["data"] |= {"max_length": 26, "levels": [1, 2, 3]}
    recipe["curriculum"] = {"stages": 1, "passes": 1}
    recipe["controls"]["sft"]["curriculum"] = {"stages": 6}

    def too_late(session):
        raise AssertionError("teachers are prepared before the controls are looked at")

    # The package has a function of the module's name.
    monkeypatch.setattr(sys.modules["tutelage.pipeline.run"], "prepare_teachers", too_late)
    with pytest.raises(ConfigError, match=r"^controls.sft.curriculum.stages: 6 stages, .* makes"):
        run(recipe)


def test_a_control_with_more_stages_than_the_plan_has_updates_is_found_before_training(tmp_path):
    make_models(tmp_path)
    recipe = small_recipe(tmp_path)
    recipe["curriculum"] = {"stages": 1, "passes": 1}
    recipe["controls"]["sft"]["curriculum"] = {"stages": 6}
    with pytest.raises(ConfigError, match=r"^controls.sft.curriculum.stages: 6 stages.*makes 5,"):
        run(recipe)
    assert not list((tmp_path / "runs").glob("*/arms/*/training"))
