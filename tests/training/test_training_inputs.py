"""What the trainer may be given: natural things work, and all else is refused in one message."""

import dataclasses
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from test_training_trainer import config, cpd_plan, history, weights

from conftest_models import VOCAB, random_rows, tiny_model
from tutelage import DistillConfig, DistillTrainer
from tutelage.errors import ConfigError, DataError, ModelError
from tutelage.pipeline.stages.plan import compile_recipe, plan_notes
from tutelage.recipe import load_recipe
from tutelage.teachers import LiveTeacher
from tutelage.training.arguments import use_one_gpu
from tutelage.training.callbacks import MetricsFile
from tutelage.types import DifficultyProfile


def trainer_of(folder, rows, student=None, teacher=None, plan=None, callbacks=None, **options):
    return DistillTrainer(
        student if student is not None else tiny_model(seed=1),
        config(folder, max_steps=2, **options) if plan is None else config(folder, **options),
        rows,
        teacher=teacher if teacher is not None else tiny_model(seed=2),
        plan=plan,
        callbacks=callbacks,
    )


class MapStyle(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        row = self.rows[number]
        return {"id": row["id"], **{k: torch.tensor(row[k]) for k in ("input_ids", "labels")}}


class Streaming(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield from random_rows(3)


# ---- rows ------------------------------------------------------------------------------------

FORMS = {"list": list, "torch": MapStyle, "shuffled": lambda rows: rows.select(range(len(rows)))}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_rows_in_any_form_train_alike(tmp_path, rows, form):
    plan = cpd_plan(rows)
    found = []
    for name, given in (("plain", rows), (form, FORMS[form](rows))):
        trainer = trainer_of(tmp_path / name, given, plan=plan)
        trainer.train()
        found.append(weights(trainer))
    assert torch.equal(*found)


def test_evaluation_takes_the_same_forms_and_several_sets(tmp_path, rows):
    trainer = trainer_of(tmp_path, rows)
    expected = trainer.evaluate(rows)["eval_loss"]
    assert trainer.evaluate(list(rows))["eval_loss"] == expected
    several = trainer.evaluate({"a": rows, "b": rows.select(range(3))})
    assert several["eval_a_loss"] == expected and several["eval_b_loss"] != expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda rows: iter(rows), "a generator"),
        (lambda rows: rows.to_iterable_dataset(), "a IterableDataset"),
        (lambda rows: Streaming(), "a Streaming"),
        (lambda rows: datasets.DatasetDict(train=rows), r"several splits: train.*rows\['train'\]"),
        (lambda rows: None, "is nothing"),
        (lambda rows: "train.jsonl", "a str"),
        (lambda rows: [], "is empty"),
        (lambda rows: rows.to_dict(), "a mapping of id, input_ids, labels"),
        (lambda rows: [["a"]], "Row 0 of `train_dataset` is a list"),
        (lambda rows: [{"prompt": "a", "completion": "b"}], "no column 'input_ids'"),
        (lambda rows: [*rows, {"input_ids": [3]}], "Row 24 of `train_dataset` has no 'id'"),
    ],
)
def test_rows_that_cannot_be_addressed_are_refused(tmp_path, rows, given, message):
    with pytest.raises(DataError, match=message):
        trainer_of(tmp_path, given(rows))


def changed(rows, number, **values):
    return [{**row, **(values if place == number else {})} for place, row in enumerate(rows)]


@pytest.mark.parametrize("form", [list, datasets.Dataset.from_list])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": [-100] * 3}, "1 of 24 training rows have no response token.*'r005'"),
        ({"labels": [4, -100, -100]}, "1 of 24 training rows have no response token.*'r005'"),
        ({"labels": []}, "1 of 24 training rows have no response token.*'r005'"),
        ({"labels": [-100, VOCAB, 3]}, f"the label {VOCAB}.*over the {VOCAB} tokens"),
        ({"labels": [-100, -1, 3]}, "the label -1"),
        ({"input_ids": [3, VOCAB, 3]}, f"token id {VOCAB}, and the student has embeddings for"),
    ],
)
def test_rows_that_teach_nothing_or_cannot_be_read_are_refused(
    tmp_path, rows, values, message, form
):
    row = {"input_ids": [3, 4, 5], "labels": [-100, 4, 5], **values}
    if not row["labels"]:
        row["input_ids"] = []
    with pytest.raises(DataError, match=message):
        trainer_of(tmp_path, form(changed(rows, 5, **row)))


