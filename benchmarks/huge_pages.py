"""Steps with large tensors on huge pages and without: ``python benchmarks/huge_pages.py``.

``tutelage`` asks the kernel for huge pages by a variable that torch reads,
``THP_MEM_ALLOC_ENABLE``. Each round trains the same model in a process with it and in one without,
in turn; memory is all that was resident at its peak. Where the kernel gives huge pages to everybody
or to nobody (``/sys/kernel/mm/transparent_hugepage/enabled``) there is nothing to see.
"""

import time
from pathlib import Path
from typing import Any

import common

SHAPE = (576, 1536, 6, 9, 3)
"""A fifth of SmolLM2-135M's layers."""

VARIABLE = "THP_MEM_ALLOC_ENABLE"
CONTENDERS = {"huge pages": {VARIABLE: "1"}, "without": {VARIABLE: "0"}}
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def child(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each step, and the peak of the process."""
    import torch

    model = common.build_model(SHAPE, common.SMOLLM2_VOCABULARY, task["seed"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    tokens = torch.randint(3, common.SMOLLM2_VOCABULARY, (task["rows"], task["length"]))
    seconds = []
    for _ in range(task["steps"] + 1):
        start = time.perf_counter()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds[1:], "peak": common.peak_since_last()}


def main() -> None:
    """Measure, print and write."""
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=150, help="tokens of a row")
    parser.add_argument("--steps", type=int, default=3, help="of a round, after one that warms up")
    options = parser.parse_args()
    if options.child:
        common.be_child(options.child, child)
        return
    task = {key: getattr(options, key) for key in ("rows", "length", "steps", "seed", "threads")}
    threads = {"OMP_NUM_THREADS": str(options.threads)}

    def one(name: str) -> Any:
        return common.ask_child(__file__, task, {**threads, **CONTENDERS[name]})

    runs = common.in_turn(list(CONTENDERS), options.rounds, one)
    steps = {name: [min(run["seconds"]) for run in runs[name]] for name in runs}
    record = {
        "kernel": KERNEL.read_text().strip() if KERNEL.exists() else "",
        "task": task,
        "seconds": {name: common.spread(found) for name, found in steps.items()},
        "with_over_without": common.paired_ratio(*steps.values()),
        "peak": {name: common.spread(run["peak"] for run in runs[name]) for name in runs},
        "runs": runs,
    }
    common.write_results("huge_pages", options, [record])
    rows = (
        (name, common.shown(record["seconds"][name]), f"{record['peak'][name]['median'] / 1e9:.2f}")
        for name in runs
    )
    print(common.table(("", "a step, s", "peak, GB"), rows))
    print(f"\nwith over without: {common.shown(record['with_over_without'])}")


if __name__ == "__main__":
    main()
