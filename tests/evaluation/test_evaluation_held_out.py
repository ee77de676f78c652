"""Held-out text against whole arrays of logits, and texts that are longer than a window."""

import json
import math

import numpy as np
import pytest
import torch

from conftest_models import tiny_model
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError, DataError, ModelError
from tutelage.evaluation import Suite, bound_metrics, evaluate_suite, make_suite
from tutelage.evaluation.held_out import _cut
from tutelage.evaluation.token_sums import BINS, calibration_error
from tutelage.generation import GenerationSettings, LocalEngine
from tutelage.statistics import bootstrap_sums

TOKENIZER = build_tokenizer()
TEXTS = ["12+34=46", "7+8=15#15", "1+1=2+3=5#5", "99"]
ASKED = Suite(
    "asked", bound_metrics({"rouge_l": {}}), generation=GenerationSettings(batch_tokens=24)
)


@pytest.fixture
def model():
    return tiny_model(seed=1, vocab=len(TOKENIZER) + 5)


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "held_out.jsonl"
    path.write_text(
        "".join(json.dumps({"text": text, "domain": text[:1]}) + "\n" for text in TEXTS)
    )
    return path


def found_by(kind, model, path, **options):
    suite = make_suite(kind, {"data": str(path), **options}, ASKED)
    return evaluate_suite(LocalEngine(model, TOKENIZER), suite.questions(), suite)


@torch.no_grad()
def slow(model, text, teacher=None):
    """One text in one piece with all of its logits, in float64."""
    ids = [TOKENIZER.bos_token_id or TOKENIZER.eos_token_id]
    ids += TOKENIZER(text, add_special_tokens=False)["input_ids"]
    q, p = (
        (one or model).eval()(torch.tensor([ids])).logits[0, :-1, : len(TOKENIZER)].double()
        .log_softmax(-1) for one in (model, teacher)
    )  # fmt: skip
    targets = torch.tensor(ids[1:])
    return {
        "nll": -q[range(len(targets)), targets].sum().item(),
        "entropy": -(q.exp() * q).sum().item(),
        "top1": (q.argmax(-1) == targets).sum().item(),
        "forward_kl": (p.exp() * (p - q)).sum().item(),
        "reverse_kl": (q.exp() * (q - p)).sum().item(),
        "agreement": (q.argmax(-1) == p.argmax(-1)).sum().item(),
        "tokens": len(targets),
        "confidence": q.max(-1).values.exp().numpy(),
        "hits": (q.argmax(-1) == targets).numpy(),
    }


def test_means_are_over_all_tokens(model, texts):
    found = found_by("perplexity", model, texts)
    parts = [slow(model, text) for text in TEXTS]
    tokens = sum(part["tokens"] for part in parts)
    for name in ("nll", "entropy", "top1"):
        mean = sum(part[name] for part in parts) / tokens
        assert found.scores[name].mean == pytest.approx(mean, rel=1e-5)
        assert found.scores[name].seeds == (pytest.approx(mean, rel=1e-5),)
    nats = sum(part["nll"] for part in parts)
    size = sum(len(text.encode()) for text in TEXTS)
    assert found.scores["bits_per_byte"].mean == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert found.scores["perplexity"].mean == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    own = found.example_scores["nll"]
    for question, part in zip(found.questions, parts, strict=True):
        assert own[question.id] == pytest.approx(part["nll"] / part["tokens"], rel=1e-5)
    by_domain = [part for part, text in zip(parts, TEXTS, strict=True) if text[0] == "1"]
    mean = sum(part["nll"] for part in by_domain) / sum(part["tokens"] for part in by_domain)
    assert found.scores["nll"].groups["1"] == pytest.approx(mean, rel=1e-5)


def test_calibration_is_the_gap_of_confidence_and_hits(model, texts):
    found = found_by("perplexity", model, texts)
    parts = [slow(model, text) for text in TEXTS]
    confidence = np.concatenate([part["confidence"] for part in parts])
    hits = np.concatenate([part["hits"] for part in parts])
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    expected = sum(
        (bins == b).mean() * abs(hits[bins == b].mean() - confidence[bins == b].mean())
        for b in set(bins.tolist())
    )
    assert found.scores["ece"].mean == pytest.approx(expected, rel=1e-5)
    certain = np.zeros((1, BINS, 3))
    certain[0, -1] = [10, 10, 5]  # sure of all ten tokens, right about five
    assert calibration_error(certain).tolist() == [0.5]


def test_a_model_of_no_numbers_is_refused(model, texts, tmp_path):
    torch.nn.init.constant_(model.lm_head.weight[3], float("nan"))
    with pytest.raises(ModelError, match="no numbers"):
        found_by("perplexity", model, texts)


