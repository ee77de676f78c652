"""Folders that are no whole model: one message each, mostly before a weight is read."""

import json
import os
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tutelage.errors import ModelError, TutelageError
from tutelage.models import gate, load_config, load_model, load_tokenizer, templates

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"


def configure(folder, **values):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, **values}))


def write_index(folder, *names, tensors=None):
    """An index beside the weights that names some files for their tensors."""
    tensors = tensors or list(load_file(folder / "model.safetensors"))
    files = {tensor: names[i % len(names)] for i, tensor in enumerate(tensors)}
    index = {"metadata": {}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


def index_with_pickle(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    write_index(folder, "pytorch_model.bin")


def index_outside(folder):
    shutil.copy(folder / "model.safetensors", folder.parent / "outside.safetensors")
    write_index(folder, "../outside.safetensors")


def index_absolute(folder):
    write_index(folder, str(folder / "model.safetensors"))


def named_outside(folder):
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    configure(folder, transformers_weights="../outside.safetensors")


def linked_outside(folder):
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    (folder / "model.safetensors").symlink_to("../outside.safetensors")


def dangling_link(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("nowhere")


def missing_shard(folder):
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    shutil.copy(folder / "model-1.safetensors", folder / "model.safetensors")
    write_index(folder, "model-1.safetensors", "model-2.safetensors")


def index_without_map(folder):
    write_index(folder, "a")
    (folder / "model.safetensors.index.json").write_text("{}")


def index_of_numbers(folder):
    write_index(folder, 7)


def int8(folder):
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = torch.ones_like(weights[name], dtype=torch.int8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def without(*parts):
    def remove(folder):
        weights = load_file(folder / "model.safetensors")
        kept = {k: v for k, v in weights.items() if not any(part in k for part in parts)}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})

    remove.__name__ = "without " + " ".join(parts)
    return remove


def index_of_more(folder):
    tensors = [*load_file(folder / "model.safetensors"), "model.layers.1.more.weight"]
    shutil.copy(folder / "model.safetensors", folder / "model-1.safetensors")
    write_index(folder, "model-1.safetensors", tensors=tensors)


def rewrite_header(folder, change):
    file = folder / "model.safetensors"
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def offsets_that_overlap(folder):
    def change(header):
        first, second, *_ = sorted(
            (key for key in header if key != "__metadata__"),
            key=lambda key: header[key]["data_offsets"],
        )
        header[second]["data_offsets"][0] = header[first]["data_offsets"][0]

    rewrite_header(folder, change)


def a_shape_of_other_size(folder):
    def change(header):
        header["model.norm.weight"]["shape"] = [9]

    rewrite_header(folder, change)


def offsets_that_are_no_pair(folder):
    def change(header):
        header["model.norm.weight"]["data_offsets"] = [0]

    rewrite_header(folder, change)


def not_a_number(folder, value=float("nan")):
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def infinite(folder):
    not_a_number(folder, float("inf"))


def cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def cut_header(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])


def long_header(folder):
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + bytes(100))


def no_header(folder):
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 20) + b"[" * 20)


def empty(folder):
    (folder / "model.safetensors").write_bytes(b"")


def pointers(folder):
    (folder / "model.safetensors").write_text(LFS)


