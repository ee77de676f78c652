"""What a step of distillation costs beside a step of fine-tuning: ``python kd_step.py --data ...``.

Steady-state seconds of a step inside real training runs, the first steps left out. All contenders
see the same rows in the same order in batches of the same size, with the same optimizer.
"""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import common
from trainers import CONTENDERS, WITH_TEACHER, measure

BASELINES = ("plain", "trl_sft", "trl_sft_defaults", "live", "trl_gkd", "trl_gkd_defaults")


def child(task: dict[str, Any]) -> dict[str, Any]:
    """One contender's run."""
    rows, tokenizer = common.rows_of(task)
    student, teacher = common.pair_of(task, with_teacher=task["contender"] in WITH_TEACHER)
    with tempfile.TemporaryDirectory() as folder:
        return measure(task, student, teacher, rows, tokenizer, folder)


def kept(run: dict[str, Any], which: str, skip: int) -> float:
    """Mean seconds of a step over the steps after the first ones; the same rows for everyone."""
    times = run[which][skip:]
    return sum(times) / len(times)


def one_case(source: str | None, pair: str, options: Any) -> dict[str, Any]:
    """All contenders on one file of rows with one student and teacher."""
    student, teacher = pair.split(":")
    with tempfile.TemporaryDirectory() as folder:
        rows, tokenizer = common.load_rows(source, options, options.steps * options.batch_size)
        models = {"student": student, "teacher": teacher}
        task = common.task_of(
            folder, rows, tokenizer, options, steps=options.steps, passes=1, **models
        )
        runs = common.compared(__file__, task, options)
    seconds = {name: [kept(run, "steps", options.skip) for run in runs[name]] for name in runs}
    cpu = {name: [kept(run, "steps_cpu", options.skip) for run in runs[name]] for name in runs}
    return {
        "data": Path(source).parent.name if source else "made up",
        "student": student,
        "teacher": teacher,
        "teacher_parameters": common.parameters(
            common.build_model(teacher, common.SMOLLM2_VOCABULARY, 0)
        ),
        "precision": options.precision,
        "batch_size": options.batch_size,
        "rows": common.describe_rows(rows, options.batch_size),
        "steps_timed": options.steps - options.skip,
        "seconds": {name: common.spread(values) for name, values in seconds.items()},
        "cpu_seconds": {name: common.spread(values) for name, values in cpu.items()},
        "stored_over": {
            name: {
                "wall": common.paired_ratio(seconds["stored"], seconds[name]),
                "cpu": common.paired_ratio(cpu["stored"], cpu[name]),
            }
            for name in seconds
            if name in BASELINES and "stored" in seconds
        },
        "runs": runs,
    }


def show(record: dict[str, Any]) -> str:
    """One case as a table."""
    rows = record["rows"]
    head = (
        f"\n{record['data']}, student {record['student']}, teacher {record['teacher']},"
        f" {record['precision']}, {record['batch_size']} rows a step: {rows['tokens']:.0f} tokens,"
        f" {rows['padded_tokens']:.0f} with padding, {rows['response_tokens']:.0f} learned\n"
    )
    lines = []
    for name, seconds in record["seconds"].items():
        ratio = record["stored_over"].get(name)
        lines.append(
            (
                CONTENDERS[name],
                common.shown(seconds),
                common.shown(record["cpu_seconds"][name]),
                common.shown(ratio["wall"]) if ratio else "",
                common.shown(ratio["cpu"]) if ratio else "",
            )
        )
    header = ("contender", "s a step", "CPU s a step", "stored / this", "the same in CPU s")
    return head + "\n" + common.table(header, lines)


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__)
    common.data_arguments(parser)
    parser.add_argument("--pairs", nargs="+", default=["12m:135m", "64m:135m"])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--skip", type=int, default=3, help="first steps that are not counted")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    options = parser.parse_args()
    if options.child:
        return common.be_child(options.child, child)
    cases = itertools.product(options.data or [None], options.pairs)
    common.run_cases("kd_step", options, cases, one_case, show)


if __name__ == "__main__":
    main()
