"""Damage a file of a run folder or its cache, give the command again, and look at what came."""

import gc
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

import yaml
from kill_points import operation

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


def _other_digit(content):
    """Another digit, 1 to 9, in the place of the one nearest to the middle: JSON stays JSON."""
    middle = len(content) // 2
    places = [found.start() for found in re.finditer(rb"\d", content)]
    place = min(places, key=lambda one: abs(one - middle))
    digit = b"%d" % (int(content[place : place + 1]) % 9 + 1)
    return content[:place] + digit + content[place + 1 :]


def _swap(path):
    """The content of another file of that name, or of that kind, wherever it is in the folder."""
    content = path.read_bytes()
    root = next(folder for folder in path.parents if (folder / "cache").is_dir())
    found = [one for name in (path.name, f"*{path.suffix}") for one in sorted(root.rglob(name))]
    others = (one.read_bytes() for one in found if one.is_file())
    new = next((other for other in others if other not in (content, b"")), content[::-1])
    _in_place(lambda _: new)(path)


WAYS = {
    "flip": _in_place(_flipped),
    "cut": _in_place(lambda content: content[: len(content) // 2]),
    "empty": _in_place(lambda content: b""),
    "zeros": _in_place(lambda content: bytes(len(content))),
    "delete": Path.unlink,
}
"""How a disk fails, for any file."""

MORE_WAYS = {**WAYS, "digit": _in_place(_other_digit), "swap": _swap}
"""And what a mistaken hand does: another digit in a text, another file in its place."""

UNNAMED = {
    r".*/\.tmp-.*": "a killed process left it half-written; it is removed",
    r"run/(versions|recipe)\.json|run/(report\.html|recipe\.yaml)|run/run\.json delete": "every"
    " run writes it",
    r"run/arms/\w+/student(_last)?/(README\.md|recipe\.yaml)": "every run writes the cards",
    r"run/cache\.json|cache/users/\w+\.json": "every run writes whom it needs",
    r"run/seconds\.json delete": "how long the stages took, on which no result depends",
    r"run/\.lock|cache/\.locks/.*": "a lock is held, not read",
    r"cache/parts/.*": "is read by a run that lacks the part",
    r"cache/store-\w+/.*": "is read, and then verified, where something is learned from it",
    r".*/complete\.json delete": "a checkpoint without its marker is one that a kill left so",
    r"run/arms/\w+/training/checkpoint-[24]/.*": "is not read where a newer one is whole",
    r"best: run/arms/\w+/student_last/.*": "is written again with the student, which is not there",
    r".*-training/inputs\.json swap": "what was made from other inputs is begun anew",
    r".*/texts\.jsonl (cut|empty|delete)": "what is not written yet is written, and the rest taken",
    r".*/training/(metrics|validation)\.jsonl .*": "its end, beyond the checkpoint, comes again",
}
"""What may be damaged without a line, as ``file``, ``file way`` or ``state: file``; and why."""


def may_be_unnamed(file, way, state):
    """Whether the command may pass over the damage: the result is the same all the same."""
    names = (file, f"{file} {way}", f"{state}: {file}")
    return any(re.fullmatch(f"({one})", name) for one in UNNAMED for name in names)


KINDS = {
    r"[0-9a-f]{16}": "*",
    r"arms/\w+": "arms/*",
    r"references/\w+": "references/*",
    r"after_stage_\d+": "after_stage_*",
    r"checkpoint-\d+": "checkpoint-*",
    r"data/(train|validation|test)/": "data/*/",
}
"""What differs in the paths of files of one kind."""


def kind(file):
    """The file without what tells it from others of its kind."""
    for pattern, name in KINDS.items():
        file = re.sub(pattern, name, file)
    return file


def cases(folder, *, every=False):
    """One file of each kind in every way, the newest; or every file."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [str(path.relative_to(folder)) for path in found]
    chosen = files if every else {kind(file): file for file in files}.values()
    return [(file, way) for file in chosen for way in MORE_WAYS if _can_be(folder / file, way)]


def _can_be(path, way):
    """What is empty has nothing to lose but itself, and only a text has digits."""
    if way == "digit":
        is_text = path.suffix in (".json", ".jsonl", ".yaml")
        return is_text and bool(re.search(rb"\d", path.read_bytes()))
    return way == "delete" or path.stat().st_size > 0


def make_quick(patch):
    """Leave out what costs most of a run of tiny models and reads nothing: drawing, collecting.

    Args:
        patch: of pytest.
    """
    from tutelage.report.svg import Picture

    patch.setattr(Picture, "_svg", lambda picture, panel: "")
    patch.setattr(Picture, "png", lambda picture, **options: b"a picture")
    # What the children inherit is not theirs to go through at each collection.
    gc.collect()
    gc.freeze()


def copy(source, target):
    """A copy of a folder with its links among themselves."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", source, target], check=True)


