"""Folders that are made to harm whoever loads them: the command line refuses them, nothing runs.

Each is given to ``tutelage plan`` and ``tutelage eval``, in processes of a few gigabytes at most.
"""

import json
import os
import pickle
import re
import resource
import shutil
import struct
from pathlib import Path

import pytest
import yaml
from damaging import in_child, make_quick
from killing import make_models
from safetensors.torch import load_file

from tutelage.pipeline.evals import evaluate_models
from tutelage.report import evaluation_table  # noqa: F401 - once for all children

GIGABYTES = 6
PATIENCE = 120.0
"""Seconds after which a command counts as one that hangs, on however busy a machine."""


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def configure(name="config.json", **values):
    def change(folder):
        file = folder / name
        known = json.loads(file.read_text()) if file.is_file() else {}
        file.write_text(json.dumps({**known, **values}))

    return change


def a_pickle(folder):
    (folder / "model.safetensors").unlink()
    content = pickle.dumps(Evil(folder.parent / "canary"))
    (folder / "pytorch_model.bin").write_bytes(content)


def a_pickle_by_another_name(folder):
    (folder / "model.safetensors").write_bytes(pickle.dumps(Evil(folder.parent / "canary")))


def length(number):
    def change(folder):
        file = folder / "model.safetensors"
        file.write_bytes(struct.pack("<Q", number) + file.read_bytes()[8:])

    return change


def header(change):
    """Another header before the same content; ``change`` may give it as text."""

    def rewrite(folder):
        file = folder / "model.safetensors"
        content = file.read_bytes()
        size = int.from_bytes(content[:8], "little")
        value = json.loads(content[8 : 8 + size])
        text = (change(value) or json.dumps(value)).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])

    return rewrite


def tensor(**values):
    return header(lambda value: value["model.norm.weight"].update(values))


def twice(value):
    name = "model.norm.weight"
    return f"{json.dumps(value)[:-1]}, {json.dumps(name)}: {json.dumps(value[name])}}}"


def many(value):
    return "{" + ",".join(f'"k{i}": ""' for i in range(3_000_000)) + "}"


