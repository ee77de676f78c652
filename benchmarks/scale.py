"""What millions of rows cost, in seconds and memory, stage by stage: ``python scale.py``.

Short made-up rows go through reading, tokenizing, saving, planning, opening and looking up, each
size in a process of its own, beside ``datasets.map`` with the same fast tokenizer and as many
processes as there are threads; and through a whole run of a few updates. Memory that only this
process can hold (``private``) stands apart from all that was resident, of which pages of
memory-mapped files are a part that the system takes back when others need it.
"""

import argparse
import contextlib
import itertools
import json
import random
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import common
import planning

VOCABULARY = 8_192
FEW = 10_000
"""Rows of the run with whose memory that of the others is compared."""

PASSES = {"stages": "stages of the data", "map": "datasets.map", "run": "a whole run"}


# ---- what is read -------------------------------------------------------------------------------


def made_up_rows(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Prompts and answers of a dozen words each, the frequent words short, as in a language."""
    rng = random.Random(seed)
    sounds = [a + b for a, b in itertools.product("bdfgklmnprstvz", "aeiou")]
    words = sounds + ["".join(rng.choices(sounds, k=rng.randint(2, 4))) for _ in range(5_000)]
    weights = list(itertools.accumulate(1 / (n + 10) for n in range(len(words))))
    for number in range(count):
        said = rng.choices(words, cum_weights=weights, k=rng.randint(16, 30))
        cut = len(said) // 2
        yield f"{number} {' '.join(said[:cut])}:", f" {' '.join(said[cut:])}."


def write_rows(path: Path, count: int, seed: int) -> None:
    """As JSON Lines."""
    with path.open("w", encoding="utf-8") as file:
        for prompt, answer in made_up_rows(count, seed):
            file.write(json.dumps({"prompt": prompt, "completion": answer}) + "\n")


def make_tokenizer(folder: Path) -> None:
    """A byte-level one that learned its pieces from rows of the same kind."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (text for row in made_up_rows(FEW, seed=-1) for text in row)
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
    fast.save_pretrained(folder)


# ---- time and memory ----------------------------------------------------------------------------


class Watch:
    """Most memory that this process held, in MB, looked at a hundred times a second (Linux)."""

    def __init__(self) -> None:
        self._most = {"private": 0, "resident": 0}
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        names = {"RssAnon:": "private", "VmRSS:": "resident"}
        while True:
            for line in Path("/proc/self/status").read_text().splitlines():
                name, *value = line.split()
                if name in names:
                    most = self._most[names[name]]
                    self._most[names[name]] = max(most, int(value[0]))
            time.sleep(0.01)

    def start(self) -> None:
        """Forget what was."""
        self._most = dict.fromkeys(self._most, 0)

    def most(self) -> dict[str, float]:
        """Since the start, or since the last time that it was started."""
        while not all(self._most.values()):
            time.sleep(0.01)
        return {name: round(size * 1024 / 1e6) for name, size in self._most.items()}


def cpu_seconds() -> float:
    """Processor time over all threads, and over other processes that were started and ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return common.cpu_seconds() + used.ru_utime + used.ru_stime


@contextlib.contextmanager
def measured(found: dict[str, Any], name: str, watch: Watch) -> Iterator[None]:
    """Seconds, processor seconds and peaks of the block, under its name."""
    watch.start()
    start, busy = time.perf_counter(), cpu_seconds()
    yield
    found[name] = {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu": round(cpu_seconds() - busy, 2),
        **watch.most(),
    }


# ---- the passes ---------------------------------------------------------------------------------


def child(task: dict[str, Any]) -> dict[str, Any]:
    """One pass over the rows."""
    passes: dict[str, Callable[[dict[str, Any], Watch], dict[str, Any]]] = {
        "stages": the_stages,
        "map": the_map,
        "run": the_run,
    }
    return passes[task["contender"]](task, Watch())


def the_stages(task: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """Read, tokenize and save, plan, open and look up; each also beside what it starts with."""
    import datasets
    import numpy as np

    from tutelage.curriculum import (
        CurriculumOptions,
        PlanSettings,
        compile_plan,
        describe_plan,
        load_plan,
        save_plan,
    )
    from tutelage.data import load_examples, tokenize_examples
    from tutelage.data.kept import write_examples
    from tutelage.data.lengths import NUM_RESPONSE_TOKENS, stored_lengths
    from tutelage.difficulty import load_profile, save_profile
    from tutelage.ids import Ids
    from tutelage.models import load_tokenizer
    from tutelage.training.batches import join_by_id
    from tutelage.types import DifficultyProfile

    tokenizer, found = load_tokenizer(task["tokenizer"]), {}
    with tempfile.TemporaryDirectory(dir=task["folder"]) as place:
        folder = Path(place)
        with measured(found, "nothing", watch):
            pass
        with measured(found, "read", watch):
            loaded = load_examples(task["rows"])
        with measured(found, "tokenize", watch):
            split = tokenize_examples(loaded, tokenizer, template="plain")
        tokens = split.summary["total_tokens"]
        with measured(found, "save", watch):
            split.dataset.save_to_disk(folder / "rows")
            write_examples(folder / "examples.parquet", loaded.examples)
        del loaded, split
        rows = datasets.load_from_disk(str(folder / "rows"))
        with measured(found, "plan", watch):
            lengths = stored_lengths(rows, NUM_RESPONSE_TOKENS)
            profile = DifficultyProfile(Ids(rows.data["id"]), lengths.astype(float), "length")
            groups = rows.data["group"]
            save_profile(folder / "profile.parquet", profile, num_tokens=lengths, groups=groups)
            options = CurriculumOptions(kind="calibrated", stages=5, epochs=1)
            plan = compile_plan(profile, PlanSettings(options, batch_size=64))
            save_plan(folder, plan, describe_plan(plan, profile, "calibrated"))
        del rows, profile, plan, groups
        with measured(found, "open", watch):
            rows = datasets.load_from_disk(str(folder / "rows"))
            plan = load_plan(folder)
            load_profile(folder / "profile.parquet")
        with measured(found, "look up", watch):
            places = join_by_id(plan, Ids(rows.data["id"]))[0]
            for place in np.random.default_rng(0).integers(0, len(places), 1_000).tolist():
                assert rows[int(places[place])]["id"] == plan.ids[place]
    return {"steps": found, "tokens": tokens, "rows": len(rows)}


def the_map(task: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The usual way: prompt, answer and end as ids and labels, by ``datasets.map``."""
    import datasets

    from tutelage.models import load_tokenizer

    tokenizer, found = load_tokenizer(task["tokenizer"]), {}

    def encode(batch: dict[str, list]) -> dict[str, list]:
        prompts = tokenizer(batch["prompt"], add_special_tokens=False)["input_ids"]
        answers = tokenizer(batch["completion"], add_special_tokens=False)["input_ids"]
        answers = [[*answer, tokenizer.eos_token_id] for answer in answers]
        return {
            "input_ids": [a + b for a, b in zip(prompts, answers, strict=True)],
            "labels": [[-100] * len(a) + b for a, b in zip(prompts, answers, strict=True)],
        }

    with tempfile.TemporaryDirectory(dir=task["folder"]) as folder:
        with measured(found, "read", watch):
            # Parts of a file have to be cached somewhere; they go with the folder.
            rows = datasets.load_dataset(
                "json", data_files=task["rows"], split="train", cache_dir=folder
            )
        with measured(found, "tokenize", watch):
            rows = rows.map(encode, batched=True, num_proc=task["threads"])
        tokens = sum(map(len, rows[:FEW]["input_ids"]))
    return {"steps": found, "tokens_of_first": tokens, "rows": len(rows)}


def the_run(task: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """A run of a few updates with a profile of all rows, a plan over them, and a report."""
    import tutelage
    from tutelage.models import load_tokenizer
    from tutelage.pipeline.context.clock import FILE as SECONDS

    tokenizer, found = load_tokenizer(task["tokenizer"]), {}
    with tempfile.TemporaryDirectory(dir=task["folder"]) as place:
        folder = Path(place)
        for name, seed in (("student", 0), ("teacher", 1)):
            model = common.build_model("1m", len(tokenizer), seed)
            model.save_pretrained(folder / name)
            tokenizer.save_pretrained(folder / name)
        write_rows(folder / "test.jsonl", 20, seed=-2)
        recipe = {
            "extends": "cpd",
            "name": "scale",
            "student": {"model": f"{folder}/student"},
            "teacher": {"model": f"{folder}/teacher", "signal": "live"},
            "data": {"train": task["rows"], "test": f"{folder}/test.jsonl", "template": "plain"}
            | {"validation_share": 0.001},
            "difficulty": {"kind": "response_length"},
            "curriculum": {"stages": 5, "passes": 1},
            "training": {"batch_size": 64, "max_steps": 5, "num_threads": task["threads"]},
            "evaluation": {"max_new_tokens": 4},
            "selection": {"metric": None},
            "output": f"{folder}/runs",
        }
        with measured(found, "run", watch):
            result = tutelage.run(recipe, quiet=True)
        seconds = json.loads((result.folder / SECONDS).read_text())
    return {"steps": found, "clock": seconds}


# ---- the table ----------------------------------------------------------------------------------


def one_size(count: int, options: argparse.Namespace) -> dict[str, Any]:
    """All passes over so many rows."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows, tokenizer = Path(folder, "rows.jsonl"), options.tokenizer
        write_rows(rows, count, options.seed)
        if tokenizer is None:
            make_tokenizer(Path(folder, "tokenizer"))
            tokenizer = f"{folder}/tokenizer"
        task = {"rows": str(rows), "tokenizer": tokenizer, "folder": folder}
        task |= {"threads": options.threads}
        found: dict[str, Any] = {}
        for name in options.passes:
            asked = {**task, "contender": name}
            found[name] = common.run_child(__file__, asked, options.threads)
            print(f"  {count:,} {name}: {json.dumps(found[name])}", file=sys.stderr, flush=True)
        size = rows.stat().st_size
    return {"rows": count, "bytes": size, "passes": found}


def show(record: dict[str, Any]) -> str:
    """One size as a table."""
    lines = [
        (
            f"{PASSES[name]}: {step}",
            *(f"{taken[key]:,}" for key in ("seconds", "cpu", "private", "resident")),
        )
        for name, found in record["passes"].items()
        for step, taken in found["steps"].items()
    ]
    title = f"\n{record['rows']:,} rows, {record['bytes'] / 1e6:,.0f} MB\n\n"
    head = ("what", "s", "CPU s", "private MB, at most", "resident MB, at most")
    return title + common.table(head, lines)


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__)
    parser.add_argument("--sizes", type=float, nargs="+", default=[FEW, 1e5, 1e6])
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=list(PASSES))
    parser.add_argument("--tokenizer", help="where it is; by default one that is made here")
    parser.add_argument("--folder", help="where rows and runs are written; they go again")
    options = parser.parse_args()
    if options.child:
        return common.be_child(options.child, child)
    print(planning.machine())
    sizes = [(int(size),) for size in options.sizes]
    return common.run_cases("scale", options, sizes, one_size, show)


if __name__ == "__main__":
    main()
