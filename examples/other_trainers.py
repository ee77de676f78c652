"""A Tutelage plan inside TRL's SFTTrainer: ``python examples/other_trainers.py``.

Needs ``pip install 'tutelage[trl]'``. Any other ``transformers.Trainer`` works the same way.
"""

import tempfile

import datasets
import numpy as np

from tutelage import follow_plan
from tutelage.curriculum import CurriculumOptions, PlanSettings, compile_plan
from tutelage.data.arithmetic import arithmetic_examples
from tutelage.models import load_model, load_tokenizer
from tutelage.types import DifficultyProfile

STUDENT = "embedded:arithmetic-student"


def main(total_steps: int = 12) -> list[int]:
    """Fine-tune from short answers to long ones; the stage of every update."""
    from trl import SFTConfig, SFTTrainer

    examples = arithmetic_examples("train", 120)
    rows = datasets.Dataset.from_list(
        [{"id": e.id, "prompt": e.fields["prompt"], "completion": e.completion} for e in examples]
    )
    lengths = np.asarray([len(e.completion) for e in examples], dtype=float)
    plan = compile_plan(
        DifficultyProfile(tuple(rows["id"]), lengths, "response_length"),
        PlanSettings(
            CurriculumOptions("calibrated", stages=3, total_steps=total_steps), batch_size=16
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            load_model(STUDENT),
            SFTConfig(folder, logging_steps=1, report_to=[], save_strategy="no", bf16=False),
            train_dataset=rows,
            processing_class=load_tokenizer(STUDENT),
        )
        follow_plan(trainer, plan, ids=rows["id"])
        trainer.train()
    return [row["stage"] for row in trainer.state.log_history if "loss" in row]


if __name__ == "__main__":
    print("stage of each update:", main())
