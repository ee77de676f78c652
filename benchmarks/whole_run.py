"""What a whole distillation costs, building the store included: ``python whole_run.py --data ...``.

Equal updates on the same rows in the same order, several passes. Seconds run from models in memory
to the last update: for Tutelage they hold the teacher's pass and the setting up, for TRL the
setting up.
"""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import common
from kd_step import child
from trainers import CONTENDERS


def one_case(source: str | None, pair: str, options: Any) -> dict[str, Any]:
    """All contenders with one student and teacher."""
    student, teacher = pair.split(":")
    with tempfile.TemporaryDirectory() as folder:
        rows, tokenizer = common.load_rows(source, options, options.rows)
        models = {"student": student, "teacher": teacher}
        task = common.task_of(
            folder, rows, tokenizer, options, steps=None, passes=options.passes, **models
        )
        runs = common.compared(__file__, task, options)
    sizes = {
        name: common.parameters(common.build_model(name, common.SMOLLM2_VOCABULARY, 0))
        for name in (student, teacher)
    }
    return {
        "data": Path(source).parent.name if source else "made up",
        "student": student,
        "teacher": teacher,
        "teacher_over_student": sizes[teacher] / sizes[student],
        "precision": options.precision,
        "passes": options.passes,
        "batch_size": options.batch_size,
        "updates": len(runs["stored"][0]["steps"]),
        "rows": {"number": len(rows), **common.describe_rows(rows, options.batch_size)},
        "seconds": {n: common.spread(run["whole"] for run in runs[n]) for n in runs},
        "cpu_seconds": {n: common.spread(run["whole_cpu"] for run in runs[n]) for n in runs},
        "store_seconds": common.spread(run["store"] for run in runs["stored"]),
        "times_faster": {
            name: {
                key: common.paired_ratio(
                    [run[key] for run in runs[name]], [run[key] for run in runs["stored"]]
                )
                for key in ("whole", "whole_cpu")
            }
            for name in runs
            if name != "stored"
        },
        "runs": runs,
    }


def show(record: dict[str, Any]) -> str:
    """One case as a table."""
    lines = []
    for name, seconds in record["seconds"].items():
        faster = record["times_faster"].get(name)
        lines.append(
            (
                CONTENDERS[name],
                common.shown(seconds, 1),
                common.shown(record["cpu_seconds"][name], 1),
                common.shown(faster["whole"]) if faster else "",
                common.shown(faster["whole_cpu"]) if faster else "",
            )
        )
    size = record["runs"]["stored"][0]["store_bytes"]
    title = (
        f"\n{record['data']}, {record['rows']['number']} rows, {record['passes']} passes,"
        f" {record['updates']} updates of {record['batch_size']} rows; student"
        f" {record['student']}, teacher {record['teacher']}"
        f" ({record['teacher_over_student']:.1f} times), {record['precision']}; of which the store"
        f" {common.shown(record['store_seconds'], 1)} s; {size['found']:.0f} bytes for"
        f" {size['tokens']:.0f} tokens, {size['found'] / size['expected']:.4f} of 2 a number\n\n"
    )
    header = ("contender", "s", "CPU s", "times as long as the store", "the same in CPU s")
    return title + common.table(header, lines)


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__)
    common.data_arguments(parser)
    parser.add_argument("--pairs", nargs="+", default=["12m:135m", "64m:135m"])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument(
        "--contenders", nargs="+", choices=CONTENDERS, default=["stored", "trl_gkd"]
    )
    options = parser.parse_args()
    if options.child:
        return common.be_child(options.child, child)
    if "stored" not in options.contenders:
        parser.error("the store is what the others are held against: name `stored` too")
    cases = itertools.product(options.data or [None], options.pairs)
    common.run_cases("whole_run", options, cases, one_case, show)


if __name__ == "__main__":
    main()
