"""DistiLLM's scheduler: whose text a step learns from, against the rule written out as a loop."""

import shutil
from collections import Counter, deque
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training_methods import plan_of
from test_training_on_policy import TOKENIZER, WARM, assert_alike, batch_of, logged
from test_training_trainer import config

from conftest_models import random_rows, tiny_model
from tutelage.curriculum import CurriculumOptions
from tutelage.errors import ConfigError
from tutelage.files import read_json
from tutelage.recipe import load_recipe
from tutelage.schedules import Distillm, TextState
from tutelage.training import DistillTrainer
from tutelage.training.callbacks import MetricsFile
from tutelage.training.checkpoints import checkpoint_step, checkpoints
from tutelage.training.on_policy import OnPolicySteps
from tutelage.training.own_answers import OwnAnswers
from tutelage.training.text_source import TextSource

CPU = torch.device("cpu")
RULE = {"kind": "distillm", "init": 0.6, "rise": 0.2, "epsilon": 0.01, "capacity": 8, "every": 2}


# ---- the rule --------------------------------------------------------------------------------


def as_written(epochs, before, batch, init, rise, epsilon, ratio, capacity):
    """What each step learns from, and the chance after each epoch: the method's text as a loop.

    Args:
        epochs: for each epoch the draws of its steps, and the dev loss after it.
        before: the dev loss before training.
    """
    total = sum(len(draws) for draws, _ in epochs)
    threshold, last, memory = init, before, deque(maxlen=capacity)
    count, sources, thresholds, held = 0, [], [], []
    for draws, dev in epochs:
        for r in draws:
            count += 1
            if ratio == "constant":
                generate_below = threshold * 0.5
            elif ratio == "increasing":
                generate_below = threshold * (count / total)
            else:
                generate_below = threshold * (1 - count / total)
            full = len(memory) == memory.maxlen
            if r < generate_below or (r < threshold and not full):
                sources.append("fresh")
                for place in range(batch):
                    memory.append((count - 1, place))
            elif r < threshold:
                sources.append("replayed")
            else:
                sources.append("data")
            held.append(list(memory))
        if dev >= last + epsilon:
            threshold = min(1.0, threshold + rise)
            last = dev
        thresholds.append(threshold)
    return sources, thresholds, held


UNIT = st.floats(0, 1, exclude_max=True)


@settings(max_examples=60, deadline=None)
@given(
    epochs=st.lists(st.tuples(st.lists(UNIT, min_size=1, max_size=6), UNIT), max_size=8),
    before=UNIT,
    batch=st.integers(1, 3),
    init=st.sampled_from([0.0, 0.3, 1.0]),
    rise=st.sampled_from([0.1, 0.5]),
    epsilon=st.sampled_from([0.0, 0.1]),
    ratio=st.sampled_from(["decreasing", "constant", "increasing"]),
    capacity=st.integers(3, 9),
)
def test_the_rule_is_that_of_the_text(epochs, before, batch, init, rise, epsilon, ratio, capacity):
    rule = Distillm(init=init, rise=rise, epsilon=epsilon, fresh=ratio, capacity=capacity)
    total = sum(len(draws) for draws, _ in epochs)
    state = rule.observed(rule.start(), before)
    sources, chances, held = [], [], []
    for draws, dev in epochs:
        for draw in draws:
            step = len(sources)
            sources.append(rule.source(state, (step + 1) / total, draw))
            if sources[-1] == "fresh":
                state = rule.keeping(state, [(step, place) for place in range(batch)])
            held.append(list(state.kept))
            state = TextState.of(state.as_dict())
        state = rule.observed(state, dev)
        chances.append(state.chance)
    told = as_written(epochs, before, batch, init, rise, epsilon, ratio, capacity)
    assert (sources, chances, held) == told


