"""Damage a file of a run folder or its cache, give the command again, and look at what came."""

import os
import re
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import torch
import yaml
from killing import students

from tutelage.files import read_json, read_jsonl


def _in_place(change):
    """Both names of a file that has two are damaged, as on a disk that fails."""

    def damage(path):
        content = path.read_bytes()
        path.chmod(0o644)
        with path.open("r+b") as file:
            new = change(content)
            file.write(new)
            file.truncate(len(new))

    return damage


def _flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


WAYS = {
    "flip": _in_place(_flipped),
    "cut": _in_place(lambda content: content[: len(content) // 2]),
    "empty": _in_place(lambda content: b""),
    "delete": Path.unlink,
}

UNNAMED = {
    r"run/(run|versions|recipe)\.json|run/(report\.html|recipe\.yaml)": "every run writes it",
    r"run/arms/\w+/student(_last)?/README\.md": "every run writes the cards",
    r"run/cache\.json|cache/users/\w+\.json": "every run writes whom it needs",
    r"run/seconds\.json delete": "how long the stages took, on which no result depends",
    r"run/\.lock|cache/\.locks/.*": "a lock is held, not read",
    r"cache/parts/.*": "is read by a run that lacks the part",
    r"cache/store-\w+/.*": "is read, and then verified, where something is learned from it",
    r".*/complete\.json delete": "a checkpoint without its marker is one that a kill left so",
    r"run/arms/\w+/training/checkpoint-[24]/.*": "is not read where a newer one is whole",
    r".*/texts\.jsonl (cut|empty|delete)": "what is not written yet is written, and the rest taken",
    r".*/training/(metrics|validation)\.jsonl .*": "its end, beyond the checkpoint, comes again",
}
"""What may be damaged without a line, as ``file`` or ``file way``; and why."""


def may_be_unnamed(file, way):
    """Whether the command may pass over the damage: the result is the same all the same."""
    return any(
        re.fullmatch(f"({one})", name) for one in UNNAMED for name in (file, f"{file} {way}")
    )


def all_files(folder):
    """What may be damaged, by path; what is empty has nothing to lose but itself."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [str(path.relative_to(folder)) for path in found]


def cases(folder):
    """Every file in every way."""
    return [
        (file, way)
        for file in all_files(folder)
        for way in WAYS
        if way == "delete" or (folder / file).stat().st_size
    ]


def copy(source, target):
    """A copy of a folder with its links among themselves."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", source, target], check=True)


def command(recipe, run_dir, said):
    """``tutelage run`` in a child; its exit code and everything that it said."""
    path = said.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe))
    child = os.fork()
    if child == 0:
        code = 99
        try:
            handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            sys.stdout = sys.stderr = os.fdopen(handle, "w", buffering=1)
            from tutelage.cli import main

            sys.argv = ["tutelage", "run", str(path), "--run-dir", str(run_dir)]
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said.read_text(errors="replace")


def results(run):
    """Students, records and scores of a run: what damage must not change."""
    return {
        "students": students(run),
        "records": {
            str(path.relative_to(run)): [
                {k: v for k, v in row.items() if k != "seconds"} for row in read_jsonl(path)
            ]
            for path in sorted(run.glob("arms/*/*.jsonl"))
        },
        "scores": {
            str(path.relative_to(run)): read_json(path)["scores"]
            for path in sorted(run.rglob("scores.json"))
        },
    }


def difference(one, two):
    """What differs between the results of two runs; None for nothing."""
    for what in ("records", "scores"):
        if one[what] != two[what]:
            return what
    a, b = one["students"], two["students"]
    same = a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    return None if a and same else "students"


def fault(code, said, run, expected, file, way, *, reads_all=False):
    """What is wrong with how a command met damage; None: nothing."""
    named = f"{Path(file).name}'" in said
    if "Traceback" in said or code not in (0, 2):
        return f"exit {code}: {said.strip().splitlines()[-1:]}"
    if code == 2:
        *_, last = said.strip().splitlines() or [""]
        whole = last.startswith("error: ") and (named or Path(file).parent.name in last)
        return None if whole else f"refused without its name: {last}"
    differs = difference(results(run), expected)
    if differs is not None:
        return f"other {differs}"
    unnamed = not reads_all and may_be_unnamed(file, way)
    return None if named or unnamed else "not a word"
