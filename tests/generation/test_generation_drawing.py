"""Sampling: exactly the distribution, from streams of random numbers that each row has alone."""

import copy
import itertools

import numpy as np
import pytest
import scipy.stats
import torch

from conftest_models import tiny_model
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ModelError
from tutelage.generation import GenerationSettings, LocalEngine, halving
from tutelage.generation.drawing import Chooser, private_stream
from tutelage.generation.engines import local

TOKENIZER = build_tokenizer()
SHAPES = [
    {"sampling_temperature": 1.0},
    {"sampling_temperature": 0.6},
    {"sampling_temperature": 1.7, "top_k": 5},
    {"sampling_temperature": 1.3, "top_p": 0.8},
    {"sampling_temperature": 0.9, "top_p": 0.6, "top_k": 12},
]


def distribution(logits, settings):
    """What is sampled from, written without torch and sorted another way."""
    scaled = logits.astype(np.float64) / settings.sampling_temperature
    order = np.argsort(-scaled)
    kept = order[: settings.top_k or None]
    p = np.exp(scaled[kept] - scaled.max())
    p /= p.sum()
    # The fewest of the likeliest that together reach top_p.
    enough = int(np.searchsorted(p.cumsum(), settings.top_p)) + 1
    found = np.zeros(len(logits))
    found[kept[:enough]] = p[:enough] / p[:enough].sum()
    return found


def p_value(drawn, p):
    """Of the chi-square test; 0 when a token was drawn that has no probability."""
    counts = np.bincount(drawn, minlength=len(p))
    if counts[p == 0].any():
        return 0.0
    expected = p * len(drawn)
    rare = expected < 5
    pairs = [(counts[~rare], expected[~rare]), (counts[rare].sum(), expected[rare].sum())]
    seen, wanted = (np.append(*both) for both in zip(*pairs, strict=True))
    return scipy.stats.chisquare(seen[wanted > 0], wanted[wanted > 0]).pvalue


@pytest.fixture(scope="module")
def streams():
    return torch.from_numpy(np.stack([private_stream(seed, [5, 6], 2) for seed in range(20_000)]))


@pytest.mark.parametrize("shape", SHAPES)
def test_draws_have_the_distribution(shape, streams):
    settings = GenerationSettings(**shape)
    logits = np.random.default_rng(1).normal(0, 2, 60).astype(np.float32)
    p = distribution(logits, settings)
    number = len(streams)
    choose = Chooser(settings, len(logits))
    padded = torch.from_numpy(np.append(logits, 99.0).astype(np.float32))  # the last is no token
    for place in (0, 1):  # the first and the second number of every stream
        places = torch.full((number,), place)
        drawn = choose(padded.repeat(number, 1), streams, places)[0].numpy()
        assert p_value(drawn, p) > 1e-3
        assert p_value(drawn, distribution(logits + np.arange(60) % 2 * 0.2, settings)) < 1e-6


def test_answers_have_the_distribution_of_the_model():
    model = tiny_model(seed=3, vocab=len(TOKENIZER)).eval()
    with torch.no_grad():
        logits = model(torch.tensor([[5, 6, 7]])).logits[0, -1].numpy()
    settings = GenerationSettings(
        max_new_tokens=1, sampling_temperature=1.4, top_p=0.9, batch_tokens=20_000
    )
    number = 4_000
    engine = LocalEngine(model, TOKENIZER)
    answers = engine.answer([[5, 6, 7]] * number, settings, seed=range(number))
    drawn = np.array([answer.tokens[0] for answer in answers])
    assert p_value(drawn, distribution(logits, settings)) > 1e-3


def test_extreme_numbers_of_a_stream():
    """Neither 0 nor the largest number below 1 draws a token that has no probability."""
    scores = torch.full((2, 1000), -torch.inf)
    scores[:, 300:700] = torch.randn(400, generator=torch.Generator().manual_seed(0))
    streams = torch.tensor([[0.0], [1.0 - 2.0**-53]], dtype=torch.float64)
    choose = Chooser(GenerationSettings(sampling_temperature=1.0), 1000)
    drawn, _ = choose(scores, streams, torch.zeros(2, dtype=torch.long))
    assert drawn.tolist() == [300, 699]


