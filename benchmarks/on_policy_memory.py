"""What an on-policy step takes in memory beyond another: ``python on_policy_memory.py --data ...``.

The same student, teacher and batch: prompts with answers of the same length (random weights all
but never end one). Each contender has a process of its own, in which the peak of resident memory is
taken of each step by itself; the largest of those after the first ones counts. Off-policy the
teacher is stored, so that its head alone is in memory; on new answers it runs beside the student;
on kept ones, once all of them are written, it is let go but for its head.

What is beyond the off-policy step is held against two sizes that are known without measuring: the
weights of the teacher's body, and the cache of the batch while it is written.
"""

import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

import common
from trainers import settings_of

CONTENDERS = {
    "off": "off-policy, stored teacher",
    "fresh": "new answers in every step",
    "kept": "kept answers, the teacher let go",
}
MIB = 1 << 20


def child(task: dict[str, Any]) -> dict[str, Any]:
    """One contender's run, or the store that the first one reads."""
    import torch

    rows, tokenizer = common.rows_of(task)
    vocabulary = common.SMOLLM2_VOCABULARY
    columns = rows.select_columns(["id", "input_ids", "labels"])
    autocast = torch.bfloat16 if task["precision"] == "bfloat16" else None

    def teacher() -> Any:
        return common.build_model(task["teacher"], vocabulary, task["seed"] + 1)

    if task["contender"] == "store":
        from stored import stored_signal

        stored_signal(teacher(), rows, vocabulary, autocast, Path(task["store"]))
        return {}
    student = common.build_model(task["student"], vocabulary, task["seed"])
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(task, folder)
        trainer = _trainer(task, student, teacher, columns, tokenizer, settings)
        watch = _peaks()
        trainer.add_callback(watch)
        trainer.train()
    return {"peaks": watch.peaks}


def _peaks() -> Any:
    """A callback that notes the peak of each step."""
    from transformers import TrainerCallback

    class Peaks(TrainerCallback):
        def __init__(self) -> None:
            self.peaks: list[int] = []

        def on_train_begin(self, *unused: Any, **keywords: Any) -> None:
            common.peak_since_last()

        def on_step_end(self, *unused: Any, **keywords: Any) -> None:
            self.peaks.append(common.peak_since_last())

    return Peaks()


def _trainer(
    task: dict[str, Any], student: Any, teacher: Any, rows: Any, tokenizer: Any, settings: Any
) -> Any:
    import numpy as np
    import torch

    from tutelage.curriculum import CurriculumOptions, PlanSettings, compile_plan
    from tutelage.generation import GenerationSettings
    from tutelage.teachers import LiveTeacher, StoredTeacher, TeacherLadder, TeacherStore
    from tutelage.training import DistillConfig, DistillTrainer
    from tutelage.training.own_answers import OwnAnswers
    from tutelage.types import DifficultyProfile

    vocabulary = common.SMOLLM2_VOCABULARY
    autocast = torch.bfloat16 if task["precision"] == "bfloat16" else None
    kept, off = task["contender"] == "kept", task["contender"] == "off"

    def signal() -> Any:
        if off:
            return StoredTeacher(TeacherStore(Path(task["store"])), rows)
        again = teacher if kept else None
        return LiveTeacher(teacher(), vocabulary, autocast, packed=True, again=again)

    profile = DifficultyProfile(tuple(rows["id"]), np.linspace(1.0, 2.0, len(rows)))
    plan = compile_plan(
        profile,
        PlanSettings(
            CurriculumOptions("random", stages=1, passes=2.0),
            batch_size=task["batch_size"],
            on_policy=0.0 if off else 1.0,
        ),
    )
    generation = GenerationSettings(
        max_new_tokens=task["new_tokens"], sampling_temperature=1.0, precision=task["precision"]
    )
    folder = Path(settings["output_dir"]) / "rollouts"
    return DistillTrainer(
        student,
        DistillConfig(**settings, divergence="reverse_kl"),
        rows,
        teacher=TeacherLadder({plan.teachers[0]: signal}),
        plan=plan,
        vocab_size=vocabulary,
        own_answers=OwnAnswers(tokenizer, generation, reuse=2 if kept else 1, folder=folder),
    )


