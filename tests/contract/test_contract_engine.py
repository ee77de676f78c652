"""What every engine must keep, whoever runs the model."""

import pytest
import torch

from conftest_models import tiny_model
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError, DataError
from tutelage.generation import ENGINES, AskedModel, GenerationSettings, make_engine

TOKENIZER = build_tokenizer()
PROMPTS = [[5, 6, 7], [9], [4, 4, 8, 12, 3, 7], [10, 11]]
GREEDY = GenerationSettings(max_new_tokens=6)
SAMPLED = GenerationSettings(max_new_tokens=6, sampling_temperature=1.3)

OPTIONS = {"local": {}}
"""What each engine is given to reach the tiny model."""


def test_every_row_has_its_options():
    assert set(OPTIONS) == set(ENGINES)


@pytest.fixture(params=sorted(ENGINES))
def engine(request, tmp_path):
    model = tiny_model(seed=3, vocab=len(TOKENIZER)).eval()
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    asked = AskedModel(str(tmp_path), lambda: model, TOKENIZER)
    return make_engine(request.param, OPTIONS[request.param], asked)


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_an_answer_says_what_it_is(engine, settings):
    answers = engine.answer(PROMPTS, settings, seed=5)
    assert len(answers) == len(PROMPTS)
    for answer in answers:
        assert answer.finish in ("stop", "length")
        assert answer.truncated == (answer.finish == "length")
        assert 1 <= answer.num_tokens <= settings.max_new_tokens
        assert answer.num_tokens == settings.max_new_tokens or not answer.truncated
        assert answer.seed == 5
        if answer.tokens:
            assert len(answer.tokens) == answer.num_tokens
        if answer.logprobs is not None:
            assert len(answer.logprobs) == answer.num_tokens and max(answer.logprobs) <= 0


def test_answers_come_in_the_order_of_the_prompts(engine):
    alone = [engine.answer([prompt], GREEDY)[0] for prompt in PROMPTS]
    assert engine.answer(PROMPTS, GREEDY) == alone
    assert engine.answer(PROMPTS[::-1], GREEDY) == alone[::-1]
    assert engine.answer([], GREEDY) == []


def test_the_seed_alone_decides_what_is_drawn(engine):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = engine.answer(PROMPTS, SAMPLED, seed=1)
    assert torch.equal(torch.get_rng_state(), before), "the global state is left alone"
    torch.manual_seed(2)
    assert engine.answer(PROMPTS, SAMPLED, seed=1) == first
    assert engine.answer(PROMPTS, SAMPLED, seed=2) != first
    assert engine.answer(PROMPTS, GREEDY, seed=1) == engine.answer(PROMPTS, GREEDY, seed=2)


def test_a_text_is_asked_as_its_tokens(engine):
    texts = ["57+36=", "9"]
    tokens = [TOKENIZER(text)["input_ids"] for text in texts]
    assert engine.answer(texts, GREEDY) == engine.answer(tokens, GREEDY)


def test_progress_ends_with_all_prompts(engine):
    calls = []
    engine.answer(PROMPTS, GREEDY, progress=lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls) and calls[-1] == (len(PROMPTS), len(PROMPTS))


@pytest.mark.parametrize("nothing", [[], ""])
def test_a_prompt_without_tokens_is_refused(engine, nothing):
    with pytest.raises(DataError, match="Prompt 1 has no tokens"):
        engine.answer([[5], nothing], GREEDY)


def test_an_unknown_engine_is_named():
    with pytest.raises(ConfigError, match="Did you mean 'local'"):
        make_engine("locale", {}, AskedModel("", lambda: None, TOKENIZER))
