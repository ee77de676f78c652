"""What every engine must keep, whoever runs the model."""

import contextlib
import copy
import sys

import pytest
import torch

import fake_vllm
from conftest_models import tiny_model
from loopback import serving
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError, DataError, MissingDependencyError
from tutelage.generation import (
    ENGINES,
    AskedModel,
    Chat,
    GenerationSettings,
    ScoringEngine,
    make_engine,
)
from tutelage.types import Message

TOKENIZER = build_tokenizer()
TOKENIZER.chat_template = (
    "{% for turn in messages %}{{ turn.content }};{% endfor %}"
    "{% if add_generation_prompt %}={% endif %}"
)
PROMPTS = [[5, 6, 7], [9], [4, 4, 8, 12, 3, 7], [10, 11]]
GREEDY = GenerationSettings(max_new_tokens=6)
SAMPLED = GenerationSettings(max_new_tokens=6, sampling_temperature=1.3)


@contextlib.contextmanager
def local(model):
    yield {}


@contextlib.contextmanager
def server(model):
    with serving(model, TOKENIZER) as running:
        yield {"base_url": running.url}


@contextlib.contextmanager
def vllm(model):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "vllm", fake_vllm)
        yield {}


REACHED = {"local": local, "server": server, "vllm": vllm}
"""What gives the options by which an engine reaches the tiny model, as long as it is asked."""


def test_an_engine_without_its_package_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vllm", None)
    asked = AskedModel(str(tmp_path), lambda: None, TOKENIZER)
    with pytest.raises(MissingDependencyError, match=r"needs a GPU.*tutelage\[vllm\].*kind: local"):
        make_engine("vllm", {}, asked)


def test_every_row_is_reached():
    assert set(REACHED) == set(ENGINES)


@pytest.fixture(scope="module")
def model():
    return tiny_model(seed=3, vocab=len(TOKENIZER)).eval()


@pytest.fixture(params=sorted(ENGINES))
def engine(request, tmp_path, model):
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    asked = AskedModel(str(tmp_path), lambda: model, TOKENIZER)
    with REACHED[request.param](model) as options:
        yield make_engine(request.param, options, asked)


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


def test_a_draw_depends_on_its_seed_and_its_prompt_alone(engine):
    prompts, seeds = [*PROMPTS, PROMPTS[0], PROMPTS[0]], [4, 5, 6, 7, 4, 8]
    answers = engine.answer(prompts, SAMPLED, seed=seeds)
    assert [answer.seed for answer in answers] == seeds
    pairs = list(zip(prompts, seeds, strict=True))
    alone = [engine.answer([prompt], SAMPLED, seed=[seed])[0] for prompt, seed in pairs]
    assert answers == alone
    assert engine.answer(prompts[::-1], SAMPLED, seed=seeds[::-1]) == alone[::-1]
    assert answers[4] == answers[0], "the same prompt with the same seed"
    samples = engine.answer([PROMPTS[0]] * 12, SAMPLED, seed=range(12))
    assert len({answer.text for answer in samples}) > 6, "several seeds are several samples"


def test_one_seed_is_for_all_or_there_is_one_for_each(engine):
    assert engine.answer(PROMPTS, SAMPLED, seed=3) == engine.answer(PROMPTS, SAMPLED, seed=[3] * 4)
    with pytest.raises(DataError, match="4 prompts came with 3 seeds"):
        engine.answer(PROMPTS, SAMPLED, seed=[1, 2, 3])


def test_every_answer_is_handed_over_once(engine):
    kept = []
    answers = engine.answer(
        PROMPTS, SAMPLED, seed=1, on_answer=lambda place, answer: kept.append((place, answer))
    )
    assert sorted(kept, key=lambda one: one[0]) == list(enumerate(answers))


