"""What the log says of a student's own answers, and the alarms that it raises."""

import shutil

import pytest
import torch
from test_training_methods import plan_of
from test_training_trainer import config, history

from conftest_models import random_rows, tiny_model
from tutelage.curriculum import CurriculumOptions
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError
from tutelage.generation import GenerationSettings
from tutelage.training import DistillTrainer
from tutelage.training.alarms import PREFIX, Alarms, raised
from tutelage.training.callbacks import MetricsFile
from tutelage.training.checkpoints import checkpoints
from tutelage.training.own_answers import OwnAnswers
from tutelage.training.own_text import OwnText, repetition
from tutelage.training.rollouts import Rollout

CPU = torch.device("cpu")
DRAWN = GenerationSettings(max_new_tokens=6, sampling_temperature=1.0)
SILENT = Alarms(None, None, None, None, None)


@pytest.fixture
def rows():
    return random_rows(12)


def own_keys(row):
    return {key for key in row if key.startswith(("own_", PREFIX))}


def make(folder, rows, plan, settings=DRAWN, *, reuse=1, alarms=SILENT, tell=print, **options):
    return DistillTrainer(
        tiny_model(seed=1),
        config(folder, **options),
        rows,
        teacher=tiny_model(seed=2),
        plan=plan,
        own_answers=OwnAnswers(build_tokenizer(), settings, reuse=reuse, alarms=alarms, tell=tell),
        callbacks=[MetricsFile(folder / "metrics.jsonl")],
        logs=[folder / "metrics.jsonl"],
    )


def spied(trainer):
    """What is written at each step, and how surprising the student that writes it finds it."""
    seen, answered = {}, trainer.on_policy.answered

    def watched(of, batches):
        found = answered(of, batches)
        written = list(trainer.on_policy.written)
        nats = []
        for one in written:
            ids = torch.tensor([[*one.prompt, *one.tokens]])
            with torch.no_grad():
                logp = of.student(ids).logits[0].double()[:, : len(of.own_answers.tokenizer)]
            logp = logp.log_softmax(-1)[len(one.prompt) - 1 : -1]
            nats += (-logp[range(len(one.tokens)), list(one.tokens)]).tolist()
        learned = sum(len(batch["ids"]) for batch in found)
        seen[batches[0]["step"]] = (written, nats, learned)
        return found

    trainer.on_policy.answered = watched
    return seen


def test_pieces_that_come_again_are_counted():
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4, 5]) == pytest.approx(1 / 6)
    assert repetition([7] * 7) == 0.75
    assert repetition([1, 2] * 4) == pytest.approx(3 / 5)
    assert repetition(list(range(20))) == 0.0
    # In one of four tokens and fewer nothing can have been before.
    assert repetition([7] * 4) is None and repetition([]) is None


def rollout(tokens, truncated=False, **more):
    return Rollout("a", 0, 0, (1, 2), tuple(tokens), truncated, **more)


def test_sums_of_two_processes_and_across_a_kill_are_those_of_one():
    circle = rollout([3] * 7, True, logprobs=torch.full((7,), -0.5))
    plain = rollout(range(3), logprobs=torch.tensor([-1.0, -2.0, -3.0]), kept=2)
    stale = rollout(range(4), weights=torch.tensor([1.0, 0.5, 2.0, 0.5]))
    one, parts = OwnText(CPU), [OwnText(CPU), OwnText(CPU)]
    for texts, written, lengths, learned, kept in (
        ([one], [circle, plain], [4, 6], 3, [stale]),
        ([parts[0]], [circle], [4], 1, []),
        ([parts[1]], [plain], [6], 2, [stale]),
    ):
        for text in texts:
            text.add_answers(written, lengths, learned)
            text.add_kept(kept)
    for texts in ([one], parts):
        texts[0].add_loss(torch.tensor([0.5, 9.0, 3.0, 4.0, 0.0], dtype=torch.float64))
        texts[-1].add_loss(torch.tensor([0.25, 9.0, 1.0, 6.0, 0.0], dtype=torch.float64))
    resumed = OwnText(CPU)
    resumed.load(parts[0].state())
    assert parts[0].state() == resumed.state()
    both = resumed.record(4, lambda mine: mine + parts[1]._sums)
    assert both == one.record(4, lambda mine: mine)
    assert both == {
        "own_tokens": 10 / 4,
        "own_length": 5.0,
        "own_relative_length": 1.0,
        "own_ended": 0.5,
        "own_repetition": 0.75,
        "own_entropy": pytest.approx(9.5 / 10),
        "own_agreement": pytest.approx(4 / 10),
        "own_reused": pytest.approx(1 / 3),
        "own_kept": pytest.approx(2 / 3),
        "own_weight": 1.0,
        "own_effective": pytest.approx(4.0**2 / (4 * 5.5)),
    }
    assert one.record(1, lambda mine: mine) == {}


