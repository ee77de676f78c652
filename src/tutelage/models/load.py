"""Loading models and tokenizers, or their configurations alone.

A model is named by a local folder, a hub name, a ``.gguf`` file, or ``embedded:<name>`` for one
that comes with the package. Weights are read from safetensors alone, because reading a pickle runs
whatever code its author put into it.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tutelage.errors import (
    MissingDependencyError,
    ModelError,
    TutelageError,
    first_line,
    unknown_name,
)
from tutelage.models.gate import (
    VOCABULARIES,
    check_described,
    check_folder,
    check_no_pointers,
    check_numbers,
)
from tutelage.models.generation_defaults import mend_generation_config
from tutelage.models.gguf import gguf_model_folder, gguf_tokenizer_folder
from tutelage.models.hub import hub_folder
from tutelage.models.places import find, is_gguf, is_hub_name
from tutelage.models.shards import find_layers
from tutelage.models.templates import check_template_ends
from tutelage.models.tokenizer_gate import check_tokenizer_file

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", *VOCABULARIES)
_Loaded = TypeVar("_Loaded")

_MOST_SKELETONS = 8
_skeletons: dict[tuple[type, str, str], PreTrainedModel] = {}
"""A run asks for the same few again and again, and a deep one takes a second."""


@dataclass(frozen=True)
class ModelSize:
    """How big a model is.

    Attributes:
        parameters: number of parameters; tied ones count once.
        layers: number of transformer layers.
        hidden_size: width of the residual stream.
        vocab_size: rows of the output head, padding included.
        bytes: memory that the weights take in the asked dtype.
        outside: of the parameters, those that are in no layer.
    """

    parameters: int
    layers: int
    hidden_size: int
    vocab_size: int
    bytes: int
    outside: int


def load_model(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """Load a causal language model for evaluation or training.

    Args:
        name: a local folder, a hub name, a ``.gguf`` file or ``embedded:<name>``.
        revision: the hub's branch, tag or commit.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        trust_remote_code: run model code that comes with the weights.

    Returns:
        The model, on the CPU and in evaluation mode, with every weight from the file.

    Raises:
        ConfigError: an unknown dtype.
        ModelError: the model is missing, broken, incomplete, or not a causal language model.
        MissingDependencyError: the files need a package that is not installed.
    """
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    folder = _place(name, revision, dtype, weights=True, code=trust_remote_code)
    options = {"trust_remote_code": trust_remote_code}
    config = _attempt(name, folder, lambda: AutoConfig.from_pretrained(folder, **options))
    _check_causal(name, config, trust_remote_code)
    if not trust_remote_code:
        check_described(folder, skeleton(config))
    load: Any = AutoModelForCausalLM.from_pretrained
    model, info = _attempt(
        name,
        folder,
        lambda: load(
            folder,
            config=config,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            output_loading_info=True,
            **options,
        ),
    )
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(
            f"'{name}' lacks {len(missing)} weights of a {type(model).__name__}, for example"
            f" '{missing[0]}'; they would be random. The files belong to another kind of model"
            f" ({', '.join(config.architectures or ['not named'])}) or are incomplete. Name a"
            " complete causal language model."
        )
    _check_finite(name, model)
    mend_generation_config(model)
    if is_hub_name(name):
        # What is saved from it (an adapter, say) names the hub's model and not this machine's copy.
        model.name_or_path = model.config.name_or_path = name
    return model


def load_config(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    trust_remote_code: bool = False,
) -> PretrainedConfig:
    """Load the configuration of a causal language model, and none of its weights.

    Args:
        name: what ``load_model`` accepts.
        revision: the hub's branch, tag or commit.
        dtype: which conversion of a .gguf file to look at.
        trust_remote_code: run code that comes with the model.

    Raises:
        ConfigError: an unknown dtype.
        ModelError: there is none, or it is not of a causal language model.
    """
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    folder = _place(name, revision, dtype, weights=False, code=trust_remote_code)
    config = _attempt(
        name,
        folder,
        lambda: AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code),
    )
    _check_causal(name, config, trust_remote_code)
    if is_hub_name(name):
        config.name_or_path = name
    return config


def _place(name: str, revision: str | None, dtype: str, *, weights: bool, code: bool) -> Path:
    """The folder of a model on this machine, looked through by the gate."""
    itemsize = DTYPES[dtype].itemsize if weights else None
    if is_gguf(name):
        folder = gguf_model_folder(name, DTYPES[dtype])
    elif is_hub_name(name):
        folder = _from_hub(name, revision, weights=weights, code=code)
        check_folder(folder, itemsize=itemsize, weights=weights)
        return folder
    else:
        folder = Path(find(name))
    # A model that runs elsewhere may have no weights here; those that are here are whole.
    weights = weights or any(folder.glob("*.safetensors*"))
    check_folder(folder, itemsize=itemsize, weights=weights)
    return folder


def _from_hub(name: str, revision: str | None, *, weights: bool, code: bool) -> Path:
    return _attempt(name, None, lambda: hub_folder(name, revision, weights=weights, code=code))


def load_tokenizer(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load the tokenizer that belongs to a model.

    Args:
        name: what ``load_model`` accepts.
        revision: the hub's branch, tag or commit.
        trust_remote_code: run tokenizer code that comes with the files.

    Raises:
        ModelError: there is none, or it is broken.
        MissingDependencyError: the files need a package that is not installed.
    """
    if is_gguf(name):
        folder = gguf_tokenizer_folder(name)
    elif is_hub_name(name):
        folder = _from_hub(name, revision, weights=False, code=trust_remote_code)
    else:
        folder = Path(find(name))
    check_no_pointers(folder)
    check_numbers(folder)  # transformers reads the configuration with the tokenizer
    check_tokenizer_file(folder)
    here = any((folder / file).exists() for file in _TOKENIZER_FILES)
    tokenizer: Any = None
    if here or trust_remote_code:
        tokenizer = _attempt(
            name,
            folder,
            lambda: AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code),
        )
    if tokenizer is None or not len(tokenizer):
        raise ModelError(
            f"'{name}' has no tokenizer: "
            + ("its files hold no token." if here else f"'{folder}' has no file of one.")
            + " Save the tokenizer beside the weights with `tokenizer.save_pretrained(folder)`, or"
            " copy tokenizer.json and tokenizer_config.json from the model that it was made from."
        )
    if not isinstance(tokenizer.model_max_length, int | float):
        raise ModelError(
            f"model_max_length of '{name}' is {tokenizer.model_max_length!r}, which is no number."
            " Mend tokenizer_config.json."
        )
    check_template_ends(tokenizer, name)
    return tokenizer


