"""Train the embedded models anew: ``make teachers``, or ``python -m tutelage.embedded``.

Small Llama models over the tokens of the two embedded tasks: for each a strong teacher, a weak one,
and a student. The teachers of chained sums were trained on plenty of labels with errors (as the
user's labels have), those of lists on right ones; the student of sums was shown the easy slice
only, that of lists something of everything. Seeds are fixed; the folders in ``tutelage/assets``
come from this module.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback

from tutelage.curriculum import CurriculumOptions, LearningRate, PlanSettings, compile_plan
from tutelage.data import arithmetic, lists, tokenize_examples
from tutelage.files import atomic_directory
from tutelage.pipeline.context.display import Display, Report, quiet_libraries
from tutelage.training import DistillConfig, DistillTrainer
from tutelage.training.callbacks import ProgressReport
from tutelage.types import DifficultyProfile, Example


@dataclass(frozen=True)
class Task:
    """One of the embedded tasks.

    Attributes:
        name: begins the folders of its models.
        examples: makes its data.
        tokenizer: makes its tokenizer.
    """

    name: str
    examples: Callable[..., list[Example]]
    tokenizer: Callable[[], PreTrainedTokenizerBase]


ARITHMETIC = Task("arithmetic", arithmetic.arithmetic_examples, arithmetic.build_tokenizer)
LISTS = Task("lists", lists.list_examples, lists.build_tokenizer)


@dataclass(frozen=True)
class Phase:
    """A span of training with its own data and its own learning-rate schedule.

    Attributes:
        examples: how many distinct ones.
        label_noise: share of them with a wrong step.
        steps: optimizer steps of 64 examples.
        learning_rate: peak; a line down to a tenth of it, 5 % of the steps warming up.
        data_seed: of the examples; differs from the seed of the user's data.
        options: of the task's examples, such as their levels.
    """

    examples: int
    label_noise: float
    steps: int
    learning_rate: float
    data_seed: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Maker:
    """How one of the models is made.

    Attributes:
        task: what it is trained on.
        role: its folder in ``tutelage/assets`` is ``<task>-<role>``.
        hidden: width.
        layers: depth.
        heads: attention heads.
        intermediate: width inside the feed-forward layers.
        phases: its training.
        seed: of the weights and the order.
    """

    task: Task
    role: str
    hidden: int
    layers: int
    heads: int
    intermediate: int
    phases: tuple[Phase, ...]
    seed: int = 0

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.task.name}-{self.role}"


SHORT = {"levels": (1, 2)}
LABEL_NOISE = 0.4

# A model learns to add from clean short sums in a few hundred steps, and from long ones with errors
# alone hardly at all: hence the teachers' first phase.
MAKERS = (
    Maker(ARITHMETIC, "student", 64, 2, 4, 172, (Phase(8000, 0.0, 600, 3e-3, 2000, SHORT),)),
    Maker(
        ARITHMETIC,
        "weak",
        80,
        2,
        4,
        216,
        (
            Phase(8000, 0.0, 500, 3e-3, 2000, SHORT),
            Phase(36_000, LABEL_NOISE, 350, 1e-3, 1000),
        ),
    ),
    Maker(
        ARITHMETIC,
        "strong",
        128,
        4,
        8,
        344,
        (
            Phase(8000, 0.0, 300, 2e-3, 2000, SHORT),
            Phase(36_000, LABEL_NOISE, 600, 2e-3, 1000),
        ),
    ),
    # Stopped early: of every operation and length it can do a bit, and is unsure of the rest.
    Maker(LISTS, "student", 64, 3, 4, 88, (Phase(19_200, 0.0, 300, 3e-3, 2000),)),
    Maker(
        LISTS,
        "weak",
        72,
        2,
        4,
        192,
        (Phase(16_000, 0.0, 250, 3e-3, 2000, SHORT), Phase(32_000, 0.0, 500, 3e-3, 1000)),
    ),
    Maker(
        LISTS,
        "strong",
        128,
        4,
        8,
        344,
        (Phase(32_000, 0.0, 500, 2e-3, 2000, SHORT), Phase(96_000, 0.0, 1500, 2e-3, 1000)),
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
    tokenizer = maker.task.tokenizer()
    model = new_model(maker, tokenizer)
    for number, phase in enumerate(maker.phases, start=1):
        title = f"Training {maker.name}"
        if len(maker.phases) > 1:
            title += f", phase {number} of {len(maker.phases)}"
        with display.task(title) as report:
            _train(maker, model, tokenizer, phase, report)
    return model.eval(), tokenizer


def _train(
    maker: Maker,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    phase: Phase,
    report: Report,
) -> None:
    """Plain fine-tuning: everything, shuffled, cross-entropy alone."""
    examples = maker.task.examples(
        "train",
        phase.examples,
        seed=phase.data_seed,
        label_noise=phase.label_noise,
        **phase.options,
    )
    rows = tokenize_examples(examples, tokenizer, template="plain").dataset
    plan = compile_plan(
        DifficultyProfile.level(rows["id"]),
        PlanSettings(
            CurriculumOptions("random", stages=1, total_steps=phase.steps),
            batch_size=BATCH_SIZE,
            ce_weight=1.0,
            learning_rate=LearningRate("linear", warmup_ratio=0.05, min_ratio=0.1),
            seed=maker.seed,
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
            seed=maker.seed,
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
        with atomic_directory(options.output / maker.name) as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        display.note(f"{maker.name}: {model.num_parameters():,} parameters saved")


if __name__ == "__main__":
    main()