def test_the_chance_rises_with_a_growing_loss_alone():
    rule, state, seen = Distillm(), Distillm().start(), []
    # 2.09 is less than 0.1 above the first; after 2.15 that is the one to be exceeded.
    for loss in (2.0, 1.5, 2.09, 2.15, 2.2, 2.3, float("nan"), 9.0):
        state = rule.observed(state, loss)
        seen.append((round(state.chance, 9), state.previous))
    assert seen == [
        (0.0, 2.0), (0.0, 2.0), (0.0, 2.0), (0.1, 2.15), (0.1, 2.15), (0.2, 2.3), (0.2, 2.3),
        (0.3, 9.0),
    ]  # fmt: skip
    assert rule.observed(replace(state, chance=0.95), 20.0).chance == 1.0


# ---- along a plan ----------------------------------------------------------------------------


@pytest.fixture
def rows():
    return random_rows(12)


@pytest.fixture
def plan(rows):
    return plan_of(rows, CurriculumOptions("random", 2, passes=4), on_policy=1.0)


def test_draws_depend_on_seed_and_step_alone(plan):
    source = TextSource({**RULE, "init": 1.0, "every": "stage"}, plan, 3)
    source.observe(1.0)
    taken = [source.take(step) for step in range(plan.total_steps)]
    kinds = Counter("fresh" if keys[0][0] == step else "old" for step, keys in enumerate(taken))
    assert min(kinds.values()) >= 3 and source.asked_after == {8}
    assert all(len(set(keys)) == len(keys) == 6 for keys in taken)
    again = TextSource({**RULE, "init": 1.0}, plan, 3)
    last = plan.total_steps - 1
    again.state = source.state
    assert again.take(last) == taken[last] and taken[last] != taken[last - 1]


def make(folder, rows, plan, adaptive=RULE, **options):
    own = OwnAnswers(TOKENIZER, WARM, seed=4, adaptive=adaptive)
    return DistillTrainer(
        tiny_model(seed=1),
        config(folder, **options),
        rows,
        teacher=tiny_model(seed=2),
        plan=plan,
        own_answers=own,
        eval_dataset=random_rows(10, seed=5),
        callbacks=[MetricsFile(folder / "metrics.jsonl")],
        logs=[folder / "metrics.jsonl"],
    )


def test_a_run_learns_from_all_three_and_says_so(tmp_path, rows, plan):
    trainer = make(tmp_path, rows, plan)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    log = logged(tmp_path)
    kinds = [(row["fresh_steps"], row["replayed_steps"]) for row in log]
    assert {(1, 0), (0, 1), (0, 0)} == set(kinds)
    assert log[0]["validation_loss"] == before != log[1]["validation_loss"]
    chances = [row["own_text_chance"] for row in log]
    losses = [row["validation_loss"] for row in log]
    assert chances[0] == 0.6 < chances[-1]
    for one, other in zip(range(len(log)), range(1, len(log)), strict=False):
        if chances[other] > chances[one]:
            assert losses[other] > losses[one] and log[other]["step"] % 2 == 0


@pytest.mark.parametrize("every", [2, "stage"])
def test_a_kill_after_any_step_changes_nothing(tmp_path, rows, plan, every):
    options = {"save_strategy": "steps", "save_steps": 3, "keep_checkpoints": 2, "logging_steps": 2}
    adaptive = {**RULE, "every": every}
    whole = make(tmp_path / "whole", rows, plan, adaptive, **options)
    whole.train()
    stops = (5, 8, 13) if every == 2 else [10]
    for stop in stops:
        folder = tmp_path / f"killed{stop}"
        make(folder, rows, plan, adaptive, **options, max_steps=stop).train()
        if stop % 2:  # the newest checkpoint is gone too: it goes on from the one before
            shutil.rmtree(checkpoints(folder)[-1])
        second = make(folder, rows, plan, adaptive, **options)
        second.train(resume_from_checkpoint=True)
        assert logged(folder) == logged(tmp_path / "whole")
        assert second.on_policy.source.state == whole.on_policy.source.state
        for one, other in zip(second.student.parameters(), whole.student.parameters(), strict=True):
            assert torch.equal(one, other)