# ---- models ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [list, lambda rows: rows])
def test_padding_and_labels_that_do_not_fit_their_tokens_are_refused(tmp_path, rows, form):
    """Padding on the left would be read as text, whatever the row's attention mask says."""
    right = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
    trainer_of(tmp_path, form(datasets.Dataset.from_list(right)))
    left = right[7]
    left["attention_mask"] = [0, *left["attention_mask"][1:]]
    with pytest.raises(DataError, match="Row 7 of `train_dataset` has tokens after padding"):
        trainer_of(tmp_path, form(datasets.Dataset.from_list(right)))
    size = len(rows[3]["input_ids"])
    short = changed(rows, 3, labels=rows[3]["labels"][1:])
    with pytest.raises(DataError, match=f"Row 3 .* has {size} input_ids and {size - 1} labels"):
        trainer_of(tmp_path, form(short))


@pytest.mark.parametrize("several", [False, True])
def test_a_teacher_with_fewer_tokens_than_the_data_is_refused(tmp_path, rows, several):
    small = tiny_model(seed=2, vocab=VOCAB - 2)
    with pytest.raises(DataError, match=f"over the {VOCAB - 2} tokens that both have"):
        trainer_of(tmp_path, rows, teacher={"teacher": small} if several else small)
    few = rows.filter(lambda row: max(row["input_ids"]) < VOCAB - 2)
    trainer_of(tmp_path, few, teacher=small).train()


def test_the_vocabulary_must_fit_heads_and_signals(tmp_path, rows):
    for teacher, size, message in (
        (tiny_model(seed=2), VOCAB + 1, f"the head of the student has {VOCAB} rows"),
        (LiveTeacher(tiny_model(seed=2), VOCAB - 1), VOCAB, f"pass vocab_size={VOCAB - 1}"),
    ):
        with pytest.raises(ConfigError, match=f"(?i){message}"):
            DistillTrainer(tiny_model(), config(tmp_path), rows, teacher=teacher, vocab_size=size)


def test_models_by_name_are_loaded(tmp_path, rows):
    tiny_model(seed=1).save_pretrained(tmp_path / "student")
    tiny_model(seed=2).bfloat16().save_pretrained(tmp_path / "teacher")
    trainer = trainer_of(
        tmp_path / "out", rows, str(tmp_path / "student"), str(tmp_path / "teacher")
    )
    trainer.train()
    assert next(trainer.model.parameters()).dtype == torch.float32
    with pytest.raises(ModelError, match="nowhere"):
        trainer_of(tmp_path, rows, str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="student is given as dict"):
        trainer_of(tmp_path, rows, {})


@pytest.mark.parametrize(
    "kind", ["PromptTuningConfig", "PrefixTuningConfig", "PromptEncoderConfig"]
)
def test_prompt_tuning_is_refused(tmp_path, rows, kind):
    import peft

    options = {"num_virtual_tokens": 4, "task_type": "CAUSAL_LM"}
    if kind == "PromptEncoderConfig":
        options["encoder_hidden_size"] = 8
    tuned = peft.get_peft_model(tiny_model(), getattr(peft, kind)(**options))
    with pytest.raises(ModelError, match=r"adapter of type .*Use LoRA"):
        trainer_of(tmp_path, rows, tuned)


# ---- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing_factor": 0.1},
        {"fsdp": "full_shard"},
        {"deepspeed": {"zero_optimization": {"stage": 3}}},
        {"average_tokens_across_devices": False},
        {"torch_compile": True},
        {"auto_find_batch_size": True},
        {"train_sampling_strategy": "group_by_length"},
        {"dataloader_drop_last": True},
        {"ignore_data_skip": True},
        {"label_names": ["targets"]},
        {"bf16_full_eval": True},
        {"eval_accumulation_steps": 2},
        {"neftune_noise_alpha": 5.0, "padding_free": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_arguments_without_effect_are_refused(tmp_path, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        config(tmp_path, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"num_train_epochs": 5},
        {"lr_scheduler_type": "cosine"},
        {"warmup_steps": 10},
        {"data_seed": 3},
        {"ce_weight": 0.5},
        {"distill_temperature": 2.0},
        {"student_share": 0.5},
    ],
    ids=lambda options: next(iter(options)),
)
def test_arguments_against_a_plan_are_refused(tmp_path, rows, options):
    with pytest.raises(ConfigError, match=rf"{next(iter(options))}=.* the plan says"):
        trainer_of(tmp_path, rows, plan=cpd_plan(rows), **options)
    trainer_of(tmp_path, rows, **options)