@pytest.mark.parametrize("reuse", [1, 3])
def test_a_row_says_what_was_written_since_the_one_before(tmp_path, rows, reuse):
    plan = plan_of(rows, CurriculumOptions("random", 2, passes=4), on_policy=0.6)
    trainer = make(
        tmp_path, rows, plan, reuse=reuse, logging_steps=3, gradient_accumulation_steps=2
    )
    seen = spied(trainer)
    trainer.train()
    before, told = 0, 0
    for row in history(tmp_path):
        steps = [step for step in range(before, row["step"]) if plan.on_policy[step]]
        written = [one for step in steps for one in seen[step][0]]
        learned = sum(seen[step][2] for step in steps)
        tokens = sum(len(one.tokens) for one in written)
        if steps:
            told += 1
            assert row["own_tokens"] == tokens / (row["step"] - before)
            assert row["own_reused"] == pytest.approx(1 - len(written) / learned)
            assert 0 <= row["own_agreement"] <= 1
        else:
            assert not own_keys(row)
        if written:
            assert row["own_length"] == tokens / len(written)
            assert row["own_ended"] == sum(not one.truncated for one in written) / len(written)
            found = [s for one in written if (s := repetition(one.tokens)) is not None]
            assert row.get("own_repetition") == (sum(found) / len(found) if found else None)
        assert ("own_entropy" in row) == bool(written)
        if written:  # also where a step learns from older answers beside these
            nats = [value for step in steps for value in seen[step][1]]
            assert row["own_entropy"] == pytest.approx(sum(nats) / len(nats), rel=1e-5)
        before = row["step"]
    assert told


def test_agreement_on_own_answers_is_told_from_that_on_the_data(tmp_path, rows):
    for name, share in (("all", 1.0), ("some", 0.5)):
        make(tmp_path / name, rows, plan_of(rows, on_policy=share), logging_steps=4).train()
    assert all(row["own_agreement"] == row["token_agreement"] for row in history(tmp_path / "all"))
    assert any(row["own_agreement"] != row["token_agreement"] for row in history(tmp_path / "some"))


def test_what_is_not_there_is_not_told(tmp_path, rows):
    make(tmp_path / "off", rows, plan_of(rows)).train()
    assert not any(map(own_keys, history(tmp_path / "off")))
    cool = GenerationSettings(max_new_tokens=6, sampling_temperature=0.5)
    make(tmp_path / "cool", rows, plan_of(rows, on_policy=1.0), cool).train()
    for row in history(tmp_path / "cool"):
        # Tokens that are drawn otherwise say nothing of the student's own entropy.
        assert "own_entropy" not in row and "own_length" in row


def test_length_is_held_against_the_data_under_the_same_limit(tmp_path, rows):
    lengths = [sum(label >= 0 for label in labels) for labels in rows["labels"]]
    plan = plan_of(rows, on_policy=1.0)
    trainer = make(tmp_path, rows, plan, GenerationSettings(max_new_tokens=3))
    seen = spied(trainer)
    trainer.train()
    data = dict(zip(rows["id"], lengths, strict=True))
    for row in history(tmp_path):
        written = seen[row["step"] - 1][0]
        expected = sum(min(data[one.id], 3) for one in written)
        assert row["own_relative_length"] == sum(len(one.tokens) for one in written) / expected


# ---- alarms ----------------------------------------------------------------------------------


