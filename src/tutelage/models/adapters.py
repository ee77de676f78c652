"""LoRA adapters: on which layers they go, and how they are read back or merged."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from tutelage.errors import (
    ConfigError,
    MissingDependencyError,
    ModelError,
    did_you_mean,
    first_line,
)
from tutelage.models.lora_targets import ALL_LINEAR, missing_targets

_CAN_HAVE_ONE = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d)


def check_lora_targets(model: nn.Module, targets: str | Sequence[str]) -> None:
    """Refuse targets that no layer of the model is called.

    peft leaves a name that is not found out silently as long as another one is.

    Args:
        model: a model, or its skeleton without weights.
        targets: ``all-linear``, a regular expression for whole paths, or names.

    Raises:
        ConfigError: with the names that there are.
    """
    layers = [name for name, module in model.named_modules() if _can_have_one(module)]
    wrong = missing_targets(targets, layers)
    if wrong or not targets:
        known = sorted({name.rpartition(".")[2] for name in layers})
        named = "', '".join(wrong) or "nothing"
        raise ConfigError(
            f"training.lora.target_modules names '{named}', and no layer of this"
            f" {type(model).__name__} that can have an adapter is called so."
            f"{did_you_mean(wrong[0] if wrong else '', known)} Known: {', '.join(known)}; or"
            f" {ALL_LINEAR}."
        )


def _can_have_one(module: nn.Module) -> bool:
    # transformers' Conv1D, of GPT-2, is a linear map with its own class.
    return isinstance(module, _CAN_HAVE_ONE) or type(module).__name__ == "Conv1D"


def add_adapters(model: Any, lora: Any) -> Any:
    """The model with new LoRA adapters.

    Args:
        model: a causal language model.
        lora: ``rank``, ``alpha``, ``dropout`` and ``target_modules``.

    Raises:
        ConfigError: the targets are not there, or cannot have an adapter.
        MissingDependencyError: peft is not installed.
    """
    peft = _peft()
    check_lora_targets(model, lora.target_modules)
    try:
        return peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=lora.target_modules,
                task_type="CAUSAL_LM",
            ),
        )
    except ValueError as error:
        raise ConfigError(
            f"LoRA adapters cannot be put on a {type(model).__name__} as training.lora says:"
            f" {first_line(error)}. Choose other target_modules."
        ) from error


def with_adapter(base: Any, folder: str) -> Any:
    """A model with the adapter that a folder holds, for reading.

    Args:
        base: the model that the adapter was trained on.
        folder: what peft's ``save_pretrained`` wrote.

    Raises:
        ModelError: the adapter is broken or does not fit the model.
        MissingDependencyError: peft is not installed.
    """
    peft = _peft()
    try:
        return peft.PeftModel.from_pretrained(base, folder).eval()
    except Exception as error:  # a broken folder fails wherever its content is used
        raise ModelError(
            f"The LoRA adapter in '{folder}' cannot be put on its {type(base).__name__}:"
            f" {first_line(error)}. Train it again."
        ) from error


def merge_adapters(model: Any) -> Any:
    """The model with its adapters added to its weights, which then computes the same alone.

    An input embedding and an output head of one weight part here when either has an adapter: what
    was learned for one would otherwise be added to both.

    Args:
        model: a model with LoRA adapters; it is used up.
    """
    base = model.get_base_model()
    ends = base.get_input_embeddings(), base.get_output_embeddings()
    if any(hasattr(end, "base_layer") for end in ends):
        _part(base, *ends)
    return model.merge_and_unload()


def _part(base: Any, embedding: Any, head: Any) -> None:
    """Give the output head a weight of its own when it shares that of the embedding."""
    embedding, head = (getattr(end, "base_layer", end) for end in (embedding, head))
    if head is None or head.weight is not embedding.weight:
        return
    weight = head.weight
    head.weight = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
    for config in (base.config, base.config.get_text_config()):
        config.tie_word_embeddings = False


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingDependencyError(
            "training.lora needs the package peft. Install it with: pip install 'tutelage[peft]'"
        ) from error
    return peft