def test_what_a_checkpoint_may_ask_for_stays(tmp_path, rows, plan):
    adaptive = {**RULE, "init": 1.0}
    options = {"save_strategy": "steps", "save_steps": 2, "keep_checkpoints": 2}
    trainer = make(tmp_path, rows, plan, adaptive, **options)
    forget, left = trainer.on_policy.forget, []

    def watched(oldest):
        forget(oldest)
        there = {int(file.name.split("-")[1]) for file in (tmp_path / "rollouts").iterdir()}
        done = trainer.state.global_step
        for folder in checkpoints(tmp_path):
            kept = read_json(folder / "text_source.json")["state"]["kept"]
            assert {step for step, _ in kept} <= there, folder
        left.append((done, checkpoint_step(checkpoints(tmp_path)[0]), there))

    trainer.on_policy.forget = watched
    trainer.train()
    # Two steps' texts are kept, and what the steps since the older checkpoint wrote.
    for done, oldest, there in left[1:]:
        assert len(there) <= 2 + done - oldest
    assert 0 not in left[-1][2]
    assert not (tmp_path / "rollouts").exists()


def test_what_the_teacher_said_is_what_it_would_say_again(tmp_path, rows, plan, monkeypatch):
    make(tmp_path / "kept", rows, plan).train()
    again = make(tmp_path / "again", rows, plan)
    loss = type(again.step_loss)
    kept = loss.__call__
    monkeypatch.setattr(
        loss,
        "__call__",
        lambda self, model, inputs, *rest: kept(
            self, model, {k: v for k, v in inputs.items() if k != "states"}, *rest
        ),
    )
    again.train()
    assert_alike(tmp_path / "kept", tmp_path / "again", 1e-5)


ALWAYS = {"kind": "distillm", "init": 1.0, "fresh": "constant", "capacity": 8}


def steps_of(plan, folder, process=0, **rule):
    own = OwnAnswers(TOKENIZER, WARM, seed=4, adaptive={**ALWAYS, **rule})
    return OnPolicySteps(own, plan, folder, process, 0, CPU)


def states_of(batch):
    return [torch.ones(int((row >= 0).sum()), 3) * batch["step"] for row in batch["labels"]]


def carried_out(plan, rows, folder, shares):
    """What all processes learn at each step, by rollout, and what they write."""
    model = tiny_model(seed=1)
    processes = [steps_of(plan, folder, number) for number in range(len(shares))]
    learned, written = [], []
    for step in range(plan.total_steps):
        row, new = Counter(), 0
        batches = [batch_of(rows.select(places), step, places) for places in shares]
        # Texts of a step are read at later ones alone, when all have written.
        for own, batch in zip(processes, batches, strict=True):
            (made,) = own.answered_by(model, [batch], states_of)
            new += len(own.written)
            for ids, tokens in zip(made["ids"], made["input_ids"].tolist(), strict=True):
                row[ids, tuple(t for t in tokens if t)] += 1
        learned.append(row)
        written.append(new)
    return learned, written


def test_any_number_of_processes_learns_the_same(tmp_path, rows, plan):
    one, new = carried_out(plan, rows, tmp_path / "one", [range(6)])
    two, also_new = carried_out(plan, rows, tmp_path / "two", [[0, 3, 4], [1, 2, 5]])
    assert one == two and new == also_new
    assert set(new) == {0, 6}  # nothing is written where kept texts are learned
    earlier = Counter()
    for row, count in zip(one, new, strict=True):
        assert row.total() == 6
        if count == 0:
            assert row.keys() <= earlier.keys()
        earlier |= row


def test_another_teacher_is_asked_anew(tmp_path, rows):
    ladder = CurriculumOptions("random", 2, passes=6)
    plan = plan_of(
        rows, ladder, on_policy=1.0, teachers=("weak", "strong"), teacher_schedule="ladder"
    )
    assert plan.teacher_of(0) != plan.teacher_of(plan.total_steps - 1)
    model, own, asked = tiny_model(seed=1), steps_of(plan, tmp_path), Counter()

    def encode(batch):
        asked[plan.teacher_of(batch["step"])] += len(own.written) == 0 and len(batch["ids"])
        return states_of(batch)

    for step in range(plan.total_steps):
        (made,) = own.answered_by(model, [batch_of(rows.select(range(6)), step, range(6))], encode)
        teacher = plan.teacher_of(step)
        for states in made["states"]:
            assert plan.teacher_of(int(states[0, 0])) == teacher
    assert asked["weak"] == 0 < asked["strong"]