def index(name):
    def change(folder):
        names = list(load_file(folder / "model.safetensors"))
        (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
        found = {"weight_map": dict.fromkeys(names, name)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(found))

    return change


def linked(folder):
    index("inside.safetensors")(folder)
    (folder / "inside.safetensors").symlink_to(folder.parent / "outside.safetensors")


def pipe(name):
    def change(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def device(name):
    def change(folder):
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")

    return change


def own_code(folder):
    classes = "LlamaForCausalLM as EvilModel, LlamaConfig as EvilConfig"
    code = f"open({str(folder.parent / 'canary')!r}, 'w')\nfrom transformers import {classes}\n"
    (folder / "evil.py").write_text(code)
    named = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}
    configure(auto_map=named, model_type="evil")(folder)


def tokenizer(change):
    def rewrite(folder):
        file = folder / "tokenizer.json"
        value = json.loads(file.read_text())
        change(value)
        file.write_text(json.dumps(value))

    return rewrite


def template(text):
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def no_template(folder):
    (folder / "chat_template.jinja").unlink()
    configure("tokenizer_config.json", chat_template=7)(folder)


def no_length(folder):
    configure("tokenizer_config.json", model_max_length="x")(folder)


def growing(value):
    step = {"type": "Replace", "pattern": {"Regex": "."}, "content": "xx"}
    value["normalizer"] = {"type": "Sequence", "normalizers": [step] * 40}


def before_every_text(value):
    value["normalizer"] = {"type": "Prepend", "prepend": "x" * 10_000_000}


def around_every_text(value):
    special = {"id": "q", "ids": [1] * 1_000_000, "tokens": ["q"] * 1_000_000}
    value["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "q", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"q": special},
    }


def at_random(value):
    value["model"] = {"type": "BPE", "vocab": {"1": 0, "2": 1}, "merges": [], "dropout": 0.5}


def far_beyond(value):
    value["model"]["vocab"]["1"] = 4_000_000_000


PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"
SYSTEM = "__globals__['os'].system('touch canary')"
FAST = {
    "a pickle": (a_pickle, "reading a pickle can run any code"),
    "a pickle by another name": (a_pickle_by_another_name, "begin as a safetensors file"),
    "a length of 2^63": (length(2**63), "begin as a safetensors file"),
    "a key twice": (header(twice), "its header cannot be read"),
    "a shape of 2^64": (tensor(shape=[2**64]), "its header cannot be read"),
    "places outside": (tensor(data_offsets=[2**63, 2**63 + 64]), r"it has [\d,]+ bytes of 9,22"),
    "a type of other size": (tensor(dtype="F64"), "has 64 bytes in its header"),
    "a path up": (index("../outside.safetensors"), "not a file in that folder"),
    "a path of the root": (index("/etc/passwd"), "not a file in that folder"),
    "a link outside": (linked, "outside of its folder"),
    "a name without end": (index("a" * 5000 + ".safetensors"), "are not there"),
    "a pipe": (pipe("tokenizer.json"), "is a pipe or a device"),
    "a device": (device("config.json"), "is a pipe or a device"),
    "10^12 tokens": (configure(vocab_size=10**12), "vocab_size is 1000000000000"),
    "10^9 layers": (configure(num_hidden_layers=10**9), "1,000,000,000: they do not belong"),
    "2^31 wide inside": (configure(intermediate_size=2**31 - 1), "config.json asks for 2147483647"),
    "10^9 labels": (configure(num_labels=10**9), "num_labels is 1,000,000,000"),
    "a chance of 7": (configure(attention_dropout=7), "must lie between 0 and 1"),
    "own code": (own_code, "custom code"),
    "a text that doubles": (tokenizer(growing), "more than 100 times"),
    "words cut at random": (tokenizer(at_random), "cuts words at random"),
    "a template that is none": (no_template, "is no text"),
    "a length that is none": (
        configure("tokenizer_config.json", model_max_length="x"),
        "no number",
    ),
    "a template that fills": (template("{{ 'x' * 10 ** 11 }}"), "fills the memory"),
    "a template that escapes": (template("{{ lipsum." + SYSTEM + " }}"), "is unsafe"),
}
SLOW = {
    "a length of 2^64 - 1": (length(2**64 - 1), "begin as a safetensors file"),
    "a negative shape": (tensor(shape=[-4, -4]), "its header cannot be read"),
    "a broken shape": (tensor(shape=[16.5]), "its header cannot be read"),
    "three million tensors": (header(many), "at most 33,554,432 are read"),
    "brackets": (header(lambda value: "[" * 1_000_000), "its header cannot be read"),
    "a pipe of weights": (pipe("model.safetensors"), "pipe or a device|are not there"),
    "a device of weights": (device("model.safetensors"), "pipe or a device|are not there"),
    "10^9 experts": (
        configure(model_type="mixtral", num_local_experts=10**9, num_experts_per_tok=2),
        "describes a model of [0-9,]+ weights|cannot be loaded",
    ),
    "before every text": (tokenizer(before_every_text), "more than 100 times"),
    "around every text": (tokenizer(around_every_text), "around every text"),
    "a token far beyond": (tokenizer(far_beyond), "4,000,000,000|different tokenizers"),
    "a range": (template("{% for i in range(10 ** 9) %}x{% endfor %}"), "Range too big"),
    "loops": (template("{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3), "did not end"),
    "a power": (template("{{ 10 ** (10 ** 9) }}"), "did not end"),
    "insides": (template("{{ ''.__class__.__mro__[1].__subclasses__() }}"), "is unsafe"),
    "globals": (template("{{ raise_exception." + SYSTEM + " }}"), "is unsafe"),
    "a file": (template("{% include '/etc/passwd' %}"), "no loader"),
    "messages changed": (template("{{ messages.clear() }}"), "is unsafe"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Models, chats and what all children need in memory."""
    folder = tmp_path_factory.mktemp("hostile")
    make_models(folder)
    rows = [
        {"messages": [{"role": "user", "content": f"{n}+1="},
                      {"role": "assistant", "content": f"{n + 1}"}], "id": str(n)}
        for n in range(9)
    ]  # fmt: skip
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [{"prompt": "1+1=", "completion": "2"}]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        evaluate_models(
            [str(folder / "calm")],
            [{"kind": "file", "data": str(folder / "sums.jsonl")}],
            ["evaluation.max_new_tokens=2"],
            out=folder / "warm",
            quiet=True,
        )
        yield folder


def command(folder, *arguments):
    """The command line in a child with limits: its exit code, None where it hung; its words."""

    def limited():
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        most = taken + (GIGABYTES << 30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        os.chdir(folder)

    return in_child(folder / "said", arguments, limited, patience=PATIENCE)


def recipe(folder, student):
    data = str(folder / "chats.jsonl")
    return {
        "extends": "cpd",
        "student": {"model": str(student)},
        "teacher": {"model": str(folder / "teacher")},
        "data": {"train": data, "validation": data, "test": data, "max_length": 128},
        "curriculum": {"stages": 2, "total_steps": 2},
        "training": {"batch_size": 4, "micro_batch_size": 4, "num_threads": 1},
        "controls": {},
        "output": str(folder / "runs"),
    }


def refused(home, place, spoil, message, commands):
    """Hold that each command refuses what was spoilt, in one message, and that no code ran."""
    folder, canary = place / "model", place / "canary"
    shutil.copytree(home / "calm", folder)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    spoil(folder)
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe(home, folder)))
    ask = ("eval", str(folder), "--suite", "file", "--data", str(home / "sums.jsonl"))
    given = {"plan": ("plan", "recipe.yaml"), "run": ("run", "recipe.yaml"), "eval": ask}
    for name in commands:
        code, said = command(place, *given[name], "-q")
        last = (said.strip().splitlines() or [""])[-1]
        assert code == 2, (name, code, said[-1500:])
        assert "Traceback" not in said and last.startswith("error: "), said[-1500:]

        assert re.search(message, last), (name, last[:600])
        assert not canary.exists(), name


@pytest.mark.parametrize("case", FAST)
def test_refused(home, tmp_path, case):
    refused(home, tmp_path, *FAST[case], ("plan", "eval"))


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
def test_refused_too(home, tmp_path, case):
    refused(home, tmp_path, *SLOW[case], ("plan", "eval"))


@pytest.mark.slow
@pytest.mark.parametrize("case", {**FAST, **SLOW})
def test_refused_by_a_run(home, tmp_path, case):
    refused(home, tmp_path, *{**FAST, **SLOW}[case], ("run",))