def adapter_beside(folder):
    adapter = {"base_model_name_or_path": "org/other", "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))


def deep(folder):
    (folder / "config.json").write_text("[" * 100_000)


def a_list(folder):
    (folder / "config.json").write_text("[]")


def folder_for_config(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


def with_values(**values):
    def change(folder):
        configure(folder, **values)

    change.__name__ = " ".join(values)
    return change


BAD = [
    (index_with_pickle, "names 'pytorch_model.bin', and only safetensors"),
    (index_outside, r"names the weights '\.\./outside.*not a file in that folder"),
    (index_absolute, "not a file in that folder"),
    (named_outside, r"config\.json of .* names the weights '\.\./outside"),
    (linked_outside, "is a link to .*outside of its folder"),
    (dangling_link, "are not there"),
    (missing_shard, r"'model-2\.safetensors'.* are not there"),
    (index_without_map, "has no weight_map"),
    (index_of_numbers, "names the weights 7"),
    (int8, "of type I8: the weights are quantized"),
    (not_a_number, "1 of 128 values in .*up_proj.* NaN or infinite"),
    (infinite, "NaN or infinite"),
    (without(""), "hold no tensor at all"),
    (without("layers.0."), "lack layer 0, so they are not whole"),
    (without("layers.0.mlp.up"), r"lacks \d+ weights .*they would be random"),
    (index_of_more, r"lack model\.layers\.1\.more\.weight, so they are not whole"),
    (offsets_that_overlap, r"its header puts '.*' at byte 0 and not at"),
    (a_shape_of_other_size, r"'model\.norm\.weight' \(9, F32\) has 32 bytes"),
    (offsets_that_are_no_pair, "its header cannot be read"),
    (cut, "is damaged or cut: it has"),
    (cut_header, "is damaged or cut"),
    (long_header, "does not begin as a safetensors file"),
    (no_header, "its header cannot be read"),
    (empty, "does not begin as a safetensors file"),
    (pointers, "pointer of git-lfs.*git lfs pull"),
    (adapter_beside, r"holds a LoRA adapter \(adapter_config\.json\), not a whole model"),
    (deep, "is not a valid JSON"),
    (a_list, "holds no JSON object"),
    (folder_for_config, "config.json' cannot be read"),
    (with_values(num_hidden_layers=1), "have 2 layers and config.json says 1"),
    (with_values(num_hidden_layers=3), r"lacks \d+ weights .*they would be random"),
    (with_values(num_hidden_layers=10**8), "have 2 layers and config.json says 100,000,000"),
    (with_values(num_attention_heads=0), "num_attention_heads is 0 .*1 or more"),
    (with_values(num_key_value_heads=-1), "num_key_value_heads is -1"),
    (with_values(hidden_size="8"), "hidden_size is '8'"),
    (with_values(hidden_size=True), "hidden_size is True"),
    (with_values(vocab_size=10**18), "vocab_size is 1000000000000000000"),
    (with_values(vocab_size=13), "12 x 8 and config.json says vocab_size 13"),
    (with_values(hidden_size=16), "12 x 8 and config.json says .*hidden size 16"),
    (with_values(dtype="flaot16"), "cannot be loaded from"),
    (with_values(rope_parameters=7), "cannot be loaded from"),
    (with_values(num_attention_heads=3), "cannot be loaded from|multiple of"),
    (with_values(text_config=7), "text_config .* is no object"),
    (
        with_values(quantization_config={"quant_method": "gptq", "bits": 4}),
        r"are quantized \(gptq\).*Name the model that was quantized",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), BAD, ids=lambda x: getattr(x, "__name__", ""))
def test_a_spoilt_folder_is_one_message(saved_llama, spoil, message):
    spoil(saved_llama)
    with pytest.raises(ModelError, match=message):
        load_model(str(saved_llama))


@pytest.mark.parametrize(
    "spoil", [index_with_pickle, pointers, cut, with_values(num_hidden_layers=10**8)]
)
def test_the_weights_are_looked_at_where_only_the_configuration_is_wanted(saved_llama, spoil):
    spoil(saved_llama)
    with pytest.raises(ModelError):
        load_config(str(saved_llama))


def test_nothing_is_unpickled(saved_llama, monkeypatch):
    index_with_pickle(saved_llama)
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("unpickled"))
    with pytest.raises(ModelError):
        load_model(str(saved_llama))


def test_weights_in_parts_load(saved_llama, tiny_llama):
    for file in saved_llama.glob("*.safetensors"):
        file.unlink()
    tiny_llama.save_pretrained(saved_llama, max_shard_size="2KB")
    assert len(list(saved_llama.glob("*.safetensors"))) > 1
    assert torch.equal(load_model(str(saved_llama)).lm_head.weight, tiny_llama.lm_head.weight)


def test_a_model_larger_than_the_machine_is_refused_before_it_is_read(saved_llama, monkeypatch):
    monkeypatch.setattr(gate.os, "sysconf", lambda name: 10)
    with pytest.raises(ModelError, match="this machine has 0 GB of memory"):
        load_model(str(saved_llama))
    assert load_config(str(saved_llama)).vocab_size == 12


def test_large_numbers_that_are_numbers_pass(saved_llama):
    weights = load_file(saved_llama / "model.safetensors")
    weights["lm_head.weight"].fill_(3e38)  # their sum is infinite
    save_file(weights, saved_llama / "model.safetensors", metadata={"format": "pt"})
    assert load_model(str(saved_llama)).lm_head.weight.isfinite().all()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_weights_that_may_not_be_read(saved_llama):
    (saved_llama / "model.safetensors").chmod(0)
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(str(saved_llama))


def no_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()


def pointer_tokenizer(folder):
    (folder / "tokenizer.json").write_text(LFS)


def template(text):
    def change(folder):
        (folder / "chat_template.jinja").write_text(text)

    return change


DOUBLED = (
    "{% set all = namespace(text='x') %}{% for i in range(60) %}"
    "{% set all.text = all.text ~ all.text %}{% endfor %}{{ all.text }}"
)
ENDLESS = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_tokenizer, "has no tokenizer: .* has no file of one.*save_pretrained"),
        (pointer_tokenizer, "git lfs pull"),
        (template(ENDLESS), "chat template of .* did not end within 1 seconds"),
        (template("{{ 10 ** (10 ** 9) }}"), "did not end within 1 seconds"),
        (template("{{ 'x' * 10 ** 11 }}"), "fills the memory with a few words"),
        (template(DOUBLED), "fills the memory with a few words"),
        (template("{{ 'x'|center(10 ** 7) }}"), "makes more than a million characters"),
        (template("{% if messages|length > 9 %}{{ 'x' * 10 ** 11 }}{% endif %}"), "fills the mem"),
    ],
    ids=["none", "pointer", "endless", "power", "product", "doubled", "padded", "late"],
)
def test_a_spoilt_tokenizer_is_one_message(saved_llama, spoil, message, monkeypatch):
    monkeypatch.setattr(templates, "_SECONDS", 1)
    spoil(saved_llama)
    with pytest.raises(TutelageError, match=message):
        load_tokenizer(str(saved_llama))