def test_an_answer_ends_before_the_first_stop_string(engine):
    for plain in engine.answer(PROMPTS, GREEDY):
        for string in {plain.text[1:2], plain.text[2:4], plain.text[:1]} - {""}:
            settings = GenerationSettings(max_new_tokens=6, stop_strings=("never", string))
            answers = engine.answer(PROMPTS, settings)
            for answer, whole in zip(answers, engine.answer(PROMPTS, GREEDY), strict=True):
                assert answer.text == whole.text.partition(string)[0]
                if string in whole.text:
                    assert answer.finish == "stop" and answer.num_tokens <= whole.num_tokens
                else:
                    assert answer == whole


def test_a_text_is_asked_as_its_tokens(engine):
    texts = ["57+36=", "9"]
    tokens = [TOKENIZER(text)["input_ids"] for text in texts]
    assert engine.answer(texts, GREEDY) == engine.answer(tokens, GREEDY)


def test_a_conversation_is_asked_as_the_chat_template_writes_it(engine):
    turns = (Message("user", "3+4"), Message("assistant", "7"), Message("user", "5+1"))
    expected = engine.answer(["3+4;7;5+1;="], GREEDY)
    assert engine.answer([Chat(turns)], GREEDY) == expected
    for nothing, why in (((), "has no turns"), (turns[:2], "ends with the assistant's turn")):
        with pytest.raises(DataError, match=f"Prompt 1 is a conversation that {why}"):
            engine.answer(["9", Chat(nothing)], GREEDY)


CONTINUED = [
    ([5, 6, 7], "4+"),
    ("57+36=", "831"),
    ("57+36=", "9"),
    ("9", ";"),
    (Chat((Message("user", "3+4"),)), "7"),
    ("57+36=", "830"),
]


def test_likelihoods_are_those_of_a_direct_sum(engine, model):
    if not isinstance(engine, ScoringEngine):
        assert not hasattr(engine, "log_likelihoods"), "an engine that cannot read has no method"
        return
    prompts, texts = zip(*CONTINUED, strict=True)
    written = ["3+4;=" if isinstance(one, Chat) else one for one in prompts]
    exact = copy.deepcopy(model).double()
    calls = []
    for batch_tokens in (1, 10_000):
        settings = GenerationSettings(batch_tokens=batch_tokens)
        found = engine.log_likelihoods(
            prompts, texts, settings, progress=lambda *call: calls.append(call)
        )
        assert calls[-1] == (len(prompts), len(prompts))
        for prompt, text, likelihood in zip(written, texts, found, strict=True):
            before = TOKENIZER(prompt)["input_ids"] if isinstance(prompt, str) else prompt
            after = TOKENIZER(text)["input_ids"]
            with torch.no_grad():
                logits = exact(torch.tensor([[*before, *after]])).logits[0, len(before) - 1 : -1]
            logp = logits.log_softmax(-1)[range(len(after)), after]
            assert likelihood.logprob == pytest.approx(logp.sum().item(), rel=1e-5)
            assert likelihood.num_tokens == len(after)
            assert likelihood.greedy == (logits.argmax(-1).tolist() == after)
    (answer,) = engine.answer(["57+36="], GREEDY)
    (greedy,) = engine.log_likelihoods(["57+36="], [answer.text[:3]], GREEDY)
    assert greedy.greedy, "what greedy generation writes"


def test_what_cannot_be_scored_is_refused(engine):
    if not isinstance(engine, ScoringEngine):
        return
    assert engine.log_likelihoods([], [], GREEDY) == []
    with pytest.raises(DataError, match="Prompt 1 has no tokens"):
        engine.log_likelihoods(["9", ""], ["1", "1"], GREEDY)
    with pytest.raises(DataError, match="Continuation 1 has no tokens"):
        engine.log_likelihoods(["9", "9"], ["1", ""], GREEDY)
    with pytest.raises(DataError, match="2 prompts came with 1 continuations"):
        engine.log_likelihoods(["9", "9"], ["1"], GREEDY)


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