def skeleton(config: PretrainedConfig, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """A model as its configuration describes it, with no weight read or allocated.

    Equal configurations share one: read it, or copy it before changing it.

    Args:
        config: the model's configuration.
        trust_remote_code: run code that comes with the model.

    Raises:
        ModelError: the configuration is not that of a causal language model, or contradicts itself.
    """
    name = config.name_or_path or config.model_type
    _check_causal(name, config, trust_remote_code)
    code = name if trust_remote_code else ""
    key = (type(config), config.to_json_string(use_diff=False), code)

    def build() -> PreTrainedModel:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(
                copy.deepcopy(config), trust_remote_code=trust_remote_code
            )

    if key not in _skeletons:
        if len(_skeletons) >= _MOST_SKELETONS:
            _skeletons.clear()
        _skeletons[key] = _attempt(name, Path(name), build)
    return _skeletons[key]


def describe_model(
    config: PretrainedConfig, *, dtype: str = "float32", trust_remote_code: bool = False
) -> ModelSize:
    """The size of a model, from its configuration alone: no weight is read or allocated.

    Args:
        config: the model's configuration.
        dtype: ``float32``, ``bfloat16`` or ``float16``, for the size in bytes.
        trust_remote_code: run code that comes with the model.

    Raises:
        ConfigError: an unknown dtype.
        ModelError: the configuration is not that of a causal language model.
    """
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    model = skeleton(config, trust_remote_code=trust_remote_code)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    text = config.get_text_config()
    layers = {
        id(parameter): parameter.numel()
        for layer in find_layers(model)
        for parameter in layer.parameters()
    }
    return ModelSize(
        parameters=parameters,
        outside=parameters - sum(layers.values()),
        layers=text.num_hidden_layers,
        hidden_size=text.hidden_size,
        vocab_size=text.vocab_size,
        bytes=parameters * DTYPES[dtype].itemsize,
    )


def _check_finite(name: str, model: PreTrainedModel) -> None:
    """Refuse weights that are no numbers: one of them makes every later number one."""
    for key, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_floating_point() or tensor.is_meta:
            continue
        # A sum is one cheap pass; finite numbers may still add up to infinity.
        if (
            not tensor.sum(dtype=torch.float32).isfinite()
            and not (finite := tensor.isfinite()).all()
        ):
            raise ModelError(
                f"'{name}' has {int((~finite).sum()):,} of {finite.numel():,} values in '{key}'"
                " that are NaN or infinite, so nothing can be learned from it. The training that"
                " made it diverged, or its type is too narrow: save or download it again."
            )


def _check_causal(name: str, config: PretrainedConfig, trusted: bool) -> None:
    """Refuse a model that does not write text from left to right."""
    own_code: Mapping[str, str] = config.to_dict().get("auto_map") or {}
    if trusted and "AutoModelForCausalLM" in own_code:
        return
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        raise ModelError(
            f"'{name}' is a model of type '{config.model_type}', which is not a causal language"
            " model. Name one that AutoModelForCausalLM can load, such as a Llama, Qwen or GPT-2."
        )


def _attempt(name: str, folder: Path | None, load: Callable[[], _Loaded]) -> _Loaded:
    """Call ``load`` and turn what transformers raises into an error with a way out."""
    try:
        return load()
    except ImportError as error:
        raise MissingDependencyError(
            f"'{name}' needs a package that is not installed: {error}. Install it."
        ) from error
    except TutelageError:
        raise
    except BaseException as error:  # a broken folder fails wherever its content is used
        # What is not expected in Rust, of which tokenizers are made, is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = first_line(error)
        if folder is not None:
            raise ModelError(
                f"'{name}' cannot be loaded from '{folder}': {reason}. Save or download it again; a"
                " model that brings its own code also needs trust_remote_code."
            ) from error
        raise ModelError(
            f"'{name}' is no folder here, and from the hub it cannot be loaded: {reason}. Check the"
            " spelling, the network, the revision, your access (`hf auth login` for gated models),"
            " and that it has safetensors weights; or name a local folder."
        ) from error
