"""The schema: types without guessing, options checked against the tables, ranges before a run."""

import subprocess
import sys

import pytest

from tutelage.errors import ConfigError
from tutelage.recipe import load_recipe
from tutelage.recipe.merge import default_kinds
from tutelage.recipe.reference import reference
from tutelage.recipe.schema import Recipe


def message(tmp_path, text, overrides=()):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(str(path), overrides, partial=True)
    return str(caught.value).replace(str(path), "mine.yaml")


def test_reading_the_schema_imports_nothing_heavy():
    code = "import sys, tutelage.recipe; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_field_says_what_it_means():
    def fields(model):
        for field in model.model_fields.values():
            yield field
            for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if isinstance(part, type) and hasattr(part, "model_fields"):
                    yield from fields(part)

    missing = [f for f in fields(Recipe) if not f.description and "Literal" not in repr(f)]
    assert not missing


def test_the_reference_names_alternatives_by_kind_and_defaults_as_yaml_writes_them():
    page = reference()
    assert (
        "## data (files)" in page and "## data (arithmetic)" in page and "## data (lists)" in page
    )
    assert "Pydantic" not in page and "`True`" not in page and "`False`" not in page
    assert "| `agreement` | `true` |" in page
    assert "| `teachers` | none |" in page
    assert not [line for line in page.splitlines() if line.endswith("|  |")], (
        "a key without meaning"
    )


def test_a_section_that_does_not_say_its_kind_has_that_of_the_schema():
    assert default_kinds() == {
        "curriculum": "calibrated",
        "data": "files",
        "difficulty": "student_loss",
        "divergence": "forward_kl",
        "engine": "local",
        "supervision": "logits",
        "target": "probability_mix",
        "teacher_schedule": "strongest",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batch_size: fast", "training.batch_size: must be a whole number, not the text 'fast'"),
        ("batch_size: '12'", "must be a whole number, not the text '12'"),
        ("batch_size: true", "must be a whole number, not true"),
        ("batch_size: 1.5", "must be a whole number, not 1.5"),
        ("batch_size: [1]", "must be a whole number, not a list"),
        ("batch_size: 0", "must be 1 or greater, not 0"),
        ("learning_rate: 0", "must be greater than 0, not 0"),
        ("learning_rate: .nan", "must be a finite number"),
        ("learning_rate: {a: 1}", "must be a number, not a mapping"),
        ("gradient_checkpointing: yes", "must be true or false, not the text 'yes'"),
        ("lr_schedule: cosin", "'linear' or 'constant', not the text 'cosin'. Did you mean 'co"),
        ("report_to: wandb", "training.report_to: must be a list, not the text 'wandb'"),
        ("report_to: [wandbb]", "training.report_to.0: must be 'tensorboard', 'trackio' or"),
        ("lora: {rank: 1.5}", "training.lora.rank: must be a whole number"),
        ("lora: {target_modules: 3}", "must be text or a list, not 3"),
        ("warmup_ratio: 1.0", "must be less than 1, not 1"),
        ("divergence: {}", "unknown key 'training.divergence'. It belongs under `loss`"),
    ],
)
def test_types_are_told_in_plain_words_with_the_line(tmp_path, text, words):
    told = message(tmp_path, f"extends: cpd\ntraining:\n  {text}\n")
    assert told.startswith("mine.yaml:3: ") and words in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("selection:\n  every: foo", "selection.every: must be 'stage' or a whole number"),
        ("training:\n", "training: must be a mapping"),
        ("data:\n  kind: arithmetik", "Unknown data kind 'arithmetik'. Did you mean 'arithmetic'"),
        ("student:\n  model: 12", "student.model: must be text, not 12"),
        ("difficulty:\n  reduc: sum", "has no option 'reduc'. Did you mean 'reduce'"),
        ("difficulty:\n  reduce: median", "difficulty.reduce: must be 'mean' or 'sum'"),
        ("curriculum:\n  kind: calibratd", "curriculum.kind: Unknown curriculum 'calibratd'"),
        ("selection:\n  metric: bleu", "selection.metric: 'bleu' is not among evaluation.metrics"),
        ("name:\n  ../x", "name: '../x' cannot name a folder"),
    ],
)
def test_mistakes_elsewhere_have_their_line_too(tmp_path, text, words):
    told = message(tmp_path, f"extends: cpd\n{text}\n")
    assert told.startswith(("mine.yaml:2: ", "mine.yaml:3: ")) and words in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("divergence: {kind: foward_kl}", "loss.divergence.kind: Unknown divergence 'foward_kl'"),
        ("divergence: forward_kl", "loss.divergence: must be a mapping"),
        ("target: {detatch: true}", "no option 'detatch'. Did you mean 'detach'"),
        ("target: {detach: maybe}", "loss.target.detach: must be true or false"),
        ("ce_weight: 1.5", "loss.ce_weight: must stay between 0 and 1, and is 1.5"),
        ("ce_weight: {kind: linear, start: 0, end: 2}", "between 0 and 1, and is 0 to 2"),
        ("ce_weight: {kind: linear, start: 0, end: 2, per: step}", "between 0 and 1"),
        ("ce_weight: {kind: linear, start: a, end: 1}", "loss.ce_weight.start: must be a number"),
        ("ce_weight: {kind: linear, strt: 0, end: 1}", "Did you mean 'start'"),
        ("ce_weight: {kind: steps}", "needs the option 'values'"),
        ("ce_weight: {kind: steps, values: 3}", "loss.ce_weight.values: must be a list, not 3"),
        ("ce_weight: {kind: steps, values: [0, 1]}", "2 values for 20 stages"),
        ("ce_weight: {kind: join, schedules: 3, boundaries: []}", "schedules: must be a list"),
        ("ce_weight: {kind: join, schedules: [a, 0], boundaries: [0.5]}", "schedules: must be a n"),
        (
            "ce_weight: {kind: join, boundaries: [], schedules: [{kind: paper, x: 1}]}",
            "les.0.x: The",
        ),
        ("ce_weight: {kind: capped, max: a}", "loss.ce_weight.max: must be a number"),
        ("ce_weight: {kind: capped, grid: span}", "no option 'grid'"),
        ("ce_weight: {kind: linear, grid: 3}", "loss.ce_weight.grid: must be text"),
        ("ce_weight: {kind: join, schedules: [0, 1], boundaries: [a]}", "boundaries.*number"),
        ("ce_weight: abc", "loss.ce_weight: must be a number or a mapping"),
        (
            "distill_temperature: 0",
            "distill_temperature: must stay between 0.001 and 1000",
        ),
    ],
)
def test_the_loss_is_checked_before_anything_runs(tmp_path, text, words):
    told = message(tmp_path, f"extends: cpd\nloss:\n  {text}\n")
    assert told.startswith("mine.yaml:3: ")
    head, _, tail = words.partition(".*")
    assert head in told and tail in told


