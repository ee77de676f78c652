"""Configurations of other tools become recipes; nothing is lost, nothing changes its value."""

import dataclasses

import pytest
import yaml

from tutelage.importing.convert import convert
from tutelage.importing.tables import DEFAULTS, TOOLS
from tutelage.importing.values import HOW
from tutelage.recipe import load_recipe

# The settings of examples in the tools' own repositories.
LLAMAFACTORY = """
model_name_or_path: some/model
trust_remote_code: true
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
dataset: identity
template: qwen3_nothink
cutoff_len: 2048
max_samples: 1000
preprocessing_num_workers: 16
output_dir: saves/lora
logging_steps: 10
save_steps: 500
report_to: none
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
resume_from_checkpoint: null
"""
AXOLOTL = """
base_model: some/model
load_in_4bit: true
plugins: [axolotl.integrations.kd.KDPlugin]
kd_trainer: true
kd_ce_alpha: 0.1
kd_alpha: 0.4
kd_temperature: 2.0
kd_beta: 0.5
kd_online_topk: 64
kd_online_server_base_url: "http://teacher-host:8000"
datasets:
  - {path: tatsu-lab/alpaca, type: alpaca, split: "train[:50%]"}
val_set_size: 0.05
adapter: qlora
sequence_len: 4096
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_modules:
lora_target_linear: true
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 4
optimizer: paged_adamw_32bit
lr_scheduler: cosine
learning_rate: 0.0002
bf16: auto
warmup_steps: 10
invented_by_somebody: 7
"""
DISTILLKIT = """
model: some/student
teacher: {kind: vllm, base_url: "http://localhost:8000", model: some/teacher, top_k: 256}
dataset:
  train_dataset: {repo_id: some/rows, split: "train[:1000]"}
  seed: 42
sequence_length: 1024
output_path: ./output
loss_functions:
  - {function: cross_entropy, weight: 0.5}
  - {function: kl, weight: 1.5, temperature: 2.0, missing_probability_handling: zero}
  - {function: hs_cosine, weight: 0.2}
training_args:
  num_train_epochs: 1
  per_device_train_batch_size: 2
  gradient_accumulation_steps: 4
  learning_rate: 5e-5
  evaluation_strategy: "no"
"""
TRL = """
model_name_or_path: some/student
teacher_model_name_or_path: some/teacher
dataset_name: some/rows
dataset_config: main
lmbda: 0.3
beta: 0.0
learning_rate: 2.0e-5
per_device_train_batch_size: 4
gradient_accumulation_steps: 8
max_steps: 200
warmup_steps: 20
use_peft: true
lora_r: 64
lora_alpha: 16
bf16: true
"""


def imported(tmp_path, tool, text):
    """The text, the tree and the recipe."""
    path = tmp_path / "theirs.yaml"
    path.write_text(text)
    made = convert(tool, path)
    tree = yaml.safe_load(made)
    return made, tree, load_recipe(tree, partial=True).recipe


def test_llamafactory(tmp_path):
    text, tree, recipe = imported(tmp_path, "llamafactory", LLAMAFACTORY)
    assert tree["extends"] == "sft" and recipe.loss.is_cross_entropy_alone
    training = recipe.training
    assert (training.batch_size, training.micro_batch_size) == (8, 1)
    assert (training.learning_rate, training.lr_schedule, training.warmup_ratio) == (
        1e-4,
        "cosine",
        0.1,
    )
    assert training.weight_decay == 0.0, "the tool's default, and not ours"
    assert (training.lora.rank, training.lora.alpha, training.lora.dropout) == (8, 16, 0.0)
    assert recipe.curriculum.stages == 3 and recipe.data.limit_train == 1000
    assert (recipe.data.max_length, recipe.data.max_prompt_length) == (2048, 2048)
    assert recipe.training.precision == "bfloat16" and recipe.training.report_to == []
    assert "weight_decay: 0.0  # weight_decay: 0.0, LLaMA-Factory's default" in text
    assert "template: qwen3_nothink  -  the tokenizer's own chat template" in text


def test_axolotl(tmp_path):
    text, tree, recipe = imported(tmp_path, "axolotl", AXOLOTL)
    assert tree["extends"] == "kld"
    assert recipe.loss.ce_weight == pytest.approx(0.2) and recipe.loss.distill_temperature == 2.0
    assert recipe.loss.divergence.model_dump() == {"kind": "jsd", "jsd_beta": 0.5}
    assert tree["teacher"] == {"top_k": 64, "signal": "topk"}
    assert recipe.training.batch_size == 8 and recipe.curriculum.stages == 4
    assert recipe.training.lora.target_modules == "all-linear" and recipe.data.template == "alpaca"
    for said in (
        "datasets[0] also says split",
        "qlora: the base model is quantised",
        "invented_by_somebody: 7  -  not known to this converter",
        "warmup_steps: 10  -  a share of the steps here",
        "kd_online_server_base_url",
    ):
        assert said in text


def test_several_data_sets_are_several_sources(tmp_path):
    _, tree, recipe = imported(tmp_path, "llamafactory", "dataset: a.json, b.json\n")
    assert tree["data"]["train"] == ["a.json", "b.json"]
    assert [one.path for one in recipe.data.sources("train")] == ["a.json", "b.json"]
    two = "datasets:\n  - {path: a/b, name: c, type: alpaca}\n  - {path: d.jsonl, type: %s}\n"
    text, tree, recipe = imported(tmp_path, "axolotl", two % "alpaca")
    assert tree["data"]["train"] == ["a/b:c", "d.jsonl"] and recipe.data.template == "alpaca"
    text, tree, _ = imported(tmp_path, "axolotl", two % "chat_template")
    assert "train" not in tree.get("data", {}) and "read in several ways" in text
    two = "datasets:\n  - {path: a, type: chat_template, field_messages: turns}\n"
    _, tree, recipe = imported(tmp_path, "axolotl", two + "  - {path: b, type: chat_template}\n")
    assert tree["data"]["train"] == [{"path": "a", "columns": {"messages": "turns"}}, "b"]
    assert recipe.data.sources("train")[0].columns == {"messages": "turns"}


