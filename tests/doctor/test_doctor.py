"""What people reported as broken is found, with its way out, and what is well is not reported.

The inputs are those of public reports: tokenizers that transformers 5 builds anew and wrong
(transformers issues 45488, 45812, 45920), an end that is never learned because it is the padding
(trl 1623, granite-3.1 2), BOS twice (OpenRLHF 393), Qwen's padded heads (LMOps 286, trl 2215),
Gemma's missing system role, Llama 3's eot beside eos, weights that loading replaced (46620).
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, pre_tokenizers

from tutelage.doctor import data, machine, teaching, template, tokens, versions
from tutelage.errors import TutelageError


def levels(check, patient):
    return [finding.level for finding in check(patient)]


def worst(check, patient):
    """The gravest finding of a check."""
    order = ("ok", "note", "warning", "error")
    return max(check(patient), key=lambda finding: order.index(finding.level))


# ---- tokens --------------------------------------------------------------------------------------


def test_a_tokenizer_that_is_loaded_as_it_is_stored(make, patient_of):
    assert levels(tokens.loaded_as_stored, patient_of(make())) == ["ok", "ok"]


def test_digits_that_a_rebuilt_tokenizer_keeps_together(make, patient_of, tmp_path):
    """OLMo 2 and Granite: the file parts digits by threes, and GPT2Tokenizer forgets it."""
    parts = pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated")
    own = make(split=parts, special=["<|endoftext|>"])
    rows = [{"prompt": f"{n} in 2023?", "completion": "yes"} for n in range(3)]
    patient = patient_of(own, rows=rows)
    config = tmp_path / "student" / "tokenizer_config.json"
    said = {**json.loads(config.read_text()), "tokenizer_class": "GPT2Tokenizer"}
    config.write_text(json.dumps(said))
    found = worst(tokens.loaded_as_stored, patient)
    assert found.level == "error" and "'2023'" in found.saw
    assert "PreTrainedTokenizerFast" in found.way_out
    said["tokenizer_class"] = "PreTrainedTokenizerFast"  # the way out
    config.write_text(json.dumps(said))
    del patient.__dict__["tokenizers"], patient.models.__dict__["tokenizer"]
    del patient.__dict__["tokenizer"]
    assert worst(tokens.loaded_as_stored, patient).level == "ok"


def test_one_vocabulary_split_in_two_ways(make, patient_of):
    digits = pre_tokenizers.Digits(individual_digits=True)
    rows = [{"prompt": f"{n}: 2023", "completion": "yes"} for n in range(4)]
    found = worst(tokens.split_alike, patient_of(make(), make(split=digits), rows=rows))
    assert found.level == "warning" and "4 of 8 texts are split otherwise" in found.saw


def test_padding_that_is_the_end_is_harmless_here_and_said(make, patient_of):
    patient = patient_of(make(template="chatml", pad="<|im_end|>"))
    found = worst(tokens.special_tokens, patient)
    assert found.level == "note" and "harmless" in found.saw
    end = patient.tokenizer.eos_token_id
    assert worst(template.learned_end, patient).level == "ok"
    assert all(end in row for row in patient.tokenized["train"].dataset["labels"])


def test_padded_heads_are_fine_and_missing_rows_are_not(make, patient_of):
    """Qwen: 151,936 and 152,064 rows for 151,665 tokens."""
    tokenizer = make()
    found = list(tokens.vocabulary(patient_of(tokenizer, heads=(270, 280))))
    assert [f.level for f in found] == ["ok"] * 3
    assert found[0].numbers["rows"] == 270 and "padding that is left out" in found[0].saw
    found = worst(tokens.vocabulary, patient_of(tokenizer, heads=(260, None)))
    assert found.level == "error" and "'<s>'" in found.saw
    assert "resize_token_embeddings" in found.way_out


def test_special_tokens_in_the_data(make, patient_of):
    rows = [{"prompt": "1?", "completion": "one<|im_end|>"}, {"prompt": "2?", "completion": "two"}]
    found = worst(tokens.control_texts, patient_of(make(template="chatml"), rows=rows))
    assert found.level == "warning" and found.numbers == {"<|im_end|>": 1}


def test_letters_that_a_tokenizer_does_not_know(patient_of):
    from tutelage.data.arithmetic import build_tokenizer

    rows = [{"prompt": "1+1=", "completion": f"x{n}#2"} for n in range(4)]
    found = worst(tokens.lossless, patient_of(build_tokenizer(), rows=rows))
    assert found.level == "error" and found.numbers["unknown"] == 4


# ---- template ------------------------------------------------------------------------------------


def test_answers_that_end_where_nothing_stops(make, patient_of):
    """Llama 3: turns end with eot, and generation stops at eos alone."""
    text = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|eot|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    patient = patient_of(make(template=text, special=["<|eot|>"]))
    assert worst(template.learned_end, patient).level == "ok"  # the turn's end is learned here
    found = worst(template.stops_agree, patient)
    assert found.level == "note" and "'<|eot|>'" in found.saw and "'<|im_end|>'" in found.saw


def test_a_teacher_that_stops_elsewhere(make, patient_of):
    own = make(template="chatml", eos="<s>")
    other = make(template=None, eos="<s>")
    found = worst(template.learned_end, patient_of(own, other))
    assert found.level == "warning" and found.check == "" and "teacher: it stops at" in found.saw
    assert worst(template.other_templates, patient_of(own, other)).level == "warning"


def test_a_template_of_a_turn_that_ends_with_plain_text_is_refused(make, patient_of):
    text = "{% for m in messages %}{{ m.role }}: {{ m.content }} STOP\n{% endfor %}"
    with pytest.raises(TutelageError, match="no special token"):
        list(template.learned_end(patient_of(make(template=text))))


def test_a_beginning_that_is_there_twice(make, patient_of):
    twice = {"data": {"template": "<s>{prompt} "}}
    found = worst(template.prompts, patient_of(make(bos="<s>"), **twice))
    assert found.level == "warning" and found.numbers["twice"] == 24
    assert levels(template.prompts, patient_of(make(bos="<s>"))) == ["ok", "ok"]


def test_a_beginning_that_the_chat_template_forgets(make, patient_of):
    found = worst(template.prompts, patient_of(make(bos="<s>", template="chatml")))
    assert found.level == "warning" and "bos_token" in found.way_out


def test_a_template_without_a_system_role(make, patient_of):
    """Gemma raises; others drop it without a word."""
    refuses = (
        "{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    drops = refuses.replace("{{ raise_exception('System role not supported') }}", "")
    drops = drops.replace(
        "{% endif %}<|im_start|>{{ m.role }}", "{% else %}<|im_start|>{{ m.role }}"
    )
    drops = drops.replace("<|im_end|>\n{% endfor %}", "<|im_end|>\n{% endif %}{% endfor %}")
    for text, words in ((refuses, "refuses"), (drops, "drops")):
        patient = patient_of(make(template=text))
        found = worst(template.system_role, patient)
        assert found.level == "note" and words in found.saw
        patient.recipe = patient.recipe.model_copy(
            update={"data": patient.recipe.data.model_copy(update={"system": "Be brief."})}
        )
        assert worst(template.system_role, patient).level == "error"


def test_prose_dates_spaces_and_thoughts_of_a_template(make, patient_of):
    text = (
        "<|im_start|>system\nYou are a helpful assistant of {{ strftime_now('%Y') }}<|im_end|>\n"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}<think></think>{% endif %}{{ m.content | trim }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    rows = [{"prompt": f"{n}?", "completion": f" {n}\n"} for n in range(4)]
    wide = {"max_length": 200, "max_prompt_length": 150}
    patient = patient_of(make(template=text), rows=rows, data=wide)
    said = [finding.saw for finding in template.which(patient)]
    assert "helpful assistant" in said[1] and "today's date" in said[2]
    found = worst(template.spaces, patient)
    assert found.level == "warning" and found.numbers["padded"] == 4
    assert "<think></think>" in worst(template.labels, patient).saw


def test_examples_are_shown_with_what_is_learned(make, patient_of):
    patient = patient_of(make(template="chatml"))
    shown = template.shown_examples(patient, 1)[0]
    number = int(shown.id)
    assert [(p.kind, p.text) for p in shown.pieces] == [
        (
            "prompt",
            f"<|im_start|>user\n{number} + {number}?<|im_end|>\n<|im_start|>assistant\n",
        ),
        ("learned", str(2 * number)),
        ("end", "<|im_end|>"),
        ("prompt", "\n"),
    ]


# ---- data ----------------------------------------------------------------------------------------


def test_lengths_name_what_would_keep_all(make, patient_of):
    rows = [{"prompt": "?", "completion": "x" * n} for n in (*range(1, 40), 60)]
    patient = patient_of(make(), rows=rows, data={"max_length": 30})
    found = worst(data.lengths, patient)
    assert found.level == "warning" and found.numbers["over"] == pytest.approx(12 / 40)
    limit = int(found.way_out.split("=")[1].split()[0])
    assert (found.numbers["q0.99"], limit) == (62, 62)
    gone = worst(data.dropped, patient)
    assert "12 of 40 examples dropped: too long" in gone.saw


def test_texts_beyond_the_positions_of_a_model(make, patient_of):
    rows = [{"prompt": "?", "completion": "x" * 80}] * 3
    found = worst(data.positions, patient_of(make(), rows=rows, data={"max_length": 200}))
    assert found.level == "warning" and found.way_out == "data.max_length=64"


def test_copies_and_questions_that_are_tested_and_learned(make, patient_of, tmp_path):
    rows = [{"prompt": f"{n % 6}?", "completion": str(n % 6)} for n in range(12)]
    test = tmp_path / "test.jsonl"
    test.write_text("".join(json.dumps(row) + "\n" for row in [
        {"prompt": "3? ", "completion": "3"}, {"prompt": "9?", "completion": "9"},
        {"prompt": "8?", "completion": "8"}]))  # fmt: skip
    patient = patient_of(make(), rows=rows, data={"test": str(test)})
    assert worst(data.duplicates, patient).numbers == {"copies": 6, "left_out": 6}
    found = worst(data.contamination, patient)
    assert found.level == "warning" and (found.numbers["both"], found.numbers["asked"]) == (1, 3)


def test_answers_that_teach_nothing(make, patient_of):
    rows = [{"prompt": f"{n}?", "completion": "I don't know."} for n in range(20)]
    assert worst(data.answers, patient_of(make(), rows=rows)).numbers["same"] == 20
    rows = [{"prompt": f"{n}?", "completion": f"{n}?"} for n in range(20)]
    assert worst(data.answers, patient_of(make(), rows=rows)).numbers["echo"] == 20
    assert levels(data.answers, patient_of(make())) == ["ok"]


def test_no_test_data_is_said(make, patient_of):
    found = list(data.sizes(patient_of(make())))
    assert "very few" in found[1].saw and "data.test_share=0.1" in found[2].way_out
    assert worst(data.metric, patient_of(make())).level == "note"


# ---- teaching ------------------------------------------------------------------------------------


@pytest.fixture
def embedded():
    """The quickstart with few rows, and settings of one's own."""
    from tutelage.doctor.patient import Patient
    from tutelage.pipeline.context.display import Display
    from tutelage.recipe import load_recipe

    def make(*changes):
        few = ["data.train=100", "data.test=60", "training.num_threads=1", *changes]
        return Patient(load_recipe("quickstart", few), Display(quiet=True), 40)

    return make


