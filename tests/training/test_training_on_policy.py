"""On-policy steps: what is written, what is learned from again, and that a kill changes nothing."""

import logging
import shutil
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training_methods import plan_of
from test_training_trainer import config, history
from transformers.trainer_callback import TrainerCallback

from conftest_models import random_rows, tiny_model
from tutelage.curriculum import CurriculumOptions
from tutelage.curriculum.reuse import plan_reuse
from tutelage.data.arithmetic import build_tokenizer
from tutelage.data.collate import collate
from tutelage.errors import ConfigError
from tutelage.generation import GenerationSettings, LocalEngine
from tutelage.recipe import load_recipe
from tutelage.teachers import LiveTeacher, TeacherLadder
from tutelage.teachers.ensemble import EnsembleTeacher
from tutelage.training import DistillTrainer
from tutelage.training.callbacks import MetricsFile
from tutelage.training.checkpoints import checkpoints
from tutelage.training.on_policy import OnPolicySteps
from tutelage.training.own_answers import OwnAnswers
from tutelage.training.rollouts import Rollout, RolloutStore

TOKENIZER = build_tokenizer()
WARM = GenerationSettings(max_new_tokens=5, sampling_temperature=1.0)
CPU = torch.device("cpu")


@pytest.fixture
def rows():
    return random_rows(12)


def many_passes(rows, **options):
    return plan_of(rows, CurriculumOptions("random", 2, passes=4), **options)


def steps_of(own, plan, folder):
    return OnPolicySteps(own, plan, folder, 0, 0, CPU)


def batch_of(rows, step, places):
    return {
        **collate([rows[i] for i in range(len(rows))], 0),
        "step": step,
        "ids": list(rows["id"]),
        "places": list(places),
    }


def make(folder, rows, plan, own, teacher=None, vocab_size=None, **options):
    return DistillTrainer(
        tiny_model(seed=1),
        config(folder, **options),
        rows,
        teacher=teacher or tiny_model(seed=2),
        plan=plan,
        vocab_size=vocab_size,
        own_answers=own,
        callbacks=[MetricsFile(folder / "metrics.jsonl")],
        logs=[folder / "metrics.jsonl"],
    )


def logged(folder):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history(folder)]


def assert_alike(one_folder, other_folder, rel):
    for one, other in zip(logged(one_folder), logged(other_folder), strict=True):
        words = [key for key, value in one.items() if isinstance(value, str)]
        assert [one.pop(key) for key in words] == [other.pop(key) for key in words]
        assert one == pytest.approx(other, rel=rel)


def answer_of(row):
    return [label for label in row["labels"] if label != -100]


def test_the_prompt_is_kept_and_the_answer_labelled(tmp_path, rows):
    plan = plan_of(rows, on_policy=1.0)
    own = OwnAnswers(TOKENIZER, GenerationSettings(max_new_tokens=4))
    three = rows.select(range(3))
    batch = batch_of(three, 1, [4, 1, 2])
    (after,) = steps_of(own, plan, tmp_path).answered_by(tiny_model(seed=1), [batch], None)
    assert after["step"] == 1 and sorted(after["ids"]) == sorted(three["id"])
    placed = dict(zip(batch["places"], three, strict=True))
    for number, place in enumerate(after["places"]):
        row, labels = placed[place], after["labels"][number]
        assert after["ids"][number] == row["id"]
        prompt = row["input_ids"][: len(row["input_ids"]) - len(answer_of(row))]
        assert after["input_ids"][number, : len(prompt)].tolist() == prompt
        assert (labels[: len(prompt)] == -100).all() and 1 <= (labels != -100).sum() <= 4
        learned = labels != -100
        assert (after["input_ids"][number][learned] == labels[learned]).all()


def test_answers_end_where_a_turn_ends_and_cut_ones_do_not(tmp_path, rows):
    tokenizer, end = build_tokenizer(), 7
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [tokenizer.convert_ids_to_tokens(end)]}
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}4{% endfor %}"
    model = tiny_model(seed=1)
    warm = GenerationSettings(max_new_tokens=8, sampling_temperature=1.5)
    twice = plan_of(random_rows(24), CurriculumOptions("random", 1, passes=1), on_policy=1.0)
    own = OwnAnswers(tokenizer, warm)
    learned = []
    for step in range(4):
        batch = batch_of(rows.select(range(6)), step, range(6))
        (after,) = steps_of(own, twice, tmp_path).answered_by(model, [batch], None)
        learned += [row[row >= 0].tolist() for row in after["labels"]]
    stops = {end, tokenizer.eos_token_id, model.generation_config.eos_token_id}
    ended = [answer for answer in learned if answer[-1] in stops]
    cut = [answer for answer in learned if answer[-1] not in stops]
    assert ended and cut and any(answer[-1] == end for answer in ended)
    assert all(len(answer) == 8 for answer in cut)
    assert all(not stops & set(answer[:-1]) for answer in learned)