def test_against_a_teacher(model, texts, tmp_path, monkeypatch):
    teacher = tiny_model(seed=2, vocab=len(TOKENIZER))
    monkeypatch.setattr("tutelage.models.load.load_model", lambda place, **how: teacher)
    monkeypatch.setattr("tutelage.models.load.load_tokenizer", lambda place: TOKENIZER)
    found = found_by("agreement", model, texts, teacher="its/name")
    parts = [slow(model, text, teacher) for text in TEXTS]
    tokens = sum(part["tokens"] for part in parts)
    for name in ("forward_kl", "reverse_kl", "agreement", "nll"):
        mean = sum(part[name] for part in parts) / tokens
        assert found.scores[name].mean == pytest.approx(mean, rel=1e-4)
    assert next(iter(found.scores)) == "forward_kl"


def test_a_teacher_with_another_tokenizer_is_refused(model, texts, tmp_path):
    with pytest.raises(ModelError, match="tokenizer"):
        from tokenizers import Tokenizer, models
        from transformers import PreTrainedTokenizerFast

        other = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1}, "a")), eos_token="b"
        )
        tiny_model(vocab=2).save_pretrained(tmp_path / "other")
        other.save_pretrained(tmp_path / "other")
        found_by("agreement", model, texts, teacher=str(tmp_path / "other"))


def test_answers_alone_are_scored_after_their_prompts(model, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "12+34=", "completion": "46"}) + "\n")
    found = found_by("perplexity", model, path)
    whole, prompt = (slow(model, text) for text in ("12+34=46", "12+34="))
    tokens = whole["tokens"] - prompt["tokens"]
    # The prompt is read as any text is.
    ids = TOKENIZER("12+34=46")["input_ids"]
    with torch.no_grad():
        logp = model.eval()(torch.tensor([ids])).logits[0, :, : len(TOKENIZER)].log_softmax(-1)
    places = range(len(ids) - tokens, len(ids))
    expected = -sum(logp[place - 1, ids[place]].item() for place in places) / tokens
    assert found.scores["nll"].mean == pytest.approx(expected, rel=1e-5)


def test_every_token_is_scored_once_whatever_the_window():
    tokens = list(range(50, 90))
    for start in (1, 3, 20, 39):
        for length in (2, 3, 7, 40, 100):
            rows = _cut(tokens, start, length)
            scored = [label for row in rows for label in row["labels"] if label >= 0]
            assert scored == tokens[start:]
            for row in rows:
                assert len(row["input_ids"]) <= length and row["labels"][0] < 0
                given = zip(row["input_ids"], row["labels"], strict=True)
                assert all(label in (token, -100) for token, label in given)
    (row,) = _cut(tokens, 39, 20)
    assert row["input_ids"] == tokens[20:], "as much of what comes before as fits"


def test_a_long_text_is_read_in_windows_of_the_model(tmp_path):
    model = tiny_model(seed=1, vocab=len(TOKENIZER))
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"text": "1+2=3" * 40}) + "\n")  # 64 positions, 200 tokens
    found = found_by("perplexity", model, path)
    assert "200 tokens" in found.samples[0][0].answer
    assert found_by("perplexity", model, path, max_length=10).scores["nll"].mean != pytest.approx(
        found.scores["nll"].mean
    )


def test_an_engine_elsewhere_has_no_probabilities(texts):
    suite = make_suite("perplexity", {"data": str(texts)}, ASKED)

    class Elsewhere:
        chats = False

    with pytest.raises(ConfigError, match="a model that is on this machine"):
        evaluate_suite(Elsewhere(), suite.questions(), suite)
    likely = make_suite("strategyqa", {"data": str(texts), "way": "likelihood"}, ASKED)
    with pytest.raises(ConfigError, match="way=generate"):
        likely.measure.reader(Elsewhere(), likely)


def test_a_text_without_tokens_is_refused(model, tmp_path):
    path = tmp_path / "empty.jsonl"
    path.write_text(json.dumps({"text": "   "}) + "\n")
    with pytest.raises(DataError, match=r"line 1.*'text' is empty"):
        found_by("perplexity", model, path)


def test_sums_are_resampled_with_their_sizes():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 100, 60).astype(float)
    sums = np.stack([sizes * rng.normal(2.0, 0.5, 60), sizes], axis=1)
    ratio = lambda s: s[:, 0] / s[:, 1]  # noqa: E731
    found = bootstrap_sums(sums, ratio, resamples=500)
    assert found.mean == pytest.approx(sums[:, 0].sum() / sizes.sum())
    draws = np.random.default_rng(0).integers(0, 60, size=(500, 60))
    expected = np.quantile(sums[draws, 0].sum(1) / sums[draws, 1].sum(1), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    together = bootstrap_sums(sums, ratio, clusters=[str(n // 30) for n in range(60)])
    assert together.mean == pytest.approx(found.mean)
    assert not bootstrap_sums(sums[:1], ratio).known
