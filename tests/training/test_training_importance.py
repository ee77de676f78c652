"""Answers of an earlier student count as often as the student would write them now."""

import itertools
import math

import pytest
import torch
from test_training_on_policy import TOKENIZER, WARM, logged, make, many_passes

from conftest_models import random_rows
from tutelage.errors import ConfigError
from tutelage.generation import GenerationSettings
from tutelage.recipe import load_recipe
from tutelage.training.importance import prefix_weights, with_mean_one
from tutelage.training.own_answers import OwnAnswers

END, SYMBOLS, LONGEST = 0, 3, 3


@pytest.fixture
def rows():
    return random_rows(12)


# ---- by enumeration ---------------------------------------------------------------------------


def policy(seed):
    """A distribution of the next symbol after each prefix."""
    rng = torch.Generator().manual_seed(seed)
    prefixes = itertools.chain(*(itertools.product((1, 2), repeat=n) for n in range(LONGEST)))
    return {one: torch.randn(SYMBOLS, generator=rng).double().log_softmax(-1) for one in prefixes}


def every_text():
    """All texts: one ends with END, or where it is as long as may be."""
    whole = [text for n in range(1, LONGEST + 1) for text in itertools.product(range(3), repeat=n)]
    return [t for t in whole if END not in t[:-1] and (t[-1] == END or len(t) == LONGEST)]


def logps(of, text):
    return torch.stack([of[text[:n]][symbol] for n, symbol in enumerate(text)])