def test_what_is_written_does_not_depend_on_how_a_step_is_cut_up(tmp_path, rows):
    plan = plan_of(rows, on_policy=1.0)
    model, own = tiny_model(seed=1), OwnAnswers(TOKENIZER, WARM)
    six = rows.select(range(6))

    def written(*parts):
        found = {}
        for process, part in enumerate(parts):
            steps = OnPolicySteps(own, plan, tmp_path, process, 0, CPU)
            batches = [batch_of(six.select(places), 0, places) for places in part]
            steps.answered_by(model, batches, None)
            found |= {one.place: (one.id, one.tokens) for one in steps.written}
        return found

    whole = written([[0, 1, 2, 3, 4, 5]])
    assert len(whole) == 6 and len({tokens for _, tokens in whole.values()}) > 1
    assert written([[0, 2], [4]], [[1, 3], [5]]) == whole
    assert written([[5, 0, 3]], [[4]], [[1, 2]]) == whole


def test_a_prompt_that_is_there_twice_gets_two_answers(tmp_path, rows):
    plan = plan_of(rows, on_policy=1.0)
    twice = rows.select([0] * 6)
    steps = steps_of(OwnAnswers(TOKENIZER, WARM), plan, tmp_path)
    steps.answered_by(tiny_model(seed=1), [batch_of(twice, 0, range(6))], None)
    assert len({one.tokens for one in steps.written}) > 1


def test_a_horizon_and_a_given_prefix(tmp_path, rows):
    plan = plan_of(rows, on_policy=1.0)
    model, total = tiny_model(seed=1), plan.total_steps
    own = OwnAnswers(
        TOKENIZER, WARM, horizon=np.linspace(1, 5, total), prefix=np.linspace(1.0, 0.0, total)
    )
    steps = steps_of(own, plan, tmp_path)
    for step in (0, total - 1):
        batch = batch_of(rows.select(range(6)), step, range(6))
        steps.answered_by(model, [batch], None)
        for one in steps.written:
            row = rows[one.place]
            start = len(row["input_ids"]) - len(answer_of(row))
            given_tokens = len(answer_of(row)) - 1 if step == 0 else 0
            assert list(one.prompt) == row["input_ids"][: start + given_tokens]
            assert len(one.tokens) <= (1 if step == 0 else 5)
    assert any(len(one.tokens) > 1 for one in steps.written)


def test_the_teacher_of_the_step_mends_what_is_written(tmp_path, rows):
    models = {name: tiny_model(seed=seed) for name, seed in (("weak", 2), ("strong", 3))}
    plan = plan_of(rows, on_policy=1.0, teachers=tuple(models), teacher_schedule="ladder")
    # With one token of the teacher's, and nothing drawn, all of them are the teacher's.
    own = OwnAnswers(TOKENIZER, GenerationSettings(max_new_tokens=5), teacher_top_k=1)
    trainer = make(tmp_path, rows, plan, own, teacher=models)
    answered, found = trainer.on_policy.answered, []

    def watched(of, batches):
        made = answered(of, batches)
        found.extend(trainer.on_policy.written)
        return made

    trainer.on_policy.answered = watched
    trainer.train()
    assert {plan.teacher_of(one.step) for one in found} == set(models)
    for one in found:
        teacher = LocalEngine(models[plan.teacher_of(one.step)], TOKENIZER)
        (alone,) = teacher.answer([one.prompt], own.settings)
        assert one.tokens == alone.tokens


