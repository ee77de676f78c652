"""A student as a folder for other tools: the same model, whole or not there at all."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from conftest_models import tiny_model
from tutelage.errors import ModelError
from tutelage.exporting.compare import check_finite, compared


def logits(model, ids=(3, 4, 5, 6)):
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0].float()


def test_the_folder_is_the_student_to_the_last_bit(asked, tutelage, tmp_path):
    place = tmp_path / "out"
    code, out, err = tutelage("export", asked, "--output", place, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["kind"] == "model" and said["compared"]["identical"] and not said["warnings"]
    own = AutoModelForCausalLM.from_pretrained(asked / "arms" / "kld" / "student")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(place)), logits(own))
    tokenizer = AutoTokenizer.from_pretrained(place)
    ends = json.loads((place / "generation_config.json").read_text())["eos_token_id"]
    assert tokenizer.eos_token_id in ends
    assert (place / "LICENSE").read_text() == "Do as you like."
    assert "kld" in (place / "README.md").read_text()
    assert (
        json.loads((place / "tutelage.json").read_text())["prompt"]["template"] == "#{question}=?"
    )
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["out"], left

    code, out, err = tutelage("export", asked, "--output", place)
    assert code == 2 and "never replaces anything" in err and not out


def test_types_are_cast_and_what_that_costs_is_said(asked, tutelage, tmp_path):
    place = tmp_path / "out"
    code, out, err = tutelage("export", asked, "--output", place, "--dtype", "bfloat16", "-q")
    assert code == 0, err
    assert "largest difference of a logit" in out and "(bfloat16" in out
    model = AutoModelForCausalLM.from_pretrained(place, dtype="auto")
    assert model.dtype == torch.bfloat16
    code, _, err = tutelage("export", asked, "--output", tmp_path / "no", "--dtype", "int8")
    assert code == 2 and "Unknown dtype 'int8'" in err and not (tmp_path / "no").exists()


def test_adapters_are_merged_or_left_as_they_are(asked, tutelage, tmp_path):
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(asked.parent / "calm")
    alone, merged = tmp_path / "alone", tmp_path / "merged"
    code, out, err = tutelage("export", asked, "--arm", "lora", "--output", alone)
    assert code == 0 and "adapter: " in out and "bit-identical" in out, err
    learned = logits(PeftModel.from_pretrained(base, alone))
    code, out, err = tutelage("export", asked, "--arm", "lora", "--merge-lora", "--output", merged)
    assert code == 0 and "model: " in out, err
    whole = logits(AutoModelForCausalLM.from_pretrained(merged))
    torch.testing.assert_close(whole, learned, atol=1e-4, rtol=0)
    start = logits(AutoModelForCausalLM.from_pretrained(asked.parent / "calm"))
    assert (whole - start).abs().max() > 1e-3
    assert "load with peft" not in (merged / "README.md").read_text()
    code, _, err = tutelage(
        "export", asked, "--arm", "lora", "--dtype", "float16", "--output", tmp_path / "no"
    )
    assert code == 2 and "--merge-lora" in err and not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda run: (run / "arms/kld/student/model.safetensors").write_bytes(b"x"), "damaged"),
        (lambda run: shutil.rmtree(run / "arms/kld/student"), "has no student yet"),
        (lambda run: shutil.rmtree(run / "data"), "in which format"),
        (lambda run: (run / "recipe.json").unlink(), "is no run folder"),
    ],
    ids=["changed", "untrained", "no data", "no run"],
)
def test_a_run_that_is_not_whole_is_refused(asked, tutelage, tmp_path, damage, says):
    run = shutil.copytree(asked, tmp_path / "run")
    damage(run)
    code, _, err = tutelage("export", run, "--output", tmp_path / "out", "-q")
    assert code == 2 and says in err and "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_an_unknown_arm_is_named_with_those_there_are(asked, tutelage):
    code, _, err = tutelage("export", asked, "--arm", "lara")
    assert code == 2 and "Did you mean 'lora'?" in err


def test_numbers_that_a_type_cannot_hold_are_refused():
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[0, 0] = 1e6
    check_finite(model, "float32")
    with pytest.raises(ModelError, match=r"'lm_head\.weight' is not finite in float16"):
        check_finite(model.half(), "float16")
    one = torch.zeros(2, 3)
    with pytest.raises(ModelError, match="not finite"):
        compared([one], [one / 0])


def test_without_a_converter_there_is_its_command(asked, tutelage, tmp_path, monkeypatch):
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    place = tmp_path / "out"
    code, _, err = tutelage("export", asked, "--output", place, "--gguf", "f16", "-q")
    assert code == 2 and (place / "model.safetensors").is_file()
    command = f"convert_hf_to_gguf.py {place} --outfile {place}/out-f16.gguf --outtype f16"
    assert command in err.replace("\n", " ")
    code, _, err = tutelage("export", asked, "--output", tmp_path / "no", "--gguf", "q4_k_m")
    assert code == 2 and "llama-quantize" in err and not (tmp_path / "no").exists()


def test_a_converter_that_fails_or_writes_nonsense_is_heard(asked, tutelage, tmp_path, monkeypatch):
    script = tmp_path / "convert_hf_to_gguf.py"
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    script.write_text("raise SystemExit('no such architecture')")
    place = tmp_path / "out"
    code, _, err = tutelage("export", asked, "--output", place, "--gguf", "f16", "-q")
    assert code == 2 and "no such architecture" in err and "is written and compared" in err
    assert place.is_dir() and not list(place.glob("*.gguf"))
    script.write_text(
        "import sys; open(sys.argv[sys.argv.index('--outfile') + 1], 'w').write('nonsense')"
    )
    code, _, err = tutelage("export", asked, "--output", tmp_path / "b", "--gguf", "f16", "-q")
    assert code == 2 and "failed: silently" in err
    assert not list((tmp_path / "b").glob("*.gguf"))
