"""Time to equal quality, on-policy: ``python on_policy_run.py``.

The same student learns from the same teacher on the same prompts, with TRL's `DistillationTrainer`
and with Tutelage, new answers in every step and answers that are learned from again. Every so many
updates the student is compared with the teacher on held-out answers (nats per token of reverse KL,
share of tokens where both find the same one likeliest), and the clock stands still for that. The
table says when each first was as close as the peer at its end.
"""

import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import common
from trainers import settings_of

CONTENDERS = {
    "trl_distillation": "TRL DistillationTrainer, no gradient checkpointing",
    "fresh": "Tutelage, new answers in every step",
    "reuse": "Tutelage, each answer learned from up to N times",
    "offline": "Tutelage, one answer to each prompt",
}


def child(task: dict[str, Any]) -> dict[str, Any]:
    """One contender's run: seconds and closeness to the teacher after every so many updates."""
    import datasets
    from transformers import set_seed

    from tutelage.models import load_model, load_tokenizer

    set_seed(task["seed"])
    student, teacher = load_model(task["student"]), load_model(task["teacher"])
    tokenizer = load_tokenizer(task["student"])
    rows = datasets.load_from_disk(task["rows"])
    held_out = datasets.load_from_disk(task["held_out"])
    watch = _watch(task, student, teacher, held_out, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        settings = {**settings_of(task, folder), "learning_rate": task["learning_rate"]}
        if task["contender"] == "trl_distillation":
            trainer = _trl(task, student, teacher, rows, tokenizer, settings)
        else:
            trainer = _tutelage(task, student, teacher, rows, tokenizer, settings)
        trainer.add_callback(watch)
        trainer.train()
    return {"curve": watch.curve}


def _watch(task: dict[str, Any], student: Any, teacher: Any, rows: Any, tokenizer: Any) -> Any:
    from transformers import TrainerCallback

    from tutelage.evaluation import teacher_agreement

    class Watch(TrainerCallback):
        def __init__(self) -> None:
            self.curve: list[dict[str, float]] = []
            self._spent, self._since, self._cpu, self._cpu_since = 0.0, 0.0, 0.0, 0.0

        def _go_on(self) -> None:
            self._since, self._cpu_since = time.perf_counter(), common.cpu_seconds()

        def on_train_begin(self, *unused: Any, **keywords: Any) -> None:
            self._look(0)
            self._go_on()

        def on_step_end(self, args: Any, state: Any, *unused: Any, **keywords: Any) -> None:
            if state.global_step % task["every"] and state.global_step < state.max_steps:
                return
            self._spent += time.perf_counter() - self._since
            self._cpu += common.cpu_seconds() - self._cpu_since
            self._look(state.global_step)
            self._go_on()

        def _look(self, step: int) -> None:
            found = teacher_agreement(
                student, teacher, rows, vocab_size=len(tokenizer), batch_tokens=8192
            )
            self.curve.append(
                {
                    "step": step,
                    "seconds": self._spent,
                    "cpu_seconds": self._cpu,
                    "reverse_kl": found.reverse_kl,
                    "agreement": found.top1_agreement,
                }
            )

    return Watch()


def _tutelage(
    task: dict[str, Any], student: Any, teacher: Any, rows: Any, tokenizer: Any, settings: Any
) -> Any:
    import numpy as np

    from tutelage.curriculum import CurriculumOptions, LearningRate, PlanSettings, compile_plan
    from tutelage.generation import GenerationSettings
    from tutelage.training import DistillConfig, DistillTrainer
    from tutelage.training.own_answers import OwnAnswers
    from tutelage.types import DifficultyProfile

    reuse = {"fresh": 1, "reuse": task["reuse"], "offline": 1_000_000}[task["contender"]]
    # Updates on kept answers are cheap: what counts is the time to be as close, not their number.
    steps = task["steps"] * (1 if reuse == 1 else task["longer"])
    profile = DifficultyProfile(tuple(rows["id"]), np.linspace(1.0, 2.0, len(rows)))
    plan = compile_plan(
        profile,
        PlanSettings(
            CurriculumOptions("random", stages=1, total_steps=steps),
            batch_size=task["batch_size"],
            on_policy=1.0,
            learning_rate=LearningRate("linear"),
        ),
    )
    generation = GenerationSettings(
        max_new_tokens=task["new_tokens"], sampling_temperature=1.0, precision=task["precision"]
    )
    folder = Path(settings["output_dir"]) / "rollouts"
    return DistillTrainer(
        student,
        DistillConfig(**settings, divergence="reverse_kl"),
        rows.select_columns(["id", "input_ids", "labels"]),
        teacher=teacher,
        plan=plan,
        vocab_size=len(tokenizer),
        own_answers=OwnAnswers(tokenizer, generation, reuse=reuse, folder=folder),
    )


def _trl(
    task: dict[str, Any], student: Any, teacher: Any, rows: Any, tokenizer: Any, settings: Any
) -> Any:
    from trl import DistillationConfig, DistillationTrainer

    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return DistillationTrainer(
        student,
        teacher,
        args=DistillationConfig(
            **{**settings, "max_steps": task["steps"], "lr_scheduler_type": "linear"},
            gradient_checkpointing=False,
            max_completion_length=task["new_tokens"],
            temperature=1.0,
            beta=1.0,
        ),
        train_dataset=rows.select_columns(["prompt"]),
        processing_class=tokenizer,
    )


def _prepared(options: Any, folder: str) -> dict[str, str]:
    """Training prompts and held-out answers, as rows on the disk."""
    from tutelage.data import load_examples, tokenize_examples
    from tutelage.data.arithmetic import arithmetic_examples
    from tutelage.models import load_tokenizer

    tokenizer = load_tokenizer(options.student)
    if options.data:
        trained = load_examples(options.data[0], limit=options.rows, seed=options.seed)
        held_out = load_examples(options.data[1], limit=options.held_out, seed=options.seed)
    else:
        trained = arithmetic_examples("train", options.rows, seed=options.seed)
        held_out = arithmetic_examples("test", options.held_out, seed=options.seed)
    places = {}
    for name, examples in (("rows", trained), ("held_out", held_out)):
        split = tokenize_examples(examples, tokenizer, max_length=options.max_length)
        rows = split.dataset.select_columns(["id", "input_ids", "labels"])
        rows.map(lambda row: {"prompt": _asked(row, tokenizer)}).save_to_disk(f"{folder}/{name}")
        places[name] = f"{folder}/{name}"
    return places


def _asked(row: dict[str, Any], tokenizer: Any) -> Any:
    """What the peer is to ask: a text, or a user's turn where the rows are chats."""
    text = common.user_turn(row, tokenizer)
    return [{"role": "user", "content": text}] if tokenizer.chat_template else text


def one_case(learning_rate: float, options: Any) -> dict[str, Any]:
    """All contenders with one learning rate."""
    copied = ("precision", "threads", "batch_size", "seed", "student", "teacher", "steps", "every")
    with tempfile.TemporaryDirectory() as folder:
        task = {
            **{key: getattr(options, key) for key in copied},
            **_prepared(options, folder),
            "passes": 1,
            "reuse": options.reuse,
            "longer": options.longer,
            "new_tokens": options.new_tokens,
            "learning_rate": learning_rate,
        }
        runs = common.compared(__file__, task, options)
    curves = {name: [run["curve"] for run in of] for name, of in runs.items()}
    return {"learning_rate": learning_rate, "steps": options.steps, "curves": curves}


def _first_as_close(curve: list[dict[str, float]], level: float) -> dict[str, float] | None:
    return next((point for point in curve if point["reverse_kl"] <= level), None)


def show(record: dict[str, Any]) -> str:
    """When each was as close as the peer at its end, in the first round."""
    curves = {name: of[0] for name, of in record["curves"].items()}
    peer = curves.get("trl_distillation")
    level = peer[-1]["reverse_kl"] if peer else None
    lines = []
    for name, curve in curves.items():
        end, there = curve[-1], None if level is None else _first_as_close(curve, level)
        lines.append(
            (
                CONTENDERS[name],
                f"{end['reverse_kl']:.4f}",
                f"{100 * end['agreement']:.1f}",
                f"{end['seconds']:.0f}",
                f"{there['step']:.0f}" if there else "-",
                f"{there['seconds']:.1f}" if there else "-",
                f"{peer[-1]['seconds'] / there['seconds']:.1f}" if there and peer else "-",
            )
        )
    header = (
        *("contender", "reverse KL", "agreement %", "s in all"),
        *("updates to the peer's end", "s to it", "times less"),
    )
    head = f"\nlearning rate {record['learning_rate']}, {record['steps']} updates\n"
    return head + "\n" + common.table(header, lines)


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__)
    common.data_arguments(parser)
    parser.add_argument("--student", default="embedded:arithmetic-student")
    parser.add_argument("--teacher", default="embedded:arithmetic-strong")
    parser.add_argument("--rows", type=int, default=1000, help="training prompts")
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=10, help="updates between two looks")
    parser.add_argument("--reuse", type=int, default=4)
    parser.add_argument("--longer", type=int, default=1, help="times the updates, with reuse")
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[2e-3])
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    options = parser.parse_args()
    if options.child:
        return common.be_child(options.child, child)
    cases = itertools.product(options.learning_rates)
    common.run_cases("on_policy_run", options, cases, one_case, show)


if __name__ == "__main__":
    main()