@pytest.mark.parametrize("through", [False, True])
def test_old_answers_with_weights_have_the_expectation_of_new_ones(through):
    then, now = policy(1), policy(2)
    rng = torch.Generator().manual_seed(3)
    values = {}

    def value(text, place):
        """Any function of a prefix, and of the token after it where the loss looks at that."""
        known = text[: place + 1] if through else text[:place]
        return values.setdefault(known, torch.rand((), generator=rng).double())

    weighed = length = plain = stale = chance = weighed_length = 0.0
    for text in every_text():
        old, new = logps(then, text), logps(now, text)
        found = torch.stack([value(text, place) for place in range(len(text))])
        weights = prefix_weights(new, old, math.inf, through=through)
        chance += old.sum().exp()
        weighed += old.sum().exp() * (weights * found).sum()
        weighed_length += old.sum().exp() * weights.sum()
        stale += old.sum().exp() * found.sum()
        plain += new.sum().exp() * found.sum()
        length += new.sum().exp() * len(text)
    torch.testing.assert_close(chance, torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(weighed, plain, rtol=1e-12, atol=0)
    # So both sums of the loss of a step are those of new answers: the tokens too.
    torch.testing.assert_close(weighed_length, length, rtol=1e-12, atol=0)
    assert abs(stale - plain) > 0.01


def test_weights_by_hand():
    then = torch.tensor([0.5, 0.2, 0.25, 0.1]).log()
    now = torch.tensor([0.25, 0.8, 0.5, 0.3]).log()
    found = prefix_weights(now, then, 3.0)
    assert found.tolist() == pytest.approx([1.0, 0.5, 2.0, 3.0])
    # The product goes on beyond the clip: it is not of clipped ratios.
    found = prefix_weights(now.flip(0), then.flip(0), 3.0)
    assert found.tolist() == pytest.approx([1.0, 3.0, 3.0, 3.0])
    found = prefix_weights(now, then, math.inf, through=True)
    assert found.tolist() == pytest.approx([0.5, 2.0, 4.0, 12.0])
    assert len(prefix_weights(now[:0], then[:0], 2.0)) == 0


def test_the_mean_is_one_over_all_processes():
    mine = [{"weights": [torch.tensor([1.0, 3.0]), torch.tensor([2.0])]}, {"weights": []}]
    others = torch.tensor([9.0, 2.0], dtype=torch.float64)
    (first, filler) = with_mean_one(mine, lambda sums: sums + others, torch.device("cpu"))
    assert first["weights"][0].tolist() == pytest.approx([1 / 3, 1.0])
    assert first["weights"][1].tolist() == pytest.approx([2 / 3])
    assert filler["weights"] == []


# ---- in a training ----------------------------------------------------------------------------


def log_probs(model, one, temperature=1.0, of=None):
    """Of all the model's tokens after each prefix of an answer; of ``of`` as they are drawn."""
    with torch.no_grad():
        logits = model.eval()(torch.tensor([[*one.prompt, *one.tokens]])).logits[0].double()
    vocab = None if of is None else len(TOKENIZER)
    found = (logits[len(one.prompt) - 1 : -1, :vocab] / temperature).log_softmax(-1)
    return found if of is None else found[range(len(of)), list(of)]


@pytest.mark.parametrize("sampled", [False, True])
def test_a_step_is_what_its_definition_says(tmp_path, rows, sampled):
    plan, clip, temperature = many_passes(rows, on_policy=1.0), 1.5, 0.7
    settings = GenerationSettings(max_new_tokens=6, sampling_temperature=temperature)
    own = OwnAnswers(TOKENIZER, settings, reuse=4, importance=clip)
    trainer = make(
        tmp_path, rows, plan, own, learning_rate=0.05, divergence="reverse_kl", sampled=sampled
    )
    answered, expected, written = trainer.on_policy.answered, [], {}
    teacher = trainer.step_loss._teachers["teacher"].model

    def watched(of, batches):
        made = answered(of, batches)
        step, weights, losses = batches[0]["step"], [], []
        for one in trainer.on_policy.written:
            written[one.step, one.place] = log_probs(of.student, one, temperature, one.tokens)
        stale = []
        for one in trainer.on_policy.learned:
            now = log_probs(of.student, one, temperature, one.tokens)
            ratios = (now - written[one.step, one.place]).exp().tolist()
            through = [math.prod(ratios[: n + sampled]) for n in range(len(ratios))]
            found = torch.tensor([min(clip, w) for w in through]).double()
            found = torch.ones_like(found) if one.step == step else found
            weights.append(found)
            stale += [] if one.step == step else found.tolist()
            q, p = log_probs(of.student, one), log_probs(teacher, one)
            kl = (q.exp() * (q - p)).sum(-1)
            losses.append((q - p)[range(len(kl)), list(one.tokens)] if sampled else kl)
        weights, losses = torch.cat(weights), torch.cat(losses)
        expected.append((float((weights * losses).sum() / weights.sum()), stale))
        of.student.train()
        return made

    trainer.on_policy.answered = watched
    trainer.train()
    told = 0
    for row, (kd, stale) in zip(logged(tmp_path), expected, strict=True):
        assert row["kd"] == pytest.approx(kd, rel=1e-4, abs=1e-6)
        assert ("own_weight" in row) == bool(stale)
        if stale:
            square = sum(w * w for w in stale)
            assert row["own_weight"] == pytest.approx(sum(stale) / len(stale), rel=1e-4)
            effective = sum(stale) ** 2 / (len(stale) * square)
            assert row["own_effective"] == pytest.approx(effective, rel=1e-4)
            told += abs(row["own_weight"] - 1.0) > 0.05
    assert told > 3


def test_a_student_that_does_not_move_weighs_nothing(tmp_path, rows):
    plan = many_passes(rows, on_policy=1.0)
    for name, importance in (("weighed", 2.0), ("plain", None)):
        own = OwnAnswers(TOKENIZER, WARM, reuse=4, importance=importance)
        make(tmp_path / name, rows, plan, own, learning_rate=0.0).train()
    for one, other in zip(logged(tmp_path / "weighed"), logged(tmp_path / "plain"), strict=True):
        for name in ("own_weight", "own_effective"):
            assert one.pop(name, 1.0) == pytest.approx(1.0, abs=1e-5)
        words = {k: v for k, v in one.items() if isinstance(v, str)}
        assert words == {k: v for k, v in other.items() if isinstance(v, str)}
        numbers = {k: v for k, v in one.items() if k not in words}
        assert numbers == pytest.approx({k: other[k] for k in numbers}, rel=1e-4)


def test_dropout_has_no_part_in_weights(tmp_path, rows):
    from tutelage.training.importance import drawn_log_probs
    from tutelage.training.rollouts import Rollout

    plan = many_passes(rows, on_policy=1.0)
    own = OwnAnswers(TOKENIZER, WARM, reuse=4, importance=2.0)
    student = make(tmp_path, rows, plan, own).student
    student.config.attention_dropout = 0.5
    for layer in student.model.layers:
        layer.self_attn.attention_dropout = 0.5
    student.train()
    many = [Rollout("a", 0, 0, (3, 4), (5, 6, 7)), Rollout("b", 0, 1, (3,), ())]
    before = torch.get_rng_state()
    first, nothing = drawn_log_probs(student, many, own)
    assert student.training and torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(
        first.double(), log_probs(student, many[0], 1.0, many[0].tokens), rtol=1e-4, atol=1e-5
    )
    assert len(nothing) == 0


# ---- what it cannot go with --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ("{importance: 2}", "none is: set `reuse` or `adaptive`"),
        ("{importance: 2, reuse: 3, top_p: 0.9}", "`top_p` and `top_k` cut the distributions"),
        ("{importance: 2, reuse: 3, top_k: 9}", "`top_p` and `top_k` cut the distributions"),
        ("{importance: 2, reuse: 3, teacher_top_k: 9}", "the teacher draws some of the tokens"),
        ("{importance: 2, reuse: 3, sampling_temperature: 0}", "nothing is drawn"),
        ("{importance: 0.5, reuse: 3}", "greater than or equal to 1|1 or greater"),
    ],
)
def test_what_weights_cannot_go_with(changes, words):
    with pytest.raises(ConfigError, match=words):
        load_recipe("on_policy", [f"on_policy={changes}"], partial=True)


def test_the_same_from_python():
    with pytest.raises(ConfigError, match="none is: set `reuse` or `adaptive`"):
        OwnAnswers(TOKENIZER, WARM, importance=2.0)
    with pytest.raises(ConfigError, match="`importance` is the greatest weight, 1 or greater"):
        OwnAnswers(TOKENIZER, WARM, reuse=2, importance=0.5)