def test_a_teacher_that_mends_has_read_the_answer(tmp_path, rows, monkeypatch):
    plan, settings = plan_of(rows, on_policy=0.6), GenerationSettings(5, None, 1.0)
    own = OwnAnswers(TOKENIZER, settings, teacher_top_k=4)
    trainer = make(tmp_path / "known", rows, plan, own, divergence="reverse_kl")
    teacher, answered = trainer.step_loss._teachers["teacher"], trainer.on_policy.answered
    read, encode = [], teacher.encode
    monkeypatch.setattr(teacher, "encode", lambda ids, *b: read.extend(ids) or encode(ids, *b))
    written = {}

    def watched(of, batches):
        made = answered(of, batches)
        written[batches[0]["step"]] = [(one.kept, len(one.tokens)) for one in of.on_policy.written]
        return made

    trainer.on_policy.answered = watched
    trainer.train()
    assert len(read) == (~plan.on_policy).sum() * 6
    for step, row in enumerate(logged(tmp_path / "known")):
        assert ("own_kept" in row) == bool(plan.on_policy[step])
        if plan.on_policy[step]:
            kept, tokens = (sum(column) for column in zip(*written[step], strict=True))
            assert 0 < kept < tokens and row["own_kept"] == pytest.approx(kept / tokens)
    again = make(tmp_path / "again", rows, plan, own, divergence="reverse_kl")
    loss = type(again.step_loss)
    call = loss.__call__
    monkeypatch.setattr(
        loss,
        "__call__",
        lambda self, model, inputs, *rest: call(
            self, model, {k: v for k, v in inputs.items() if k != "states"}, *rest
        ),
    )
    again.train()
    assert_alike(tmp_path / "known", tmp_path / "again", 1e-4)


def test_only_a_teacher_that_runs_here_mends(tmp_path, rows):
    live = [LiveTeacher(tiny_model(seed=seed), 32) for seed in (2, 3)]
    mixed = EnsembleTeacher(live, [1.0, 1.0], "probability")
    own = OwnAnswers(TOKENIZER, WARM, teacher_top_k=3)
    trainer = make(tmp_path, rows, plan_of(rows, on_policy=1.0), own, teacher=mixed)
    with pytest.raises(ConfigError, match="must be one model that runs beside the student"):
        trainer.train()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "teacher_schedule={kind: ensemble}",
            "one teacher draws tokens, and an ensemble is several",
        ),
        ("loss={divergence: {kind: reverse_kl}, sampled: true}", "tokens that the student drew"),
    ],
)
def test_what_a_mended_answer_cannot_go_with(change, words):
    with pytest.raises(ConfigError, match=words):
        load_recipe("skd", [change], partial=True)