def test_a_lost_text_is_written_anew(tmp_path, rows, plan):
    model, own = tiny_model(seed=1), steps_of(plan, tmp_path)
    written = []
    for step in range(plan.total_steps):
        if step == 9:
            shutil.rmtree(tmp_path)
        own.answered_by(model, [batch_of(rows.select(range(6)), step, range(6))], states_of)
        written.append(len(own.written))
    assert 0 in written[:9] and all(len(set(w)) >= 2 for w in (written[:9], written[9:]))


def test_steps_that_the_plan_leaves_to_the_data_stay_so(tmp_path, rows):
    plan = plan_of(rows, CurriculumOptions("random", 2, passes=6), on_policy=0.5)
    make(tmp_path, rows, plan, {**RULE, "init": 1.0}).train()
    own = [row["fresh_steps"] + row["replayed_steps"] for row in logged(tmp_path)]
    assert own == plan.on_policy.astype(int).tolist()


def test_the_data_is_not_taken_for_what_was_drawn(tmp_path, rows, plan):
    never = {"kind": "distillm", "init": 0.0, "rise": 0.0}
    for name, sampled in (("all", False), ("drawn", True)):
        options = {"divergence": "reverse_kl", "sampled": sampled, "max_steps": 3}
        make(tmp_path / name, rows, plan, never, **options).train()
    assert logged(tmp_path / "all") == logged(tmp_path / "drawn")


# ---- what a user can get wrong ---------------------------------------------------------------


@pytest.mark.parametrize("held_out", [None, {"one": random_rows(4)}, []])
def test_without_validation_rows_it_is_refused(tmp_path, rows, plan, held_out):
    with pytest.raises(ConfigError, match=r"on_policy.adaptive needs data.validation"):
        DistillTrainer(
            tiny_model(seed=1),
            config(tmp_path),
            rows,
            teacher=tiny_model(seed=2),
            plan=plan,
            own_answers=OwnAnswers(TOKENIZER, WARM, adaptive=RULE),
            eval_dataset=held_out,
        )


@pytest.mark.parametrize(
    ("adaptive", "words"),
    [
        ({"kind": "distilm"}, "Did you mean 'distillm'"),
        ({"kind": "distillm", "relay": 1}, "has no option 'relay'"),
        ({"kind": "distillm", "capacity": 5}, "needs 6 texts, and 5 are kept"),
        ({"kind": "distillm", "every": 0}, "`every` is `stage` or a number of steps, got 0"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(plan, adaptive, words):
    with pytest.raises(ConfigError, match=words):
        TextSource(adaptive, plan, 0)


def test_one_of_two_ways_to_learn_again():
    with pytest.raises(ConfigError, match="give one of the two"):
        OwnAnswers(TOKENIZER, WARM, adaptive=RULE, reuse=2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("on_policy.reuse=2", "give either `reuse` or `adaptive`"),
        ("on_policy.adaptive.capacity=50", "a replayed step needs training.batch_size=64"),
        ("on_policy.adaptive.init=1.5", "must be between 0 and 1"),
        ("on_policy.adaptive.fresh=falling", "on_policy.adaptive.fresh"),
        ("on_policy.adaptive.every=-3", "`every` is `stage` or a number of steps"),
        ("on_policy.adaptive.kind=taid", "Unknown text controller"),
    ],
)
def test_recipes_are_checked(change, words):
    with pytest.raises(ConfigError, match=words):
        load_recipe("distillm_skl", [change], partial=True)


def test_a_recipe_without_validation_is_refused(tmp_path):
    lacking = ["student.model=a", "teacher.model=b", "data.kind=files", "data.train=c.jsonl"]
    with pytest.raises(ConfigError, match=r"lacks data.validation.*on_policy.adaptive"):
        load_recipe("distillm_skl", lacking)
    load_recipe("distillm_skl", [*lacking, "data.validation_share=0.1"])
    load_recipe("distillm_skl", [*lacking, "on_policy.adaptive=null"])
