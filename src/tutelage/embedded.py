"""Train the models of the embedded task anew: ``make teachers``, or ``python -m tutelage.embedded``.

Three small Llama models over the characters of chained sums: a strong teacher and a weak one, both
trained on plenty of labels with errors (as the user's labels have), and a student that was shown
the easy slice only. Seeds are fixed; the folders in ``tutelage/assets`` come from this module.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback

from tutelage.curriculum import CurriculumOptions, LearningRate, compile_plan
from tutelage.data import tokenize_examples
from tutelage.data.arithmetic import arithmetic_examples, build_tokenizer
from tutelage.files import atomic_directory
from tutelage.pipeline.progress import Display
from tutelage.training import DistillConfig, DistillTrainer
from tutelage.training.callbacks import ProgressReport
from tutelage.types import DifficultyProfile


@dataclass(frozen=True)
class Recipe:
    """How one of the models is made.

    Attributes:
        name: its folder in ``tutelage/assets`` is ``arithmetic-<name>``.
        hidden: width.
        layers: depth.
        heads: attention heads.
        intermediate: width inside the feed-forward layers.
        examples: distinct training examples.
        levels: numbers of steps in them.
        label_noise: share of them with a wrong step.
        steps: optimizer steps of 64 examples.
        learning_rate: peak; a cosine to 0 with 5 % of the steps warming up.
        data_seed: of the examples; differs from the seed of the user's data.
        seed: of the weights and the order.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    intermediate: int
    examples: int
    levels: tuple[int, ...]
    label_noise: float
    steps: int
    learning_rate: float
    data_seed: int
    seed: int = 0


EVERY_LEVEL = (1, 2, 3, 4, 5)

RECIPES = (
    Recipe("student", 64, 2, 4, 172, 4000, (1, 2), 0.0, 900, 3e-3, data_seed=2000),
    Recipe("weak", 80, 2, 4, 216, 36_000, EVERY_LEVEL, 0.4, 600, 2e-3, data_seed=1000),
    Recipe("strong", 128, 4, 4, 344, 36_000, EVERY_LEVEL, 0.4, 1200, 2e-3, data_seed=1000),
)

BATCH_SIZE = 64


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """The untrained model of a recipe."""
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            intermediate_size=recipe.intermediate,
            max_position_embeddings=128,
            tie_word_embeddings=False,
            # Sequences are short: wavelengths as long as a text of many pages would be wasted.
            rope_parameters={"rope_type": "default", "rope_theta": 100.0},
            pad_token_id=tokenizer.pad_token_id,  # type: ignore[arg-type]
            eos_token_id=tokenizer.eos_token_id,  # type: ignore[arg-type]
            bos_token_id=None,
        )
    )


def train(recipe: Recipe, display: Display) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """Train one model from nothing."""
    tokenizer = build_tokenizer()
    examples = arithmetic_examples(
        "train",
        recipe.examples,
        seed=recipe.data_seed,
        label_noise=recipe.label_noise,
        levels=recipe.levels,
    )
    rows = tokenize_examples(examples, tokenizer, template="plain").dataset
    plan = compile_plan(
        DifficultyProfile(tuple(rows["id"]), torch.zeros(len(rows)).numpy(), "none"),
        CurriculumOptions("random", stages=1, total_steps=recipe.steps),
        batch_size=BATCH_SIZE,
        ce_weight=1.0,
        learning_rate=LearningRate("cosine", warmup_ratio=0.05),
        seed=recipe.seed,
    )
    model = new_model(recipe, tokenizer)
    with (
        tempfile.TemporaryDirectory() as folder,
        display.task(f"Training arithmetic-{recipe.name}") as report,
    ):
        arguments = DistillConfig(
            output_dir=folder,
            learning_rate=recipe.learning_rate,
            per_device_train_batch_size=BATCH_SIZE,
            weight_decay=0.01,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            seed=recipe.seed,
            dataloader_pin_memory=False,
        )
        trainer = DistillTrainer(model, arguments, rows, plan=plan, processing_class=tokenizer)
        trainer.add_callback(ProgressReport(report))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return model.eval(), tokenizer


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the models named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [recipe.name for recipe in RECIPES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"among {', '.join(names)}")
    parser.add_argument(
        "--output", type=Path, default=Path(str(resources.files("tutelage"))) / "assets"
    )
    options = parser.parse_args(arguments)
    display = Display()
    for recipe in RECIPES:
        if options.names and recipe.name not in options.names:
            continue
        model, tokenizer = train(recipe, display)
        with atomic_directory(options.output / f"arithmetic-{recipe.name}") as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            shutil.rmtree(folder / ".cache", ignore_errors=True)
        display.note(f"arithmetic-{recipe.name}: {model.num_parameters():,} parameters saved")


if __name__ == "__main__":
    main()
