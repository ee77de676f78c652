"""The average of the weights is what is validated, kept and saved; training does not see it."""

import functools

import pytest
import torch
from test_training_trainer import KillAt, cpd_plan, history, make, weights
from torch.optim.swa_utils import AveragedModel
from transformers.trainer_callback import TrainerCallback

from conftest_models import tiny_model
from tutelage.errors import ConfigError, RunFolderError
from tutelage.schedules import AVERAGES
from tutelage.training.average import AveragedWeights
from tutelage.training.callbacks import ValidateAndLog
from tutelage.training.checkpoints import last_checkpoint

MEAN, EMA = {"kind": "mean", "share": 0.5}, {"kind": "ema", "decay": 0.75}


class Watch(TrainerCallback):
    """Average as torch does, beside the training."""

    def __init__(self, student, spec, first):
        average = None
        if spec["kind"] == "ema":
            # torch has the first weights in it for ever; a mean until it is long enough has not.
            def average(old, new, count):
                return old + max(1 - spec["decay"], 1 / (count + 1)) * (new - old)

        self.reference = AveragedModel(student, avg_fn=average)
        self.first, self.raw = first, []

    def on_step_end(self, args, state, control, model, **keywords):
        self.raw.append(weights_of(model))
        if state.global_step > self.first:
            self.reference.update_parameters(model)


def weights_of(model):
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


@pytest.mark.parametrize("spec", [MEAN, EMA], ids=["mean", "ema"])
def test_the_student_is_the_average_that_torch_makes(tmp_path, rows, spec):
    plan = cpd_plan(rows)
    first = plan.total_steps - round(0.5 * plan.total_steps) if spec is MEAN else 0
    plain = make(tmp_path / "plain", rows, plan=plan)
    plain.train()
    student = tiny_model(seed=1, attention_dropout=0.1)
    watch = Watch(student, spec, first)
    trainer = make(
        tmp_path / "one", rows, plan=plan, student=student, callbacks=[watch], average=spec
    )
    trainer.train()
    assert torch.equal(watch.raw[-1], weights(plain)), "training goes on with its own weights"
    expected = weights_of(watch.reference.module)
    torch.testing.assert_close(weights(trainer), expected, rtol=1e-5, atol=1e-7)
    assert not torch.equal(weights(trainer), weights(plain))
    strip = ("seconds",)
    logs = [history(tmp_path / name) for name in ("plain", "one")]
    logs = [[{k: v for k, v in row.items() if k not in strip} for row in log] for log in logs]
    assert logs[0] == logs[1]


def test_the_first_weights_have_no_weight_of_their_own():
    ema = functools.partial(AVERAGES["ema"].function, decay=0.75)
    assert [ema(step, 9, step) for step in range(6)] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 4, 1 / 4]
    mean = functools.partial(AVERAGES["mean"].function, share=0.25)
    assert [mean(step, 8, max(step - 6, 0)) for step in range(8)] == [*[None] * 6, 1, 1 / 2]
    assert AVERAGES["mean"].function(7, 8, 0, share=0.0) == 1, "the last step always is"


class Looks:
    """A validator that remembers the weights it saw."""

    def __init__(self):
        self.seen = []

    def __call__(self, student):
        self.seen.append(weights_of(student))
        return {"value": float(len(self.seen))}


class Keeps(TrainerCallback):
    """What a callback would keep of the student where it is validated."""

    def __init__(self):
        self.seen = []

    def on_evaluate(self, args, state, control, model, **keywords):
        self.seen.append(weights_of(model))


@pytest.mark.parametrize("kill_at", [2, 5, 8])
@pytest.mark.parametrize("spec", [MEAN, EMA], ids=["mean", "ema"])
def test_resume_is_exact_to_the_bit(tmp_path, rows, spec, kill_at):
    plan = cpd_plan(rows, batch_size=4)
    options = {"save_strategy": "steps", "save_steps": 3, "average": spec}
    options |= {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
    every = ValidateAndLog(tuple(range(1, plan.total_steps + 1)))
    keeps = Keeps()
    whole = make(tmp_path / "whole", rows, plan=plan, callbacks=[every, keeps], **options)
    whole.validator = Looks()
    whole.train()
    assert torch.equal(whole.validator.seen[-1], weights(whole)), "validated is what is kept"
    for one, other in zip(whole.validator.seen, keeps.seen, strict=True):
        assert torch.equal(one, other)
    folder = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        make(folder, rows, plan=plan, callbacks=[KillAt(kill_at)], **options).train()
    resumed = make(folder, rows, plan=plan, callbacks=[every], **options)
    resumed.validator = Looks()
    newest = last_checkpoint(folder)
    resumed.train(resume_from_checkpoint=None if newest is None else str(newest))
    assert torch.equal(weights(whole), weights(resumed))
    for one, other in zip(
        reversed(whole.validator.seen), reversed(resumed.validator.seen), strict=False
    ):
        assert torch.equal(one, other)
    # From a checkpoint at the last step nothing is trained, and the student is the same.
    again = make(folder, rows, plan=plan, **options)
    again.train(resume_from_checkpoint=True)
    assert torch.equal(weights(again), weights(whole))


def test_adapters_are_averaged_and_sixteen_bits_are_averaged_in_float32(tmp_path, rows):
    from peft import LoraConfig, get_peft_model

    student = get_peft_model(
        tiny_model(seed=1), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    )
    frozen = {n: p.clone() for n, p in student.named_parameters() if not p.requires_grad}
    trainer = make(tmp_path, rows, plan=cpd_plan(rows), student=student, average=MEAN)
    trainer.train()
    assert set(trainer.average._average) == {
        name for name, p in student.named_parameters() if p.requires_grad
    }
    for name, parameter in student.named_parameters():
        assert name not in frozen or torch.equal(parameter, frozen[name])

    model = torch.nn.Linear(3, 2).bfloat16()
    average = AveragedWeights({"kind": "mean", "share": 1.0}, model, 300)
    exact = torch.zeros(2, 3, dtype=torch.float64)
    for step in range(300):
        torch.nn.init.normal_(model.weight)
        exact += model.weight.detach().double() / 300
        average.observe(step)
    average.settle()
    torch.testing.assert_close(model.weight.detach(), exact.bfloat16(), rtol=1e-2, atol=1e-3)


def test_a_checkpoint_without_an_average_is_refused(tmp_path, rows):
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    make(tmp_path, rows, plan=cpd_plan(rows), **options).train()
    with pytest.raises(RunFolderError, match="has no average"):
        make(tmp_path, rows, plan=cpd_plan(rows), average=EMA, **options).train(
            resume_from_checkpoint=True
        )
    with pytest.raises(ConfigError, match="no option 'share'"):
        make(tmp_path, rows, average={"kind": "ema", "share": 0.5})
    with pytest.raises(ConfigError, match="load_best_model_at_end"):
        make(
            tmp_path, rows, average=EMA, load_best_model_at_end=True, eval_strategy="steps",
            save_strategy="steps", eval_steps=2, save_steps=2,
        )  # fmt: skip