def raise_in(values, key, alarms=None):
    """The records, each with the alarms that it raises."""
    rows = []
    for step, value in enumerate(values, start=1):
        row = {"step": step, **({} if value is None else {key: value})}
        rows.append({**row, **raised(rows, row, alarms or Alarms())})
    return rows


@pytest.mark.parametrize(
    ("kind", "values", "at", "words"),
    [
        ("repetition", [0.1, 0.6, 0.1, 0.6, None, 0.7, 0.9], 6, ("repeats itself", "70%", "50%")),
        ("length_ratio", [1.0, 1.2, 0.8, 4.4, 4.8], 5, ("4.8 times", "1 times", "ran away")),
        ("length_ratio", [0.4, 0.5, 0.6, 0.12, 0.1], 5, ("0.1 times", "0.5 times")),
        ("ended", [0.9, 0.9, 0.9, 0.1, 0.5, 0.2, 0.1], 7, ("10%", "at first 90%")),
        ("agreement", [0.6, 0.6, 0.6, 0.29, 0.29, 0.2], 5, ("29%", "60%")),
    ],
)
def test_a_sign_that_stays_is_said_once_in_words(kind, values, at, words):
    key = {"length_ratio": "own_relative_length"}.get(kind, f"own_{kind}")
    rows = raise_in(values, key)
    assert [row["step"] for row in rows if PREFIX + kind in row] == [at]
    said = rows[at - 1][PREFIX + kind]
    assert all(word in said for word in words)
    assert not any(map(own_keys, raise_in(values, "other")))
    off = raise_in(values, key, SILENT)
    assert all(own_keys(row) <= {key} for row in off)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("own_relative_length", [8.0, 8.0, 8.0, 1.0, 1.0, 0.6]),  # it learns to stop
        ("own_relative_length", [0.2, 0.2, 0.2, 1.0, 1.1]),  # it learns to write as long as data
        ("own_ended", [0.0, 0.0, 0.0]),  # cut on purpose
        ("own_entropy", [0.5, 0.01, 0.0]),  # one right answer
        ("own_agreement", [0.3, 0.5, 0.9]),
    ],
)
def test_what_is_no_harm_raises_nothing(key, values):
    assert all(own_keys(row) == {key} for row in raise_in(values, key))


def test_thresholds_that_a_recipe_may_name():
    entropy = raise_in([0.5, 0.01, 0.01], "own_entropy", Alarms(entropy=0.05))
    assert "0.01 nats per token" in entropy[2]["alarm_entropy"]
    with pytest.raises(ConfigError, match="`length_ratio` is 1, and must be greater than 1"):
        Alarms(length_ratio=1)


def test_an_alarm_is_told_once_though_the_run_is_killed(tmp_path, rows):
    plan = plan_of(rows, CurriculumOptions("random", 2, passes=4), on_policy=1.0)
    alarms, said = Alarms(None, None, None, 99.0, None), []

    def trained(name, **options):
        trainer = make(tmp_path / name, rows, plan, alarms=alarms, tell=said.append, **options)
        trainer.train(resume_from_checkpoint=bool(checkpoints(tmp_path / name)))
        return [
            {k: v for k, v in row.items() if k != "seconds"} for row in history(tmp_path / name)
        ]

    whole = trained("whole")
    (at,) = [row["step"] for row in whole if "alarm_entropy" in row]
    assert len(said) == 1 and said[0].startswith(f"alarm at step {at}: the student hardly")
    saving = {"save_strategy": "steps", "save_steps": 1, "keep_checkpoints": 9}
    for lost in (0, 2):  # killed after the alarm; before it, so that it comes again
        said.clear()
        trained(f"killed{lost}", max_steps=at + 1, **saving)
        for checkpoint in checkpoints(tmp_path / f"killed{lost}")[at + 1 - lost :]:
            shutil.rmtree(checkpoint)
        assert trained(f"killed{lost}") == whole
        assert len(said) == (2 if lost else 1)


def test_alarms_are_warnings_where_nobody_else_is_told(caplog):
    own = OwnAnswers(build_tokenizer(), GenerationSettings(max_new_tokens=2))
    own.tell("alarm at step 3: x")
    assert [record.getMessage() for record in caplog.records] == ["alarm at step 3: x"]
