"""What a training takes of memory, beside the formula: ``python memory.py [--table]``.

Each case is a process of its own (two, where models are cut), whose resident memory is looked at
every two milliseconds: the peak of two steps above what was there before the models. glibc is told
to give memory back at once (MALLOC_MMAP_THRESHOLD_); without that the peak of a CPU process is up
to 1.9 times as high, since pieces of freed arrays stay. ``--table`` prints what the formula says
of the sizes that people have.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import common

from tutelage.pipeline.stages.memory import Memory, Sizes, training_memory

CASES = (
    {"student": "12m", "teacher": "64m", "rows": 4, "length": 128},
    {"student": "64m", "teacher": "12m", "rows": 4, "length": 128},
    {"student": "64m", "teacher": "64m", "rows": 16, "length": 256},
    {"student": "64m", "teacher": "12m", "rows": 16, "length": 256, "checkpointed": True},
    {"student": "64m", "teacher": "64m", "rows": 4, "length": 64, "processes": 2},
    *(
        {**{"student": "64m", "teacher": "64m", "rows": 4, "length": 64}, "processes": 2, **cut}
        for cut in ({"shard": "student"}, {"shard": "teacher"}, {"shard": "both"})
    ),
)
VOCABULARY = 8192
MB = 1e6


def sizes_of(model: Any) -> Sizes:
    """A model to the formula."""
    from tutelage.models.shards import find_layers

    inside = sum(p.numel() for layer in find_layers(model) for p in layer.parameters())
    count, config = common.parameters(model), model.config
    shape = (config.num_hidden_layers, config.hidden_size, config.vocab_size)
    return Sizes(count, count - inside, *shape)


def by_formula(case: dict[str, Any], student: Sizes, teacher: Sizes) -> Memory:
    """What the formula says of a case."""
    return training_memory(
        student,
        teacher,
        trainable=student.parameters,
        tokens=case["rows"] * case["length"],
        checkpointed=case.get("checkpointed", False),
        processes=case.get("processes", 1),
        shard=case.get("shard", "none"),
    )


def _resident() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def child(case: dict[str, Any]) -> dict[str, Any] | None:
    """Train two steps of a case; what the first process took."""
    import datasets
    import numpy as np
    import torch

    from tutelage import DistillConfig, DistillTrainer

    torch.set_num_threads(1)
    rng, half = np.random.default_rng(0), case["length"] // 2
    tokens = rng.integers(3, VOCABULARY, (2 * case["rows"] * case.get("processes", 1), 2 * half))
    rows = datasets.Dataset.from_list(
        [
            {"id": str(n), "input_ids": row, "labels": [-100] * half + row[half:]}
            for n, row in enumerate(tokens.tolist())
        ]
    )
    before, peak, ended = _resident(), [0], threading.Event()

    def watch() -> None:
        while not ended.is_set():
            peak[0] = max(peak[0], _resident())
            time.sleep(0.002)

    student = common.build_model(case["student"], VOCABULARY, 0)
    teacher = common.build_model(case["teacher"], VOCABULARY, 1)
    sizes = sizes_of(student), sizes_of(teacher)
    with tempfile.TemporaryDirectory() as folder:
        settings = DistillConfig(
            folder,
            per_device_train_batch_size=case["rows"],
            max_steps=2,
            ce_weight=0.0,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
            gradient_checkpointing=case.get("checkpointed", False),
            shard=case.get("shard", "none"),
        )
        trainer = DistillTrainer(student, settings, rows, teacher=teacher)
        thread = threading.Thread(target=watch)
        thread.start()
        trainer.train()
        ended.set()
        thread.join()
    if os.environ.get("RANK", "0") != "0":
        return None
    return {"peak": peak[0] - before, "student": vars(sizes[0]), "teacher": vars(sizes[1])}


def measured(case: dict[str, Any]) -> dict[str, Any]:
    """A case in processes of its own, with what the formula says."""
    launcher: list[str] = []
    if case.get("processes", 1) > 1:
        count = str(case["processes"])
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]
    own = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, *launcher, __file__, "--child", json.dumps(case)],
        capture_output=True,
        text=True,
        env={**os.environ, **own, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    found = json.loads(
        next(line for line in done.stdout.splitlines() if line.startswith('{"peak"'))
    )
    said = by_formula(case, Sizes(**found["student"]), Sizes(**found["teacher"]))
    return {"case": case, **found, "formula": {**vars(said), "total": said.total}}


QWEN = {
    # Parameters and those outside layers in millions, layers, width: of Qwen2.5, head padded.
    "0.5B": (494, 136, 24, 896),
    "1.5B": (1544, 233, 28, 1536),
    "3B": (3086, 311, 36, 2048),
    "7B": (7616, 1090, 28, 3584),
    "14B": (14770, 1557, 48, 5120),
    "32B": (32764, 1557, 64, 5120),
    "72B": (72706, 2491, 80, 8192),
}
VOCABULARY_QWEN = 151_936


def qwen(name: str, itemsize: int) -> Sizes:
    """One of the sizes of Qwen2.5."""
    parameters, outside, layers, hidden = QWEN[name]
    return Sizes(parameters * 10**6, outside * 10**6, layers, hidden, VOCABULARY_QWEN, itemsize)


def table() -> str:
    """GB a GPU of pairs that people have: 8,192 tokens a micro-batch, products in bfloat16."""
    pairs = (("0.5B", "7B"), ("1.5B", "7B"), ("3B", "32B"), ("7B", "72B"))
    ways: dict[str, dict[str, Any]] = {
        "stored teacher": {"live": False},
        "live teacher": {},
        "both cut over 2": {"processes": 2, "shard": "both"},
        "over 4": {"processes": 4, "shard": "both"},
        "over 8": {"processes": 8, "shard": "both"},
        "student cut over 8, stored": {"processes": 8, "shard": "student", "live": False},
    }
    rows = []
    for small, large in pairs:
        student, teacher = qwen(small, 4), qwen(large, 2)
        options = {"trainable": student.parameters, "tokens": 8192, "precision": "bfloat16"}
        found = [
            training_memory(student, teacher, checkpointed=True, **options, **way).total / 1e9
            for way in ways.values()
        ]
        rows.append([f"{small}, {large}", *(f"{value:.0f}" for value in found)])
    return common.table(["student, teacher", *ways], rows)


def main() -> None:
    """Measure the cases, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--name", default="memory")
    parser.set_defaults(threads=1, seed=0, precision="float32")
    options = parser.parse_args()
    if options.child:
        if (found := child(json.loads(options.child))) is not None:
            print(json.dumps(found), flush=True)
        return
    if options.table:
        print(table())
        return
    records = []
    for case in CASES:
        records.append(measured(case))
        last = records[-1]
        ratio = last["formula"]["total"] / last["peak"]
        print(case, f"{last['peak'] / MB:.0f} MB; by the formula {ratio:.2f} of it", flush=True)
        common.write_results(options.name, options, records)


if __name__ == "__main__":
    main()
