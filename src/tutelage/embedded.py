"""Train the embedded models anew: ``make teachers``, or ``python -m tutelage.embedded``.

Three small Llama models over the characters of chained sums: a strong teacher and a weak one, both
trained on plenty of labels with errors (as the user's labels have), and a student that was shown
the easy slice only. Seeds are fixed; the folders in ``tutelage/assets`` come from this module.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback

from tutelage.curriculum import CurriculumOptions, LearningRate, PlanSettings, compile_plan
from tutelage.data import tokenize_examples
from tutelage.data.arithmetic import arithmetic_examples, build_tokenizer
from tutelage.files import atomic_directory
from tutelage.pipeline.context.display import Display, Report, quiet_libraries
from tutelage.training import DistillConfig, DistillTrainer
from tutelage.training.callbacks import ProgressReport
from tutelage.types import DifficultyProfile


@dataclass(frozen=True)
class Phase:
    """A span of training with its own data and its own learning-rate schedule.

    Attributes:
        levels: numbers of steps in the examples.
        examples: how many distinct ones.
        label_noise: share of them with a wrong step.
        steps: optimizer steps of 64 examples.
        learning_rate: peak; a line down to a tenth of it, 5 % of the steps warming up.
        data_seed: of the examples; differs from the seed of the user's data.
    """

    levels: tuple[int, ...]
    examples: int
    label_noise: float
    steps: int
    learning_rate: float
    data_seed: int


@dataclass(frozen=True)
class Maker:
    """How one of the models is made.

    Attributes:
        name: its folder in ``tutelage/assets`` is ``arithmetic-<name>``.
        hidden: width.
        layers: depth.
        heads: attention heads.
        intermediate: width inside the feed-forward layers.
        phases: its training.
        seed: of the weights and the order.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    intermediate: int
    phases: tuple[Phase, ...]
    seed: int = 0


EVERY_LEVEL = (1, 2, 3, 4, 5)
LABEL_NOISE = 0.4

# A model learns to add from clean short sums in a few hundred steps, and from long ones with errors
# alone hardly at all: hence the teachers' first phase.
MAKERS = (
    Maker("student", 64, 2, 4, 172, (Phase((1, 2), 8000, 0.0, 600, 3e-3, 2000),)),
    Maker(
        "weak",
        80,
        2,
        4,
        216,
        (
            Phase((1, 2), 8000, 0.0, 500, 3e-3, 2000),
            Phase(EVERY_LEVEL, 36_000, LABEL_NOISE, 350, 1e-3, 1000),
        ),
    ),
    Maker(
        "strong",
        128,
        4,
        8,
        344,
        (
            Phase((1, 2), 8000, 0.0, 300, 2e-3, 2000),
            Phase(EVERY_LEVEL, 36_000, LABEL_NOISE, 600, 2e-3, 1000),
        ),
    ),
)

BATCH_SIZE = 64


def new_model(maker: Maker, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """The untrained model of a maker."""
    torch.manual_seed(maker.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=maker.hidden,
            num_hidden_layers=maker.layers,
            num_attention_heads=maker.heads,
            num_key_value_heads=maker.heads,
            intermediate_size=maker.intermediate,
            max_position_embeddings=128,
            tie_word_embeddings=False,
            # Sequences are short: wavelengths as long as a text of many pages would be wasted.
            rope_parameters={"rope_type": "default", "rope_theta": 100.0},
            pad_token_id=tokenizer.pad_token_id,  # type: ignore[arg-type]
            eos_token_id=tokenizer.eos_token_id,  # type: ignore[arg-type]
            bos_token_id=None,
        )
    )


def make(maker: Maker, display: Display) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """Train one model from nothing, phase by phase."""
    tokenizer = build_tokenizer()
    model = new_model(maker, tokenizer)
    for number, phase in enumerate(maker.phases, start=1):
        title = f"Training arithmetic-{maker.name}"
        if len(maker.phases) > 1:
            title += f", phase {number} of {len(maker.phases)}"
        with display.task(title) as report:
            _train(model, tokenizer, phase, maker.seed, report)
    return model.eval(), tokenizer


def _train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    phase: Phase,
    seed: int,
    report: Report,
) -> None:
    """Plain fine-tuning: everything, shuffled, cross-entropy alone."""
    examples = arithmetic_examples(
        "train",
        phase.examples,
        seed=phase.data_seed,
        label_noise=phase.label_noise,
        levels=phase.levels,
    )
    rows = tokenize_examples(examples, tokenizer, template="plain").dataset
    plan = compile_plan(
        DifficultyProfile.level(rows["id"]),
        PlanSettings(
            CurriculumOptions("random", stages=1, total_steps=phase.steps),
            batch_size=BATCH_SIZE,
            ce_weight=1.0,
            learning_rate=LearningRate("linear", warmup_ratio=0.05, min_ratio=0.1),
            seed=seed,
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = DistillConfig(
            output_dir=folder,
            learning_rate=phase.learning_rate,
            per_device_train_batch_size=BATCH_SIZE,
            weight_decay=0.01,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            seed=seed,
            dataloader_pin_memory=False,
        )
        trainer = DistillTrainer(model, arguments, rows, plan=plan, processing_class=tokenizer)
        trainer.add_callback(ProgressReport(report))
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the models named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [maker.name for maker in MAKERS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"among {', '.join(names)}")
    parser.add_argument(
        "--output", type=Path, default=Path(str(resources.files("tutelage"))) / "assets"
    )
    options = parser.parse_args(arguments)
    display = Display()
    quiet_libraries()
    for maker in MAKERS:
        if options.names and maker.name not in options.names:
            continue
        model, tokenizer = make(maker, display)
        with atomic_directory(options.output / f"arithmetic-{maker.name}") as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        display.note(f"arithmetic-{maker.name}: {model.num_parameters():,} parameters saved")


if __name__ == "__main__":
    main()