def test_a_teacher_that_knows_more_and_labels_with_errors(embedded):
    patient = embedded()
    found = worst(teaching.teacher_is_better, patient)
    low, high = found.numbers["difference"][1:]
    assert found.level == "ok" and 0.5 < low < high < 3
    assert found.numbers["teacher"] - found.numbers["student"] == pytest.approx(
        found.numbers["difference"][0]
    )
    wrong = worst(teaching.labels_agree, patient)  # two in five rationales have a wrong step
    assert wrong.level == "warning" and wrong.numbers["train"] < wrong.numbers["test"]
    clean = worst(teaching.labels_agree, embedded("data.label_noise=0"))
    assert clean.level == "ok"
    assert {f.level for f in teaching.causal(patient)} == {"ok"}
    assert {f.level for f in teaching.weights_as_stored(patient)} == {"ok"}
    assert levels(machine.time_needed, patient)[0] == "ok"


def test_what_is_compared_is_what_agreement_says(embedded):
    """The same numbers as evaluation's own comparison, by another way."""
    from tutelage.evaluation.agreement import teacher_agreement

    patient = embedded()
    found = teaching.compared(patient, "test")
    rows = patient.some_rows("test")
    whole = teacher_agreement(patient.student, patient.teacher, rows, vocab_size=19,
                              batch_tokens=2048)  # fmt: skip
    counts = torch.tensor(rows["num_response_tokens"], dtype=torch.float64)
    for mine, theirs in (
        (found.forward_kl, whole.forward_kl),
        (-found.student_logp, whole.student_nll),
        (-found.teacher_logp, whole.teacher_nll),
    ):
        mean = float((torch.tensor(mine) * counts).sum() / counts.sum())
        assert mean == pytest.approx(theirs, rel=1e-5)


