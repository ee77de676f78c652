"""What an on-policy step costs beside those of TRL: ``python on_policy.py --data ...``.

Every contender trains the same student against the same teacher on the same prompts, in batches of
the same size, with answers of the same length (random weights all but never end one), and reverse
KL over the whole vocabulary at temperature 1. Steady-state seconds of a step, the first ones left
out. ``reuse`` learns from each answer four times and keeps what the teacher says of it: its steps
are those of all passes, fresh and reused, on average.
"""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import common
from trainers import settings_of, stopwatch

CONTENDERS = {
    "fresh": "Tutelage, new answers in every step",
    "reuse": "Tutelage, each answer learned from four times",
    "trl_distillation": "TRL DistillationTrainer, no gradient checkpointing",
    "trl_gkd": "TRL GKDTrainer lmbda=1 beta=1, no gradient checkpointing",
}
REUSE = 4


def child(task: dict[str, Any]) -> dict[str, Any]:
    """One contender's run."""
    rows, tokenizer = common.rows_of(task)
    student, teacher = common.pair_of(task)
    watch = stopwatch(task, task.get("skip", 0))
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(task, folder)
        if task["contender"].startswith("trl"):
            trainer = _trl(task, student, teacher, rows, tokenizer, settings)
        else:
            trainer = _tutelage(task, student, teacher, rows, tokenizer, settings)
        trainer.add_callback(watch)
        trainer.train()
    return {
        "steps": [b - a for a, b in zip(watch.wall, watch.wall[1:], strict=False)],
        "steps_cpu": [b - a for a, b in zip(watch.cpu, watch.cpu[1:], strict=False)],
    }


def _tutelage(
    task: dict[str, Any], student: Any, teacher: Any, rows: Any, tokenizer: Any, settings: Any
) -> Any:
    import numpy as np

    from tutelage.curriculum import CurriculumOptions, PlanSettings, compile_plan
    from tutelage.generation import GenerationSettings
    from tutelage.training import DistillConfig, DistillTrainer
    from tutelage.training.own_answers import OwnAnswers
    from tutelage.types import DifficultyProfile

    reuse = REUSE if task["contender"] == "reuse" else 1
    profile = DifficultyProfile(tuple(rows["id"]), np.linspace(1.0, 2.0, len(rows)))
    curriculum = CurriculumOptions("random", stages=1, passes=float(reuse))
    plan = compile_plan(
        profile, PlanSettings(curriculum, batch_size=task["batch_size"], on_policy=1.0)
    )
    own = OwnAnswers(
        tokenizer,
        GenerationSettings(
            max_new_tokens=task["new_tokens"],
            sampling_temperature=1.0,
            precision=task["precision"],
        ),
        reuse=reuse,
        folder=Path(settings["output_dir"]) / "rollouts",
    )
    return DistillTrainer(
        student,
        DistillConfig(**settings, divergence="reverse_kl"),
        rows.select_columns(["id", "input_ids", "labels"]),
        teacher=teacher,
        plan=plan,
        vocab_size=len(tokenizer),
        own_answers=own,
    )


def _trl(
    task: dict[str, Any], student: Any, teacher: Any, rows: Any, tokenizer: Any, settings: Any
) -> Any:
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    settings = {**settings, "gradient_checkpointing": False, "temperature": 1.0, "beta": 1.0}
    if task["contender"] == "trl_distillation":
        from trl import DistillationConfig, DistillationTrainer

        return DistillationTrainer(
            student,
            teacher,
            args=DistillationConfig(
                **settings, max_completion_length=task["new_tokens"], shuffle_dataset=False
            ),
            train_dataset=rows.select_columns(["prompt"]),
            processing_class=tokenizer,
        )
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    return GKDTrainer(
        student,
        teacher,
        GKDConfig(**settings, lmbda=1.0, max_new_tokens=task["new_tokens"], max_length=None),
        train_dataset=rows.select_columns(["messages"]),
        processing_class=tokenizer,
    )


def _prepared(options: Any) -> tuple[Any, Any]:
    """Rows with tokens for us and conversations for the peers, of the same prompts."""
    count = options.steps * options.batch_size
    rows, tokenizer = common.load_rows(options.data[0], options, count)

    def asked(row: dict[str, Any]) -> dict[str, Any]:
        user = common.user_turn(row, tokenizer)
        start = next(i for i, label in enumerate(row["labels"]) if label != -100)
        answer = tokenizer.decode(row["input_ids"][start:], skip_special_tokens=True)
        turns = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
        return {"prompt": turns[:1], "messages": turns}

    return rows.map(asked), tokenizer


def one_case(pair: str, new_tokens: int, options: Any) -> dict[str, Any]:
    """All contenders with one student, one teacher and one length of answers."""
    student, teacher = pair.split(":")
    with tempfile.TemporaryDirectory() as folder:
        rows, tokenizer = _prepared(options)
        models = {"student": student, "teacher": teacher, "new_tokens": new_tokens}
        task = common.task_of(folder, rows, tokenizer, options, passes=1, **models)
        runs = common.compared(__file__, task, options)
    mean = {
        key: {name: [_mean(run[key], options.skip) for run in of] for name, of in runs.items()}
        for key in ("steps", "steps_cpu")
    }
    return {
        "student": student,
        "teacher": teacher,
        "new_tokens": new_tokens,
        "batch_size": options.batch_size,
        "precision": options.precision,
        "seconds": {name: common.spread(values) for name, values in mean["steps"].items()},
        "cpu_seconds": {name: common.spread(values) for name, values in mean["steps_cpu"].items()},
        "over_fresh": {
            name: common.paired_ratio(values, mean["steps"]["fresh"])
            for name, values in mean["steps"].items()
            if "fresh" in mean["steps"]
        },
        "runs": runs,
    }


def _mean(steps: list[float], skip: int) -> float:
    return sum(steps[skip:]) / len(steps[skip:])


def show(record: dict[str, Any]) -> str:
    """One case as a table."""
    head = (
        f"\nstudent {record['student']}, teacher {record['teacher']}, {record['precision']},"
        f" {record['batch_size']} prompts a step, {record['new_tokens']} new tokens\n"
    )
    lines = [
        (
            CONTENDERS[name],
            common.shown(seconds),
            common.shown(record["cpu_seconds"][name]),
            common.shown(record["over_fresh"][name]) if record["over_fresh"] else "",
        )
        for name, seconds in record["seconds"].items()
    ]
    return head + "\n" + common.table(("contender", "s a step", "CPU s", "over fresh"), lines)


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__)
    common.data_arguments(parser)
    parser.add_argument("--pairs", nargs="+", default=["12m:135m"], help="student:teacher")
    parser.add_argument("--new-tokens", type=int, nargs="+", default=[64])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--skip", type=int, default=2, help="first steps that are not counted")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    options = parser.parse_args()
    if options.child:
        return common.be_child(options.child, child)
    if not options.data:
        parser.error("--data is needed: a file of instructions, whose prompts are asked")
    cases = itertools.product(options.pairs, options.new_tokens)
    common.run_cases("on_policy", options, cases, one_case, show)


if __name__ == "__main__":
    main()