def test_settings_can_be_used_twice_and_copied(tmp_path, rows):
    arguments = config(tmp_path)
    for _ in range(2):
        DistillTrainer(tiny_model(), arguments, rows, teacher=tiny_model(2), plan=cpd_plan(rows))
    assert dataclasses.replace(arguments, seed=3).seed == 3


def test_settings_of_another_trainer_are_refused(tmp_path, rows):
    from transformers import TrainingArguments

    other = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[])
    with pytest.raises(ConfigError, match=r"a TrainingArguments.*tutelage.DistillConfig"):
        DistillTrainer(tiny_model(), other, rows, teacher=tiny_model(2))
    assert isinstance(config(tmp_path), DistillConfig)


def test_its_own_settings_keep_to_the_bounds_that_recipes_have(tmp_path):
    for name in ("top_k", "tile_tokens", "micro_batch_tokens", "keep_checkpoints"):
        with pytest.raises(ConfigError, match=f"`{name}` is 0, and must be 1 or greater"):
            config(tmp_path, **{name: 0})


def test_noise_on_embeddings_is_scaled_by_rows(tmp_path, rows):
    """The noise of a row depends on its own length, and so on no neighbour: it is never packed."""
    assert trainer_of(tmp_path, rows).step_loss.packed
    trainer = trainer_of(tmp_path, rows, neftune_noise_alpha=5.0)
    assert not trainer.step_loss.packed
    trainer.train()


def test_the_best_checkpoint_is_kept_and_loaded(tmp_path, rows):
    values = iter([2.0, 1.0, 3.0, 4.0, 5.0])
    trainer = DistillTrainer(
        tiny_model(seed=1),
        config(
            tmp_path,
            max_steps=5,
            save_strategy="steps",
            save_steps=1,
            eval_strategy="steps",
            eval_steps=1,
            save_total_limit=1,
            load_best_model_at_end=True,
        ),
        rows,
        teacher=tiny_model(seed=2),
        eval_dataset=rows,
        validator=lambda model: {"loss": next(values)},
    )
    seen = []
    trainer.validator = lambda model, own=trainer.validator: (
        seen.append(weights(trainer)),
        own(model),
    )[1]
    trainer.train()
    assert torch.equal(weights(trainer), seen[1])
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-2",
        "checkpoint-5",
    ]


# ---- mixtures of experts ---------------------------------------------------------------------


def mixtral(seed=1, **options):
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(seed)
    return MixtralForCausalLM(
        MixtralConfig(
            vocab_size=VOCAB,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            num_local_experts=4,
            num_experts_per_tok=2,
            max_position_embeddings=64,
            initializer_range=0.3,
            **options,
        )
    )