def test_teachers_that_have_nothing_to_teach(embedded):
    swapped = embedded(
        "student.model=embedded:arithmetic-strong", "teacher.model=embedded:arithmetic-student"
    )
    found = worst(teaching.teacher_is_better, swapped)
    assert found.level == "error" and "worse than its student" in found.saw
    twins = embedded("teacher.model=embedded:arithmetic-student")
    found = worst(teaching.teacher_is_better, twins)
    assert found.level == "error" and "nothing" in found.saw


def test_labels_that_are_foreign_to_the_teacher(make, patient_of):
    found = worst(teaching.labels_agree, patient_of(make(), sample=8))  # a random teacher
    assert found.level == "warning" and "foreign" in found.saw


def test_weights_that_loading_replaced_and_a_model_that_looks_ahead(make, patient_of, tmp_path):
    patient = patient_of(make(), sample=4)
    with torch.no_grad():
        patient.student.model.layers[1].mlp.up_proj.weight.normal_()
    found = worst(teaching.weights_as_stored, patient)
    assert found.level == "error" and "layers.1.mlp.up_proj" in found.saw
    file = tmp_path / "student" / "model.safetensors"
    kept = load_file(file)
    kept["model.layers.1.mlp.up_proj.weight"] = patient.student.model.layers[1].mlp.up_proj.weight
    save_file({k: v.detach().clone() for k, v in kept.items()}, file, metadata={"format": "pt"})
    assert levels(teaching.weights_as_stored, patient) == ["ok", "ok"]
    for layer in patient.student.model.layers:  # each token sees the mean of all
        layer.register_forward_hook(lambda _, __, out: out + out.mean(dim=1, keepdim=True))
    assert worst(teaching.causal, patient).level == "error"