# ---- reuse -----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    reuse=st.integers(1, 5),
    max_age=st.none() | st.integers(1, 6),
    most=st.none() | st.integers(1, 12),
    fraction=st.sampled_from([0.3, 1.0]),
)
def test_every_reuse_is_of_the_same_example_young_and_counted(reuse, max_age, most, fraction):
    plan = many_passes(random_rows(12), on_policy=fraction)
    found = plan_reuse(plan, reuse, max_age, most)
    step_of = np.repeat(np.arange(plan.total_steps), np.diff(plan.offsets))
    uses = np.zeros(len(step_of), dtype=int)
    newest = {}
    for visit, source in enumerate(found.source.tolist()):
        if not plan.on_policy[step_of[visit]]:
            assert source == -1
            continue
        uses[source] += 1
        assert plan.visits[source] == plan.visits[visit]
        assert found.last_use[step_of[source]] >= step_of[visit]
        if source == visit:
            newest[plan.visits[visit]] = visit
            continue
        age = step_of[visit] - step_of[source]
        assert 0 < age <= (max_age or age) and source == newest[plan.visits[visit]]
    assert uses.max() <= reuse
    assert found.num_written == (uses > 0).sum() and found.num_learned == uses.sum()
    again = np.zeros(len(step_of), dtype=bool)
    again[found.source[(found.source >= 0) & (found.source != np.arange(len(step_of)))]] = True
    assert (found.again == again).all()
    # Rollouts of a step go together: so many are there at once, by counting at every step.
    alive = [
        sum(again[v] for v in range(len(again)) if step_of[v] <= now <= found.last_use[step_of[v]])
        for now in range(plan.total_steps)
    ]
    assert found.most_kept(plan) == max(alive)
    # What goes to make room for a step may have been learned from in that very step.
    assert found.most_kept(plan) <= (len(plan.visits) if most is None else max(most, 6) + 6)
    if reuse == 1:
        assert found.num_written == found.num_learned
    elif max_age is None and most is None and fraction == 1.0:
        assert found.num_written == 12 * -(-8 // reuse)


def test_rollouts_are_what_was_written(tmp_path):
    store = RolloutStore(tmp_path / "rollouts", 3)
    many = [
        Rollout(f"r{n}", 7, n, (1, 2), tuple(range(n)), n % 2 == 0, None, torch.randn(n, 4))
        for n in range(5)
    ]
    store.write(7, many)
    found = store.read([(7, 2), (7, 4), (8, 0)])
    assert set(found) == {(7, 2), (7, 4)} and store.steps == [7]
    for (_, place), one in found.items():
        assert one.tokens == many[place].tokens and one.id == f"r{place}"
        assert one.truncated == many[place].truncated and one.prompt == (1, 2)
        assert torch.equal(one.states, many[place].states)
    # Another process finds and removes them, too.
    other = RolloutStore(tmp_path / "rollouts", 0)
    assert other.read([(7, 1)])[7, 1].id == "r1"
    other.forget([6])
    assert store.steps == [7]
    other.forget([7])
    assert store.steps == [] and store.read([(7, 1)]) == {}


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_file_is_no_rollout_and_is_said(tmp_path, damage, caplog):
    store = RolloutStore(tmp_path)
    store.write(1, [Rollout("a", 1, 0, (3, 4), (5, 6), states=torch.ones(2, 8))])
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes({"flip": bytes(content), "cut": content[:-9], "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert store.read([(1, 0)]) == {}
    assert "is damaged" in caplog.text and "written anew" in caplog.text


def test_what_the_teacher_said_is_what_it_would_say_again(tmp_path, rows, monkeypatch):
    plan = many_passes(rows, on_policy=0.7, student_share=0.3)
    own = OwnAnswers(TOKENIZER, WARM, reuse=3)
    trainer = make(tmp_path / "kept", rows, plan, own, gradient_accumulation_steps=2)
    reuse = trainer.on_policy.reuse
    assert reuse.num_written < 0.5 * reuse.num_learned
    asked = []
    encode = trainer.step_loss.teacher_states
    monkeypatch.setattr(
        trainer.step_loss, "teacher_states", lambda batch: asked.append(batch) or encode(batch)
    )
    trainer.train()
    assert sum(len(batch["ids"]) for batch in asked) == reuse.num_written
    again = make(tmp_path / "again", rows, plan, own, gradient_accumulation_steps=2)
    loss = again.step_loss
    kept = type(loss).__call__
    monkeypatch.setattr(
        type(loss),
        "__call__",
        lambda self, model, inputs, *rest: kept(
            self, model, {k: v for k, v in inputs.items() if k != "states"}, *rest
        ),
    )
    again.train()
    assert_alike(tmp_path / "kept", tmp_path / "again", 1e-5)


def test_a_step_is_cut_by_tokens_with_what_the_teacher_said(tmp_path, rows):
    plan, own = many_passes(rows, on_policy=1.0), OwnAnswers(TOKENIZER, WARM, reuse=2)
    for name, budget in (("whole", None), ("cut", 12)):
        make(tmp_path / name, rows, plan, own, micro_batch_tokens=budget).train()
    assert_alike(tmp_path / "whole", tmp_path / "cut", 1e-4)


def test_a_step_too_small_for_its_micro_batches_learns_from_kept_answers(tmp_path):
    rows = random_rows(13)
    plan = plan_of(rows, CurriculumOptions("random", 1, passes=3), on_policy=1.0)
    assert np.diff(plan.offsets).min() < 4
    own = OwnAnswers(TOKENIZER, WARM, reuse=3, importance=5.0)
    for name, parts in (("whole", 1), ("cut", 4)):
        make(tmp_path / name, rows, plan, own, gradient_accumulation_steps=parts).train()
    assert_alike(tmp_path / "whole", tmp_path / "cut", 1e-4)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("reuse", "importance"),
    [pytest.param(1, None, marks=SLOW), pytest.param(3, None, marks=SLOW), (3, 2.0)],
)
def test_a_kill_after_any_step_changes_nothing(tmp_path, rows, reuse, importance):
    plan = many_passes(rows, on_policy=0.6)
    own = OwnAnswers(TOKENIZER, WARM, reuse=reuse, max_age=9, importance=importance)
    options = {"save_strategy": "steps", "save_steps": 3, "keep_checkpoints": 2}
    whole = make(tmp_path / "whole", rows, plan, own, **options)
    whole.train()
    for stop in range(4, plan.total_steps, 3):
        folder = tmp_path / f"killed{stop}"
        first = make(folder, rows, plan, own, **options, max_steps=stop)
        first.train()
        last = checkpoints(folder)[-1]
        if stop % 2:  # the newest checkpoint is gone too: it goes on from the one before
            shutil.rmtree(last)
        second = make(folder, rows, plan, own, **options)
        second.train(resume_from_checkpoint=True)
        assert logged(folder) == logged(tmp_path / "whole")
        for one, other in zip(second.student.parameters(), whole.student.parameters(), strict=True):
            assert torch.equal(one, other)


def test_rollouts_go_when_nothing_asks_for_them(tmp_path, rows):
    plan = many_passes(rows, on_policy=1.0)
    own = OwnAnswers(TOKENIZER, WARM, reuse=2)
    trainer = make(tmp_path, rows, plan, own, save_strategy="steps", save_steps=2)
    seen, forget = [], trainer.on_policy.forget

    def watched(oldest):
        forget(oldest)
        seen.append(
            (oldest, [int(f.name.split("-")[1]) for f in (tmp_path / "rollouts").iterdir()])
        )

    trainer.on_policy.forget = watched
    trainer.train()
    assert seen
    for oldest, steps in seen:
        assert all(trainer.on_policy.reuse.last_use[step] >= oldest for step in steps)
    assert not (tmp_path / "rollouts").exists()


def test_a_lost_rollout_is_written_anew(tmp_path, rows):
    plan, own = many_passes(rows, on_policy=1.0), OwnAnswers(TOKENIZER, WARM, reuse=3)
    trainer = make(tmp_path, rows, plan, own)
    answered = trainer.on_policy.answered
    written = []

    def robbed(of, batches):
        if batches[0]["step"] == 4:
            shutil.rmtree(tmp_path / "rollouts")
        found = answered(of, batches)
        written.append(len(trainer.on_policy.written))
        return found

    trainer.on_policy.answered = robbed
    trainer.train()
    assert written[4] == 6 and 0 in written


# ---- the teacher's rest ------------------------------------------------------------------------


class Loads:
    """Loads a teacher from nowhere, and knows which of those that it gave are in memory."""

    def __init__(self):
        self.given = []

    def __call__(self):
        model = tiny_model(seed=2)
        # Beside the head, which stays: whether the body is there.
        self.given.append(weakref.ref(model.model.layers[0].mlp.up_proj.weight))
        return model

    @property
    def in_memory(self):
        return sum(one() is not None for one in self.given)


def resting(folder, rows, plan, own, loads, rests=True, **options):
    def load():
        return LiveTeacher(loads(), 32, again=loads if rests else None)

    ladder = TeacherLadder({"teacher": load})
    trainer = make(folder, rows, plan, own, teacher=ladder, vocab_size=32, **options)
    seen = []

    class Look(TrainerCallback):
        def on_step_end(self, *arguments, **keywords):
            seen.append(loads.in_memory)

    trainer.add_callback(Look())
    return trainer, seen


def test_a_teacher_whose_word_is_all_kept_is_let_go(tmp_path, rows):
    plan, own = many_passes(rows, on_policy=1.0), OwnAnswers(TOKENIZER, WARM, reuse=99)
    loads = Loads()
    trainer, seen = resting(tmp_path / "rests", rows, plan, own, loads)
    source = trainer.on_policy.reuse.source
    written = -(-int((source == np.arange(len(source))).sum()) // 6)  # steps; the first ones
    trainer.train()
    assert 1 < written < plan.total_steps / 2 and len(loads.given) == 1
    assert seen == [1] * written + [0] * (plan.total_steps - written)
    other, seen = resting(tmp_path / "stays", rows, plan, own, Loads(), rests=False)
    other.train()
    assert set(seen) == {1}
    assert logged(tmp_path / "rests") == logged(tmp_path / "stays")
    for one, two in zip(trainer.student.parameters(), other.student.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_teacher_is_loaded_again_for_an_answer_that_is_lost(tmp_path, rows):
    plan, own = many_passes(rows, on_policy=1.0), OwnAnswers(TOKENIZER, WARM, reuse=99)
    loads = Loads()
    trainer, seen = resting(tmp_path, rows, plan, own, loads)
    answered = trainer.on_policy.answered

    def robbed(of, batches):
        if batches[0]["step"] == 4:
            shutil.rmtree(tmp_path / "rollouts")
        return answered(of, batches)

    trainer.on_policy.answered = robbed
    trainer.train()
    # What is lost is written anew each time, so it stays.
    assert seen[3] == 0 and len(loads.given) == 2 and set(seen[4:]) == {1}


@pytest.mark.parametrize(
    ("fraction", "more"),
    [(1.0, {}), (1.0, {"reuse": 2}), (0.5, {"reuse": 99}), (1.0, {"reuse": 99, "forgets": False})],
)
def test_a_teacher_that_is_asked_to_the_end_stays(tmp_path, rows, fraction, more):
    plan, own = many_passes(rows, on_policy=fraction), OwnAnswers(TOKENIZER, WARM, **more)
    loads = Loads()
    trainer, seen = resting(tmp_path, rows, plan, own, loads)
    trainer.train()
    assert len(loads.given) == 1
    assert set(seen[: trainer.on_policy._last_asked]) == {1}