@pytest.mark.parametrize(
    "spec",
    [
        "{kind: linear, start: 1.0, end: 0.0, grid: start}",  # never reaches the 0 at its end
        "{kind: steps, values: [1.0, 2.0, 0.5, 1.0]}",
        "{kind: join, schedules: [1, {kind: cosine, start: 1, end: 2}], boundaries: [0.5]}",
        "{kind: linear, start: 1, end: 2, per: step}",
        "3",
    ],
)
def test_temperatures_that_stay_above_zero_are_accepted(spec):
    overrides = ["curriculum.stages=4", f"loss.distill_temperature={spec}"]
    assert load_recipe("cpd", overrides, partial=True)


def test_a_range_error_names_the_override(tmp_path):
    told = message(tmp_path, "extends: cpd\n", ["loss.ce_weight=2"])
    assert told.startswith("--set: loss.ce_weight: must stay between 0 and 1")


def test_options_of_metrics_are_checked(tmp_path):
    told = message(tmp_path, "evaluation:\n  metrics:\n    rouge_l: {stemmer: 5}\n")
    assert told == "mine.yaml:3: evaluation.metrics.rouge_l.stemmer: must be true or false, not 5."
    told = message(tmp_path, "evaluation:\n  metrics:\n    rouge: {}\n")
    assert told.startswith("mine.yaml:3: evaluation.metrics.rouge: Unknown metric 'rouge'. Did you")


def test_only_the_keys_of_the_chosen_kind_are_listed(tmp_path):
    told = message(tmp_path, "data: {kind: arithmetic, trian: 3}\n")
    assert "label_noise" in told and "template" not in told


def test_all_mistakes_are_told_at_once(tmp_path):
    told = message(tmp_path, "seed: x\ntraining:\n  batch_size: y\n  foo: 1\n")
    assert sorted(line[:11] for line in told.splitlines()) == [
        "mine.yaml:1", "mine.yaml:3", "mine.yaml:4",
    ]  # fmt: skip


def test_cross_entropy_alone_needs_no_teacher_however_it_is_written():
    given = {"student": {"model": "a"}, "data": {"train": "b"}, "curriculum": {"kind": "random"}}
    for weight in (1, 1.0, {"kind": "constant", "value": 1}, {"kind": "constant", "value": 1.0}):
        assert load_recipe(given | {"loss": {"ce_weight": weight}}).recipe.teacher is None


@pytest.mark.parametrize(
    "temperature", ["0.5", "{kind: linear, start: 2.0, end: 0.9}"], ids=["number", "schedule"]
)
def test_likeliest_tokens_are_not_stored_for_temperatures_at_which_they_say_nothing(
    temperature, tmp_path
):
    stored = (
        "extends: kld\nteacher: {model: big, signal: topk}\n"
        f"loss: {{distill_temperature: {temperature}}}\n"
    )
    said = message(tmp_path, stored)
    assert "loss.distill_temperature" in said and "signal: hidden" in said
    path = tmp_path / "mine.yaml"
    for fine in (
        stored.replace("topk", "hidden"),
        stored + "on_policy: {fraction: 1.0}\n",  # has a live teacher
        stored.replace("loss: {", "loss: {ce_weight: 1.0, "),  # asks no teacher
    ):
        path.write_text(fine)
        load_recipe(str(path), partial=True)