def _cut(rows: Any, prompt: int, answer: int) -> Any:
    """Rows of one length, made of those that are long enough."""

    def alike(row: dict[str, Any]) -> dict[str, Any]:
        tokens = (row["input_ids"] * (1 + (prompt + answer) // len(row["input_ids"])))[
            : prompt + answer
        ]
        return {"input_ids": tokens, "labels": [-100] * prompt + tokens[prompt:]}

    return rows.map(alike)


def one_case(pair: str, new_tokens: int, options: Any) -> dict[str, Any]:
    """All contenders with one student, one teacher and one length of answers."""
    student, teacher = pair.split(":")
    with tempfile.TemporaryDirectory() as folder:
        count = options.steps * options.batch_size
        rows, tokenizer = common.load_rows(options.data[0], options, count)
        rows = _cut(rows, options.prompt_tokens, new_tokens)
        task = common.task_of(
            folder, rows, tokenizer, options, passes=1, student=student, teacher=teacher,
            new_tokens=new_tokens, store=f"{folder}/store",
        )  # fmt: skip
        common.run_child(__file__, {**task, "contender": "store"}, options.threads)
        runs = common.compared(__file__, task, options)
    peak = {
        # The second pass: optimizer state is there, and kept answers are all written.
        name: [max(run["peaks"][options.steps + 1 :]) for run in of]
        for name, of in runs.items()
    }
    width, _, layers, heads, key_heads = common.SHAPES[student]
    cached = 2 * layers * (width // heads * key_heads) * (options.prompt_tokens + new_tokens)
    number = 2 if options.precision == "bfloat16" else 4
    body = common.parameters(common.build_model(teacher, common.SMOLLM2_VOCABULARY, 0))
    body -= common.SHAPES[teacher][0] * common.SMOLLM2_VOCABULARY
    return {
        "student": student,
        "teacher": teacher,
        "prompt_tokens": options.prompt_tokens,
        "new_tokens": new_tokens,
        "batch_size": options.batch_size,
        "precision": options.precision,
        "peak_bytes": {name: common.spread(values) for name, values in peak.items()},
        "teacher_body_bytes": 4 * body,
        "cache_bytes": cached * options.batch_size * number,
        "runs": runs,
    }


def show(record: dict[str, Any]) -> str:
    """One case as a table."""
    head = (
        f"\nstudent {record['student']}, teacher {record['teacher']}, {record['precision']},"
        f" {record['batch_size']} prompts of {record['prompt_tokens']} tokens a step,"
        f" {record['new_tokens']} new tokens; the teacher's body"
        f" {record['teacher_body_bytes'] / MIB:.0f} MiB, the batch's cache"
        f" {record['cache_bytes'] / MIB:.0f} MiB\n"
    )
    peaks = {n: {k: v / MIB for k, v in of.items()} for n, of in record["peak_bytes"].items()}
    known = {"fresh": record["teacher_body_bytes"] + record["cache_bytes"]}
    lines = []
    for name, peak in peaks.items():
        beyond = peak["median"] - peaks["off"]["median"]
        rest = beyond - known.get(name, 0) / MIB
        lines.append((CONTENDERS[name], common.shown(peak, 0), f"{beyond:+.0f}", f"{rest:+.0f}"))
    header = ("a step", "peak MiB", "beyond off-policy", "of which not body or cache")
    return head + "\n" + common.table(header, lines)


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__)
    common.data_arguments(parser)
    parser.add_argument("--pairs", nargs="+", default=["12m:135m"], help="student:teacher")
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--steps", type=int, default=3, help="steps of a pass; there are two")
    options = parser.parse_args()
    options.contenders = list(CONTENDERS)
    if options.child:
        return common.be_child(options.child, child)
    if not options.data:
        parser.error("--data is needed: a file of instructions, whose prompts are asked")
    # Memory that is freed goes back at once: what is resident is what is in use.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(1 << 16)
    cases = itertools.product(options.pairs, options.new_tokens)
    common.run_cases("on_policy_memory", options, cases, one_case, show)


if __name__ == "__main__":
    main()
