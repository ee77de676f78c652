import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    Qwen2Config,
    T5Config,
)

from tutelage.errors import ConfigError, MissingDependencyError, ModelError
from tutelage.models import gguf, places
from tutelage.models.hub import hub_commit
from tutelage.models.load import (
    describe_model,
    load_config,
    load_model,
    load_tokenizer,
)
from tutelage.models.same_tokenizer import check_same_tokenizer


def test_a_folder_gives_the_saved_model(saved_llama, tiny_llama):
    model = load_model(str(saved_llama))
    assert isinstance(model, LlamaForCausalLM) and not model.training
    for name, tensor in tiny_llama.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert load_tokenizer(str(saved_llama))("a b")["input_ids"] == [0, 1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtypes(saved_llama, dtype):
    model = load_model(str(saved_llama), dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}


def test_unknown_dtype(saved_llama, tiny_llama):
    with pytest.raises(ConfigError, match="Did you mean 'float16'"):
        load_model(str(saved_llama), dtype="flaot16")
    with pytest.raises(ConfigError, match="Unknown dtype"):
        describe_model(tiny_llama.config, dtype="int1")


def test_weights_in_a_pickle_are_refused(saved_llama):
    weights = load_file(saved_llama / "model.safetensors")
    torch.save(weights, saved_llama / "pytorch_model.bin")
    (saved_llama / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"pickle can run any code.*save_pretrained"):
        load_model(str(saved_llama))


def test_folders_without_a_model(saved_llama, tmp_path):
    (saved_llama / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no \*\.safetensors file"):
        load_model(str(saved_llama))
    (saved_llama / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load_model(str(saved_llama))
    (saved_llama / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"LoRA adapter.*Merge it"):
        load_model(str(saved_llama))


def test_missing_folders_suggest_a_neighbour(saved_llama):
    with pytest.raises(ModelError, match=r"There is no folder .* Did you mean 'llama'"):
        load_model(str(saved_llama.parent / "lama"))
    with pytest.raises(ModelError, match="There is no folder"):
        load_tokenizer("./nowhere")
    with pytest.raises(ModelError, match=r"is a file\. Name the folder"):
        load_model(str(saved_llama / "config.json"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a valid JSON"),
        ('{"model_type": "nonsense"}', "cannot be loaded from .*nonsense"),
        ("{}", "cannot be loaded from .*model_type"),
    ],
)
def test_broken_configurations(saved_llama, content, message):
    (saved_llama / "config.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        load_model(str(saved_llama))


def test_a_model_that_lacks_weights_is_refused(saved_llama):
    weights = load_file(saved_llama / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, saved_llama / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"lacks 1 weights .*'lm_head\.weight'; they would be rand"
    ):
        load_model(str(saved_llama))


def test_a_classifier_is_no_language_model(tiny_llama, tmp_path):
    LlamaForSequenceClassification(tiny_llama.config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"another kind of model .*LlamaForSequenceClassification"):
        load_model(str(tmp_path))


def test_an_encoder_decoder_is_refused(saved_llama):
    T5Config(vocab_size=12, d_model=8, num_layers=2).save_pretrained(saved_llama)
    with pytest.raises(ModelError, match="type 't5', which is not a causal language model"):
        load_model(str(saved_llama))
    with pytest.raises(ModelError, match="type 't5'"):
        describe_model(T5Config())


def test_hub_failures():
    for function in (load_model, load_config, load_tokenizer):
        with pytest.raises(
            ModelError, match=r"'org/name' is no folder here.*cached snapshot folder.*hf auth login"
        ):
            function("org/name")


@pytest.fixture
def hub_cache(monkeypatch, saved_llama, tmp_path):
    """The hub's cache with two commits of org/name, as huggingface_hub lays it out."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    home = tmp_path / "hub" / "models--org--name"
    hub_commit.cache_clear()
    for revision, scale in (("main", 1.0), ("v1", 2.0)):
        commit = hashlib.sha1(revision.encode()).hexdigest()
        snapshot = home / "snapshots" / commit
        (home / "blobs").mkdir(parents=True, exist_ok=True)
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / revision).write_text(commit)
        snapshot.mkdir(parents=True)
        for file in saved_llama.iterdir():
            blob = home / "blobs" / f"{revision}-{file.name}"
            if file.suffix == ".safetensors":
                weights = {name: scale * tensor for name, tensor in load_file(file).items()}
                save_file(weights, blob, metadata={"format": "pt"})
            else:
                shutil.copy(file, blob)
            (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    yield home
    hub_commit.cache_clear()


def test_a_revision_of_the_hub_is_the_one_that_is_loaded(hub_cache, tiny_llama):
    weight = tiny_llama.lm_head.weight
    assert torch.equal(load_model("org/name").lm_head.weight, weight)
    model = load_model("org/name", revision="v1")
    assert torch.equal(model.lm_head.weight, 2 * weight)
    assert model.name_or_path == "org/name"
    assert load_config("org/name", revision="v1").vocab_size == 12
    assert len(load_tokenizer("org/name", revision="v1")) == 5


def test_a_folder_without_a_tokenizer(saved_llama):
    for file in saved_llama.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match=r"cannot be loaded from|has no tokenizer"):
        load_tokenizer(str(saved_llama))


def test_embedded_models(monkeypatch, saved_llama, tmp_path):
    assets = tmp_path / "package" / "assets"
    shutil.copytree(saved_llama, assets / "student")
    monkeypatch.setattr(places.importlib.resources, "files", lambda package: tmp_path / "package")
    assert load_model("embedded:student").config.vocab_size == 12
    assert len(load_tokenizer("embedded:student")) == 5
    with pytest.raises(
        ModelError, match=r"No embedded model is called 'studnet'\. Did you mean 'stu"
    ):
        load_model("embedded:studnet")


def test_same_tokenizer_with_padded_heads(make_word_tokenizer):
    teacher, student = make_word_tokenizer(["a", "b"]), make_word_tokenizer(["a", "b"])
    assert check_same_tokenizer(teacher, student) == 5
    assert check_same_tokenizer(teacher, student, teacher_head=8, student_head=5) == 5
    with pytest.raises(ModelError, match="student's output head has 4 rows for a tokenizer of 5"):
        check_same_tokenizer(teacher, student, teacher_head=8, student_head=4)


def test_different_vocabularies_are_named(make_word_tokenizer):
    teacher, student = make_word_tokenizer(["a", "b"]), make_word_tokenizer(["b", "a", "c"])
    with pytest.raises(ModelError) as error:
        check_same_tokenizer(teacher, student)
    message = str(error.value)
    assert "the teacher's has 5 tokens, the student's 6, and 6 tokens differ" in message
    assert "'a' is 0 in the teacher's and 1 in the student's" in message
    assert "'b' is 1 in the teacher's and 0 in the student's" in message
    assert "text-level supervision" in message


def test_added_tokens_are_named(make_word_tokenizer):
    """One [PAD] more makes no other family."""
    plain, padded = make_word_tokenizer(["a", "b"]), make_word_tokenizer(["a", "b"])
    padded.add_special_tokens({"pad_token": "[PAD]"})
    for pair, larger in (((plain, padded), "student"), ((padded, plain), "teacher")):
        with pytest.raises(ModelError) as error:
            check_same_tokenizer(*pair)
        message = str(error.value)
        assert message.startswith(f"The {larger}'s tokenizer is the ")
        assert "with 1 token added: '[PAD]' (5). All others agree" in message
        assert "family" not in message


def test_different_ends_are_named(make_word_tokenizer):
    teacher, student = make_word_tokenizer(["a"]), make_word_tokenizer(["a"], eos="<end>")
    with pytest.raises(ModelError, match=r"'<eos>' \(2\) and '<end>' \(3\).*copy the teacher's"):
        check_same_tokenizer(teacher, student)
    assert check_same_tokenizer(teacher, student, ends_alike=True) == 4
    other = make_word_tokenizer(["a", "<eos>"], eos="<eos>")
    with pytest.raises(ModelError, match="different tokenizers"):
        check_same_tokenizer(teacher, other, ends_alike=True)


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            tie_word_embeddings=True,
        ),
        Qwen2Config(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
        ),
        GPT2Config(vocab_size=50, n_embd=16, n_layer=3, n_head=2),
    ],
)
def test_size_without_weights(config):
    size = describe_model(config, dtype="bfloat16")
    real = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    assert (size.parameters, size.bytes) == (real, 2 * real)
    assert (size.layers, size.hidden_size, size.vocab_size) == (3, 16, 50)
    assert describe_model(config).bytes == 4 * real


def test_size_of_a_model_that_would_not_fit():
    config = LlamaConfig(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=128256,
    )
    assert describe_model(config).parameters == 70_553_706_496


@pytest.fixture
def fake_gguf(monkeypatch, tmp_path, tiny_llama, make_word_tokenizer):
    """A file that stands for a GGUF file, and the list of what was read from it."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF of a tiny model")
    read = []

    def read_model(path, dtype):
        read.append(dtype)
        return tiny_llama.to(dtype)

    def read_tokenizer(path):
        read.append("tokenizer")
        return make_word_tokenizer(["a", "b"])

    monkeypatch.setattr(gguf, "_read_model", read_model)
    monkeypatch.setattr(gguf, "_read_tokenizer", read_tokenizer)
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    return file, read


def test_gguf_is_converted_once(fake_gguf, tmp_path):
    file, read = fake_gguf
    for _ in range(2):
        assert load_model(str(file)).dtype == torch.float32
        assert len(load_tokenizer(str(file))) == 5
    assert read == [torch.float32, "tokenizer"]
    folders = sorted(p.relative_to(tmp_path / "cache") for p in tmp_path.glob("cache/gguf/*/*"))
    assert [folder.name for folder in folders] == ["float32", "tokenizer"]
    assert len(folders[0].parent.name) == 16
    assert load_model(str(file), dtype="bfloat16").dtype == torch.bfloat16
    assert read[2:] == [torch.bfloat16]


def test_a_gguf_file_with_other_content_is_converted_again(fake_gguf):
    file, read = fake_gguf
    load_tokenizer(str(file))
    moved = file.rename(file.with_name("moved.GGUF"))
    load_tokenizer(str(moved))
    assert read == ["tokenizer"]
    moved.write_bytes(b"another")
    load_tokenizer(str(moved))
    assert read == ["tokenizer"] * 2


def test_a_conversion_draws_no_bars(fake_gguf, monkeypatch, capfd):
    from transformers import modeling_gguf_pytorch_utils as reader

    file, _ = fake_gguf
    tokenizer = gguf._read_tokenizer(file)

    def read(path):
        list(reader.tqdm(range(300), desc="Converting and de-quantizing GGUF tensors..."))
        return tokenizer

    monkeypatch.setattr(gguf, "_read_tokenizer", read)
    bar = reader.tqdm
    load_tokenizer(str(file))
    assert "GGUF tensors" not in capfd.readouterr().err and reader.tqdm is bar


def test_a_failed_conversion_leaves_nothing(fake_gguf, monkeypatch, tmp_path):
    file, _ = fake_gguf

    class Broken:
        def save_pretrained(self, folder):
            (folder / "half").write_text("")
            raise RuntimeError("killed")

    monkeypatch.setattr(gguf, "_read_tokenizer", lambda path: Broken())
    with pytest.raises(RuntimeError):
        load_tokenizer(str(file))
    assert not list(tmp_path.glob("cache/gguf/*/*"))


@pytest.mark.parametrize("content", [b"nothing", b"GGUF", b"GGUF" + bytes(40)])
def test_files_that_are_no_gguf(tmp_path, monkeypatch, content):
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "bad.gguf"
    file.write_bytes(content)
    with pytest.raises((ModelError, MissingDependencyError), match=r"bad\.gguf"):
        load_tokenizer(str(file))


def test_gguf_errors(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match="There is no GGUF file"):
        load_model(str(tmp_path / "missing.gguf"))
    file = tmp_path / "bad.gguf"
    file.write_bytes(b"nothing")

    def unreadable(*args):
        raise ValueError("GGUF magic invalid")

    monkeypatch.setattr(gguf, "_read_model", unreadable)
    with pytest.raises(ModelError, match=r"GGUF magic invalid\. Download it again"):
        load_model(str(file))


def test_gguf_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")

    def lacking(*args):
        raise ImportError("No module named 'gguf'")

    monkeypatch.setattr(gguf, "_read_tokenizer", lacking)
    with pytest.raises(MissingDependencyError, match=r"pip install -U 'tutelage\[gguf\]'"):
        load_tokenizer(str(file))


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("TUTELAGE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert gguf.cache_folder() == tmp_path / ".cache" / "tutelage"
