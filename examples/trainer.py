"""Distil with the trainer alone, without the pipeline: ``python examples/trainer.py``.

The teacher, the student and the data are those of the embedded task; put your own in their place.
"""

import tempfile

import numpy as np

from tutelage import DistillConfig, DistillTrainer
from tutelage.curriculum import CurriculumOptions, PlanSettings, compile_plan
from tutelage.data import tokenize_examples
from tutelage.data.arithmetic import arithmetic_examples
from tutelage.difficulty import example_losses
from tutelage.models import load_model, load_tokenizer
from tutelage.types import DifficultyProfile

STUDENT, TEACHER = "embedded:arithmetic-student", "embedded:arithmetic-strong"


def main(max_steps: int = 20) -> float:
    """Distil for a few steps; the cross-entropy on held-out answers, in nats per token."""
    tokenizer = load_tokenizer(STUDENT)
    student, teacher = load_model(STUDENT), load_model(TEACHER)
    rows, held_out = (
        tokenize_examples(arithmetic_examples(split, 200), tokenizer).dataset
        for split in ("train", "validation")
    )

    losses = example_losses(student, rows, vocab_size=len(tokenizer))
    scores = losses.loss_sums / losses.num_tokens
    plan = compile_plan(
        DifficultyProfile(tuple(rows["id"]), np.asarray(scores)),
        PlanSettings(
            CurriculumOptions("calibrated", stages=4, total_steps=max_steps),
            batch_size=16,
            student_share={"kind": "shifted"},
            ce_weight=0.3,
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = DistillConfig(
            output_dir=folder,
            learning_rate=1e-3,
            per_device_train_batch_size=16,
            save_strategy="no",
            report_to=[],
        )
        trainer = DistillTrainer(
            student,
            arguments,
            rows,
            teacher=teacher,
            plan=plan,
            eval_dataset=held_out,
            processing_class=tokenizer,
        )
        trainer.train()
        return trainer.evaluate()["eval_loss"]


if __name__ == "__main__":
    print(f"cross-entropy on held-out answers: {main():.3f} nats per token")