def command(recipe, run_dir, said, *, until=None):
    """``tutelage run`` in a child; its exit code and everything that it said.

    Args:
        recipe: the recipe.
        run_dir: the run folder.
        said: file of its words.
        until: pattern of a file operation before which the child ends well: what follows reads
            nothing that is of interest. None for its own end.
    """
    path = said.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe))

    def stops():
        if until is not None:
            stop_before(until, str(said.parent))

    return in_child(said, ("run", str(path), "--run-dir", str(run_dir)), stops)


def in_child(said, arguments, before=lambda: None, *, patience=None):
    """The command line in a child; its exit code and everything that it said.

    Args:
        said: file of its words.
        arguments: of the command.
        before: called in the child before the command.
        patience: seconds after which the child is killed, with None as its code; None: waits.
    """
    child = os.fork()
    if child == 0:
        code = 99
        try:
            handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            sys.stdout = sys.stderr = os.fdopen(handle, "w", buffering=1)
            before()
            from tutelage.cli import main

            sys.argv = ["tutelage", *arguments]
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    until = None if patience is None else time.monotonic() + patience
    while until is None or time.monotonic() < until:
        done, status = os.waitpid(child, 0 if until is None else os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), said.read_text(errors="replace")
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None, said.read_text(errors="replace")


def stop_before(pattern, below):
    """End this process well before a file operation."""

    def hook(event, arguments):
        found = operation(event, arguments, below)
        if found is not None and re.search(pattern, found):
            sys.stderr.flush()
            os._exit(0)

    sys.addaudithook(hook)


OTHERWISE_EACH_TIME = {
    "manifest.json", "README.md", "recipe.yaml", "recipe.json", "run.json", "versions.json",
    "seconds.json", "cache.json", "cost.json", "report.html", ".lock",
}  # fmt: skip
"""Files that hold times, places or the checksums of such; their content is elsewhere too."""


def results(run):
    """What a run has made, file by file: what damage must not change."""
    found = {str(path.relative_to(run)): path for path in run.rglob("*") if path.is_file()}
    found |= {path.parent.name: path for path in run.glob("../cache/teacher-*/model.safetensors")}
    return {
        name: _content(path)
        for name, path in found.items()
        if path.name not in OTHERWISE_EACH_TIME and "training" not in name
    }


def _content(path):
    """Of records and summaries without times."""
    if path.suffix == ".jsonl":
        rows = read_jsonl(path)
        return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    if path.name == "summary.json":
        value = read_json(path)
        return {k: v for k, v in value.items() if k not in ("seconds", "tokens_per_second")}
    return path.read_bytes()


def difference(made, expected, *, partly=False):
    """The first file that differs between the results of two runs; None for none.

    Args:
        made: the results.
        expected: what they are to be.
        partly: whether some may not be there yet.
    """
    names = made.keys() & expected.keys() if partly else made.keys() | expected.keys()
    assert names
    return next((n for n in sorted(names) if made.get(n) != expected.get(n)), None)


OWNERS = re.compile(
    r"cache/parts/[^/]+|cache/[^/]+|run/arms/\w+/(evaluation|evaluation_last|plan|texts)/"
    r"|run/arms/\w+|run/references/\w+|run/[^/]+"
)
"""What is found damaged by itself, whatever else is damaged: a part with what lies beside it."""
TOGETHER = 10


def batches(found):
    """The cases in batches that one command meets: of each owner one file at most."""
    made = []
    for case in found:
        owner = OWNERS.match(case[0]).group()
        batch = next((b for b in made if owner not in b and len(b) < TOGETHER), None)
        if batch is None:
            batch = {}
            made.append(batch)
        batch[owner] = case
    return [list(batch.values()) for batch in made]


def fault(code, said, made, expected, batch, state, *, reads_all=False, partly=False):
    """What is wrong with how a command met damage; None: nothing.

    Args:
        code: its exit code.
        said: its words.
        made: the results of the run.
        expected: those of the unbroken run.
        batch: pairs of a damaged file and the way.
        state: in which the run was.
        reads_all: whether the command reads every file in question.
        partly: whether the run ended before all was made.
    """
    last = (said.strip().splitlines() or [""])[-1]
    if "Traceback" in said or code not in (0, 2):
        return f"exit {code}: {last}"
    if code == 2:
        if len(batch) > 1:
            return "refused, for one of them"
        file = Path(batch[0][0])
        whole = last.startswith("error: ") and (named(said, file) or file.parent.name in last)
        return None if whole else f"refused without its name: {last}"
    silent = [case for case in batch if not named(said, case[0])]
    differs = difference(made, expected, partly=partly)
    if differs is not None:
        return f"{'silent, and' if silent else 'named, but'} another {differs}"
    unnamed = [case for case in silent if reads_all or not may_be_unnamed(*case, state)]
    return f"not a word of {unnamed}" if unnamed else None


def named(said, file):
    """Whether a line names a file, or its folder and then the file."""
    file = Path(file)
    return any(
        f"{file}'" in line or (f"{file.parent}'" in line and f"'{file.name}'" in line)
        for line in said.splitlines()
    )