def test_routers_are_balanced_as_the_model_says(tmp_path, rows):
    """Cross-entropy and the routers' loss, as the model itself computes them with labels."""
    asked = {"output_router_logits": True, "router_aux_loss_coef": 0.5}
    rows, trained = rows.select(range(6)), mixtral(**asked)
    options = {"ce_weight": 1.0, "optim": "sgd", "weight_decay": 0.0, "max_grad_norm": 0.0}
    trainer = DistillTrainer(
        trained,
        config(
            tmp_path,
            lr_scheduler_type="constant",
            max_steps=1,
            **options,
        ),
        rows,
        callbacks=[MetricsFile(tmp_path / "metrics.jsonl")],
    )
    trainer.train()
    by_hand = mixtral(**asked).train()
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(name, fill):
        return torch.tensor([row[name] + [fill] * (longest - len(row[name])) for row in rows])

    labels = padded("labels", -100)
    mask = torch.tensor(
        [[1] * len(r["input_ids"]) + [0] * (longest - len(r["input_ids"])) for r in rows]
    )
    output = by_hand(input_ids=padded("input_ids", 0), attention_mask=mask, labels=labels)
    output.loss.backward()
    record = history(tmp_path)[0]
    assert record["loss"] == pytest.approx(output.loss.item(), rel=1e-5)
    assert record["router_loss"] == pytest.approx(output.aux_loss.item(), rel=1e-5)
    for one, other in zip(trained.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(one, other - 1e-2 * other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulation", [2, 3])
def test_the_routers_loss_of_a_step_is_a_mean_over_micro_batches(tmp_path, rows, accumulation):
    student = mixtral(output_router_logits=True, router_aux_loss_coef=0.5)
    trainer = DistillTrainer(
        student,
        config(
            tmp_path,
            ce_weight=1.0,
            max_steps=1,
            per_device_train_batch_size=6 // accumulation,
            gradient_accumulation_steps=accumulation,
        ),
        rows.select(range(6)),
        callbacks=[MetricsFile(tmp_path / "metrics.jsonl")],
    )
    trainer.train()
    record = history(tmp_path)[0]
    # Two experts of four for each token: the loss is 2 where they are balanced, and 4 at most.
    assert 1.9 < record["router_loss"] < 4.0
    assert record["loss"] == pytest.approx(record["ce"] + 0.5 * record["router_loss"], rel=1e-5)


def test_a_mixture_of_experts_without_the_loss_is_said(tmp_path, rows, caplog):
    trainer_of(tmp_path, rows, mixtral())
    assert "without its routers' auxiliary loss" in caplog.text and "0.001" in caplog.text
    caplog.clear()
    trainer_of(tmp_path, rows, mixtral(output_router_logits=True))
    trainer_of(tmp_path, rows)
    assert "routers" not in caplog.text


# ---- weights in 16 bits ----------------------------------------------------------------------


def test_steps_lost_in_sixteen_bits_are_said(tmp_path, rows, caplog):
    trainer_of(tmp_path, rows, tiny_model(seed=1).bfloat16(), learning_rate=1e-4)
    (said,) = [r.getMessage() for r in caplog.records if "16 bits" in r.getMessage()]
    share = float(said.partition("%")[0].rpartition(" ")[2]) / 100
    student = tiny_model(seed=1).bfloat16()
    flat = torch.cat([p.detach().flatten() for p in student.parameters()])
    assert share == pytest.approx(float(((flat + 1e-4) == flat).float().mean()), abs=0.01)
    assert share > 0.8
    caplog.clear()
    trainer_of(tmp_path, rows, bf16=True, learning_rate=1e-4)
    trainer_of(tmp_path, rows, tiny_model(seed=1).bfloat16(), learning_rate=10.0)
    assert "16 bits" not in caplog.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["student.dtype=bfloat16"], True),
        ([], False),
        (["student.dtype=bfloat16", "training.lora={rank: 2}"], False),
    ],
)
def test_the_plan_says_what_steps_in_sixteen_bits_lose(changes, said):
    names = tuple(f"e{number}" for number in range(64))
    changes = ["student.model=s", "training.learning_rate=1e-5", *changes]
    recipe = load_recipe("kld", changes, partial=True).recipe
    plan = compile_recipe(recipe, DifficultyProfile(names, np.arange(64.0)))
    notes = " ".join(plan_notes(recipe, plan))
    assert ("rounded away on every weight above 0.00512" in notes) == said
    assert not said or bool(
        torch.tensor(0.0079).bfloat16() + 1e-5 == torch.tensor(0.0079).bfloat16()
    )


def test_a_process_that_sees_several_gpus_trains_on_one(caplog):
    args = SimpleNamespace(n_gpu=4, _n_gpu=4)
    use_one_gpu(args)
    assert args._n_gpu == 1
    assert "sees 4 GPUs" in caplog.text and "torchrun --nproc-per-node 4" in caplog.text


def test_models_in_parts_are_refused(tmp_path, rows):
    student = tiny_model()
    student.lm_head.weight.device_mesh = "of a tensor-parallel model"
    with pytest.raises(ConfigError, match="weights of the student are cut over processes already"):
        DistillTrainer(student, DistillConfig(str(tmp_path), report_to=[]), rows)
