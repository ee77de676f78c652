"""A run of two arms on a template of its own, made once for all tests and processes."""

import json

import pytest
from filelock import FileLock
from killing import make_models

from conftest_pictures import leave_out_pictures

ROWS = [(f"{n}+{n + 1}", f"{2 * n + 1}") for n in range(12)]


def asked_run(folder):
    """A student and its adapters learn from a teacher; what is asked stands in a text."""
    for split in ("train", "test"):
        rows = [{"question": q, "answer": a} for q, a in ROWS[:: 1 if split == "train" else 3]]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = {"learning_rate": 1e-2, "batch_size": 4, "micro_batch_size": 4, "num_threads": 1}
    data = {split: str(folder / f"{split}.jsonl") for split in ("train", "test")}
    lora = {"rank": 2, "merge": False}
    return {
        "extends": "kld",
        "name": "asked",
        "student": {"model": str(folder / "calm")},
        "teacher": {"model": str(folder / "teacher")},
        "data": {**data, "template": "#{question}=?"},
        "curriculum": {"stages": 1, "total_steps": 2},
        "training": training,
        "evaluation": {"metrics": {"exact_match": {}}, "max_new_tokens": 6},
        "controls": {
            "lora": {
                "extends": "kld",
                "curriculum": {"stages": 1},
                "training": {**training, "lora": lora},
            }
        },
        "output": str(folder / "runs"),
    }


@pytest.fixture(scope="session")
def asked(tmp_path_factory):
    """The folder of the run; to read from."""
    from tutelage.pipeline import run

    base = tmp_path_factory.getbasetemp()
    if base.name.startswith("popen-gw"):  # below a folder that all processes of xdist share
        base = base.parent
    folder = base / "asked"
    with FileLock(f"{folder}.lock"):
        if not (folder / "run" / "report.html").is_file():
            folder.mkdir(exist_ok=True)
            make_models(folder)
            (folder / "calm" / "LICENSE").write_text("Do as you like.")
            with pytest.MonkeyPatch.context() as patch:
                leave_out_pictures(patch)
                run(asked_run(folder), run_dir=folder / "run")
    return folder / "run"


@pytest.fixture
def tutelage(capsys, monkeypatch):
    """Run a command in this process; its exit code, stdout and stderr."""
    import io
    import sys

    from tutelage.cli import main

    def call(*arguments, stdin=""):
        monkeypatch.setattr(sys, "argv", ["tutelage", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = exit_.code or 0
        output = capsys.readouterr()
        return code, output.out, output.err

    return call