@pytest.mark.parametrize("text", ["{{ raise_exception('no') }}", "{{", "{{ messages[0].content }}"])
def test_templates_that_end_are_left_for_later(saved_llama, text):
    template(text)(saved_llama)
    assert load_tokenizer(str(saved_llama)).chat_template == text


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0.6},
        {"top_p": 0.9, "temperature": 0.6, "eos_token_id": [1, 2]},
        {"top_k": 7, "do_sample": False},
        {"typical_p": 0.5},
        {"length_penalty": 2.0},
        {"early_stopping": True},
        {"pad_token_id": -1},
        {"cache_implementation": "static", "use_cache": False},
        {"output_scores": True},
    ],
    ids=str,
)
def test_generation_defaults_that_contradict_themselves_can_be_saved(saved_llama, tmp_path, values):
    """They would otherwise end a training at its first checkpoint."""
    file = saved_llama / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": 5, **values}))
    model = load_model(str(saved_llama))
    model.save_pretrained(tmp_path / "again")
    kept = load_model(str(tmp_path / "again")).generation_config
    assert kept.eos_token_id == values.get("eos_token_id", 5)
    if "temperature" in values:
        assert kept.do_sample and kept.temperature == 0.6


@pytest.mark.parametrize(
    ("given", "kept"),
    [("x", None), (10**9, None), (-7, None), (True, None), ([1, "x", 10**9], [1]), ([], None)],
    ids=str,
)
def test_special_tokens_that_are_no_tokens_are_left_out(saved_llama, given, kept):
    """They would otherwise end an evaluation, or be searched for in vain."""
    (saved_llama / "generation_config.json").write_text(json.dumps({"eos_token_id": given}))
    assert load_model(str(saved_llama)).generation_config.eos_token_id == kept


@pytest.mark.parametrize("values", [{"num_return_sequences": 2}, {"max_new_tokens": 0}], ids=str)
def test_generation_defaults_that_mean_nothing_are_refused_at_load(saved_llama, values):
    (saved_llama / "generation_config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=next(iter(values))):
        load_model(str(saved_llama))


def test_a_hub_cache_keeps_its_links(saved_llama, tmp_path):
    home = tmp_path / "models--org--name"
    snapshot = home / "snapshots" / "0123"
    (home / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in saved_llama.iterdir():
        shutil.copy(file, home / "blobs" / file.name)
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    assert load_model(str(snapshot)).config.vocab_size == 12