def test_no_weights_are_loaded_for_a_sample_of_none(make, patient_of):
    patient = patient_of(make(), sample=0)
    assert levels(teaching.teacher_is_better, patient) == ["note"]
    assert levels(machine.time_needed, patient) == ["note"]
    assert not {"student", "teacher"} & set(patient.__dict__)


# ---- machine and versions ------------------------------------------------------------------------


def test_memory_and_disk_that_are_not_there(make, patient_of, monkeypatch):
    patient = patient_of(make())
    assert worst(machine.memory, patient).level == "ok"
    monkeypatch.setattr(machine, "memory_of", lambda device: 1000)
    found = worst(machine.memory, patient)
    assert found.level == "error" and "gradient_checkpointing" in found.way_out
    usage = machine.shutil.disk_usage("/")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    found = worst(machine.disk, patient)
    assert found.level == "error" and "keep_checkpoints" in found.way_out


def test_a_processor_without_the_instructions(make, patient_of, monkeypatch):
    from tutelage.pipeline.context import precision

    monkeypatch.setattr(precision, "fast_in", lambda dtype, device: False)
    settings = {"training": {"batch_size": 4, "micro_batch_size": 4, "precision": "bfloat16"}}
    found = worst(machine.precision, patient_of(make(), **settings))
    assert found.level == "error" and "training.precision" in found.saw


@pytest.mark.parametrize(
    ("versions_", "level"),
    [({"transformers": "5.8.0"}, "error"), ({"transformers": "5.9.0"}, "ok")],
)
def test_faults_of_versions_count_where_they_are_met(
    make, patient_of, monkeypatch, versions_, level
):
    patient = patient_of(make())
    monkeypatch.setattr(versions, "installed", lambda: versions_)
    assert worst(versions.versions, patient).level == "ok"  # a Llama is not concerned
    monkeypatch.setattr(versions, "_types", lambda patient: {"granite"})
    assert worst(versions.versions, patient).level == level


def test_the_table_of_faults_can_be_read():
    from packaging.specifiers import SpecifierSet

    for fault in versions.FAULTS:
        assert fault.package in versions.PACKAGES and SpecifierSet(fault.versions)
        assert fault.source.startswith("https://github.com/") and fault.what and fault.way_out
