"""What measuring difficulty costs beside a forward pass: ``python profile_pass.py --data ...``.

``example_losses`` over real rows, in tokens a second without padding, against the student's own
forward pass over the same number of tokens packed into full rows: with logits of every token, as
calling the model gives them, and without the output head at all.
"""

import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import common

CONTENDERS = {
    "measure": "example_losses",
    "forward": "forward of packed text, with logits",
    "body": "forward of packed text, without the head",
}


def child(task: dict[str, Any]) -> dict[str, Any]:
    """One contender's pass over all tokens."""
    import datasets
    import torch

    rows = datasets.load_from_disk(task["rows"])
    model = common.build_model(task["student"], common.SMOLLM2_VOCABULARY, task["seed"]).eval()
    dtype = torch.bfloat16 if task["precision"] == "bfloat16" else None
    length = task["max_length"]
    stream = torch.tensor([token for tokens in rows["input_ids"] for token in tokens])
    packed = stream[: len(stream) // length * length].view(-1, length)

    def run() -> int:
        if task["contender"] == "measure":
            from tutelage.difficulty import example_losses

            example_losses(
                model,
                rows,
                vocab_size=common.SMOLLM2_VOCABULARY,
                batch_tokens=task["batch_tokens"],
                autocast_dtype=dtype,
            )
            return len(stream)
        forward = model if task["contender"] == "forward" else model.model
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype is not None):
            for batch in packed.split(max(1, task["batch_tokens"] // length)):
                forward(input_ids=batch, use_cache=False)
        return packed.numel()

    with torch.no_grad():
        model(input_ids=packed[:1, :16])  # libraries are loaded at the first call
    start, start_cpu = time.perf_counter(), common.cpu_seconds()
    tokens = run()
    return {
        "rate": tokens / (time.perf_counter() - start),
        "cpu_rate": tokens / (common.cpu_seconds() - start_cpu),
    }


def one_case(source: str | None, student: str, options: Any) -> dict[str, Any]:
    """All contenders with one student on one file."""
    with tempfile.TemporaryDirectory() as folder:
        rows, _ = common.load_rows(source, options, options.rows)
        rows.save_to_disk(f"{folder}/rows")
        names = ("precision", "threads", "seed", "max_length", "batch_tokens")
        task = {k: getattr(options, k) for k in names}
        task |= {"rows": f"{folder}/rows", "student": student}
        runs = common.in_turn(
            list(CONTENDERS),
            options.rounds,
            lambda name: common.run_child(__file__, {**task, "contender": name}, options.threads),
        )
    return {
        "data": Path(source).parent.name if source else "made up",
        "student": student,
        "precision": options.precision,
        "rows": {"number": len(rows), **common.describe_rows(rows, options.batch_size)},
        "rates": {n: common.spread(run["rate"] for run in runs[n]) for n in runs},
        "cpu_rates": {n: common.spread(run["cpu_rate"] for run in runs[n]) for n in runs},
        "measure_over": {
            n: {
                key: common.paired_ratio(
                    [run[key] for run in runs["measure"]], [run[key] for run in runs[n]]
                )
                for key in ("rate", "cpu_rate")
            }
            for n in ("forward", "body")
        },
    }


def show(record: dict[str, Any]) -> str:
    """One case as a table."""
    lines = []
    for name, rate in record["rates"].items():
        over = record["measure_over"].get(name)
        lines.append(
            (
                CONTENDERS[name],
                common.shown(rate, 0),
                common.shown(record["cpu_rates"][name], 0),
                common.shown(over["rate"]) if over else "",
                common.shown(over["cpu_rate"]) if over else "",
            )
        )
    title = (
        f"\n{record['data']}, {record['rows']['number']} rows, student {record['student']},"
        f" {record['precision']}\n\n"
    )
    header = ("pass", "tokens/s", "tokens/CPU s", "example_losses / this", "the same in CPU s")
    return title + common.table(header, lines)


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__)
    common.data_arguments(parser)
    parser.add_argument("--students", nargs="+", default=["12m", "64m"])
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    options = parser.parse_args()
    if options.child:
        return common.be_child(options.child, child)
    cases = itertools.product(options.data or [None], options.students)
    common.run_cases("profile_pass", options, cases, one_case, show)


if __name__ == "__main__":
    main()