def test_streams_are_uniform_and_unlike_each_other():
    count = 5_000
    streams = [
        private_stream(seed, prompt, count)
        for seed, prompt in [
            (0, [1, 2]),
            (1, [1, 2]),
            (0, [12]),
            (0, [1, 2, 3]),
            (-1, []),
            (2**70, []),
        ]
    ]
    for stream in streams:
        assert stream.min() >= 0 and stream.max() < 1
        assert scipy.stats.kstest(stream, "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(stream[:-1], stream[1:])[0, 1]) < 5 / np.sqrt(count)
    for one, other in itertools.combinations(streams, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(count)
    assert private_stream(0, [1, 2], 7).tolist() == streams[0][:7].tolist()
    # A change of the stream changes all texts: how they are made is then another version.
    assert private_stream(3, [4, 5], 2).tolist() == pytest.approx(STORED, abs=0)


STORED = [0.638890734399891, 0.10768715696645315]


def test_a_text_does_not_depend_on_its_neighbours(monkeypatch):
    """Alone, in a batch, in another order, after others left the batch, with no cache: one text."""
    model = tiny_model(seed=3, vocab=len(TOKENIZER)).eval()
    model.generation_config.eos_token_id = [4, 9]
    engine = LocalEngine(model, TOKENIZER)
    rng = np.random.default_rng(2)
    prompts = [rng.integers(3, len(TOKENIZER), rng.integers(1, 7)).tolist() for _ in range(24)]
    seeds = list(range(24))
    settings = GenerationSettings(max_new_tokens=24, sampling_temperature=1.2, top_p=0.95)
    alone = [engine.answer([prompts[i]], settings, seed=i)[0].tokens for i in range(0, 24, 5)]
    monkeypatch.setattr(local, "decodes", lambda model: False)
    batches = []
    generate = model.generate
    monkeypatch.setattr(
        model,
        "generate",
        lambda **options: batches.append(len(options["input_ids"])) or generate(**options),
    )
    together = engine.answer(prompts, settings, seed=seeds)
    assert batches[0] == 24 and len(batches) > 2, "rows have left the batch"
    assert len({answer.num_tokens for answer in together}) > 3
    tokens = [answer.tokens for answer in together]
    order = rng.permutation(24)
    shuffled = engine.answer([prompts[i] for i in order], settings, seed=[seeds[i] for i in order])
    assert [answer.tokens for answer in shuffled] == [tokens[i] for i in order]
    assert alone == tokens[::5]
    monkeypatch.setattr(halving, "rows_of_cache", lambda cache, rows: None)
    assert [a.tokens for a in engine.answer(prompts, settings, seed=seeds)] == tokens
    few = GenerationSettings(**{**vars(settings), "batch_tokens": 90})
    assert [a.tokens for a in engine.answer(prompts, few, seed=seeds)] == tokens
    short = GenerationSettings(**{**vars(settings), "max_new_tokens": 5})
    for answer, whole in zip(engine.answer(prompts, short, seed=seeds), tokens, strict=True):
        assert answer.tokens == whole[:5], "a lower limit only cuts"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_of_no_numbers_is_refused(temperature):
    model = copy.deepcopy(tiny_model(seed=3, vocab=len(TOKENIZER))).eval()
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))
    settings = GenerationSettings(max_new_tokens=3, sampling_temperature=temperature)
    engine, given = LocalEngine(model, TOKENIZER), []
    with pytest.raises(ModelError, match="no numbers"):
        engine.answer([[5]], settings, on_answer=lambda *answer: given.append(answer))
    assert given == [], "nothing of it is kept"
    with pytest.raises(ModelError, match="no numbers"):
        engine.log_likelihoods(["1+1="] * 2, ["2", "3"], settings)