def test_distillkit(tmp_path):
    text, _, recipe = imported(tmp_path, "distillkit", DISTILLKIT)
    assert recipe.loss.ce_weight == 0.25 and recipe.loss.distill_temperature == 2.0
    assert recipe.teacher.model == "some/teacher" and recipe.teacher.top_k == 256
    assert recipe.training.batch_size == 8 and recipe.seeds.data == 42
    assert "the further losses hs_cosine have none" in text
    assert "missing_probability_handling: the tail" in text
    _, _, recipe = imported(tmp_path, "distillkit", "model: a/b\nteacher: {path: a/c}\n")
    assert recipe.loss.ce_weight == 0.5, "the tool's default, and not that of our kld"
    _, _, recipe = imported(tmp_path, "axolotl", "kd_trainer: true\n")
    assert recipe.loss.ce_weight == 0.0
    assert "the split `train` is read here" in text


def test_trl_gkd(tmp_path):
    text, tree, recipe = imported(tmp_path, "trl", TRL)
    assert tree["extends"] == "gkd" and recipe.on_policy.fraction == 0.3
    assert recipe.loss.divergence.kind == "forward_kl" and recipe.data.train == "some/rows:main"
    assert recipe.on_policy.sampling_temperature == 0.9 and recipe.on_policy.max_new_tokens == 128
    assert recipe.loss.distill_temperature == 1.0
    assert recipe.curriculum.total_steps == 200 and recipe.training.warmup_ratio == 0.1
    assert recipe.training.batch_size == 32 and recipe.training.lora.dropout == 0.05
    assert "no lora_target_modules" in text and "num_train_epochs" not in text


def test_trl_distillation_and_sft(tmp_path):
    on_policy = "model_name_or_path: a/b\nteacher_model_name_or_path: a/c\ntemperature: 2.0\n"
    _, tree, recipe = imported(tmp_path, "trl", on_policy)
    assert tree["extends"] == "on_policy" and recipe.loss.divergence.kind == "reverse_kl"
    assert recipe.loss.distill_temperature == recipe.on_policy.sampling_temperature == 2.0
    assert recipe.loss.tau2_scaling is False and recipe.training.learning_rate == 1e-6
    _, tree, recipe = imported(tmp_path, "trl", "lora_r: 8\noptim: adamw_torch\n")
    assert tree["extends"] == "sft" and recipe.training.lora is None
    _, tree, recipe = imported(tmp_path, "trl", "seq_kd: true\nlmbda: 0\nbeta: 1.0\n")
    assert tree["extends"] == "seqkd"


def test_tables_name_settings_that_there_are():
    """Ours are keys of a recipe; TRL's are those of the installed version, as its defaults are."""
    from tutelage.recipe.schema import Recipe

    for tool in TOOLS.values():
        keys = [row.key for row in tool.rows]
        assert len(keys) == len(set(keys)), tool.name
        for row in tool.rows:
            assert row.how in HOW
            assert row.to or row.note, row.key
            for ours in filter(None, row.to.split(", ")):
                assert ours.split(".")[0] in (*Recipe.model_fields, "extends"), row
    pytest.importorskip("trl")
    from trl import DistillationConfig, SFTConfig
    from trl.experimental.gkd import GKDConfig

    for mode, config in [
        ("trl sft", SFTConfig), ("trl gkd", GKDConfig), ("trl distillation", DistillationConfig)
    ]:  # fmt: skip
        own = {field.name: field.default for field in dataclasses.fields(config)}
        for key, value in DEFAULTS[mode].items():
            assert own[key] == value, (mode, key)


@pytest.mark.parametrize(
    ("tool", "text", "says"),
    [
        ("unsloth", "a: 1", "Unknown tool 'unsloth'"),
        ("trl", "- a", "holds no settings"),
        ("trl", "a: [", "is no YAML"),
        ("trl", None, "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_one_message(tutelage, tmp_path, tool, text, says):
    path = tmp_path / "theirs.yaml"
    if text is not None:
        path.write_text(text)
    code, out, err = tutelage("import", tool, path)
    assert code == 2 and says in err and not out


@pytest.mark.parametrize(
    "key", ["learning_rate", "beta", "max_length", "num_train_epochs", "top_k"]
)
@pytest.mark.parametrize("value", ["[1]", "many", "{a: 1}", "-1"])
def test_nonsense_is_named_and_never_a_traceback(tutelage, tmp_path, key, value):
    path = tmp_path / "theirs.yaml"
    path.write_text(f"{key}: {value}\n")
    code, out, err = tutelage("import", "trl", path)
    assert code in (0, 2) and f"{key}: " in out and "Traceback" not in err


def test_the_recipe_is_written_once_and_can_be_validated(tutelage, tmp_path):
    path, recipe = tmp_path / "theirs.yaml", tmp_path / "mine.yaml"
    path.write_text(TRL)
    code, out, err = tutelage("import", "trl", path, "--output", recipe)
    assert code == 0 and "tutelage validate" in err and str(recipe) in out
    code, _, err = tutelage("import", "trl", path, "--output", recipe)
    assert code == 2 and "there already" in err
