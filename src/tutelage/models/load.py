"""Loading models and tokenizers, and checking that a teacher and a student fit each other.

A model is named by a local folder, a hub name, a ``.gguf`` file, or ``embedded:<name>`` for one
that comes with the package. Weights are read from safetensors alone, because reading a pickle runs
whatever code its author put into it.
"""

import copy
import importlib.resources
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tutelage.errors import MissingDependencyError, ModelError, did_you_mean, unknown_name
from tutelage.models.gguf import gguf_model_folder, gguf_tokenizer_folder

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
EMBEDDED_PREFIX = "embedded:"
_LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError)
_Loaded = TypeVar("_Loaded")


@dataclass(frozen=True)
class ModelSize:
    """How big a model is.

    Attributes:
        parameters: number of parameters; tied ones count once.
        layers: number of transformer layers.
        hidden_size: width of the residual stream.
        vocab_size: rows of the output head, padding included.
        bytes: memory that the weights take in the asked dtype.
    """

    parameters: int
    layers: int
    hidden_size: int
    vocab_size: int
    bytes: int


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
    place, folder = _place(name, dtype)
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    config = _attempt(name, folder, lambda: AutoConfig.from_pretrained(place, **options))
    _check_causal(name, config, trust_remote_code)
    load: Any = AutoModelForCausalLM.from_pretrained
    model, info = _attempt(
        name,
        folder,
        lambda: load(
            place,
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
    place, folder = _place(name, dtype)
    config = _attempt(
        name,
        folder,
        lambda: AutoConfig.from_pretrained(
            place, revision=revision, trust_remote_code=trust_remote_code
        ),
    )
    _check_causal(name, config, trust_remote_code)
    return config


def _place(name: str, dtype: str) -> tuple[str, Path | None]:
    """Where a model is, and its folder when that is on this machine."""
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    gguf = _is_gguf(name)
    place = str(gguf_model_folder(name, DTYPES[dtype])) if gguf else _find(name)
    folder = Path(place) if Path(place).is_dir() else None
    if folder is not None:
        _check_folder(folder)
    return place, folder


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
    place = str(gguf_tokenizer_folder(name)) if _is_gguf(name) else _find(name)
    folder = Path(place) if Path(place).is_dir() else None
    tokenizer = _attempt(
        name,
        folder,
        lambda: AutoTokenizer.from_pretrained(
            place, revision=revision, trust_remote_code=trust_remote_code
        ),
    )
    if not len(tokenizer):
        raise ModelError(
            f"'{name}' has no tokenizer: its files hold no token. Save the tokenizer beside the"
            " weights with `tokenizer.save_pretrained(folder)`."
        )
    return tokenizer


def check_same_tokenizer(
    teacher: PreTrainedTokenizerBase,
    student: PreTrainedTokenizerBase,
    *,
    teacher_head: int | None = None,
    student_head: int | None = None,
) -> int:
    """Check that both tokenizers give every token the same id; return the real vocabulary size.

    Models of one family pad their heads to different sizes (151,936 and 152,064 rows for one and
    the same tokenizer). Rows past the real size mean nothing: slice both heads to the number that
    this returns.

    Args:
        teacher: the teacher's tokenizer.
        student: the student's tokenizer.
        teacher_head: rows of the teacher's output head; None to leave it unchecked.
        student_head: rows of the student's output head; None to leave it unchecked.

    Returns:
        The highest token id plus one.

    Raises:
        ModelError: the vocabularies or the end-of-sequence tokens differ, or a head is too small.
    """
    vocabularies = teacher.get_vocab(), student.get_vocab()
    if vocabularies[0] != vocabularies[1]:
        raise ModelError(
            "Teacher and student have different tokenizers, so their next-token distributions"
            f" cannot be compared: {_vocabulary_difference(*vocabularies)}. Choose a pair of one"
            " family, or use text-level supervision: the teacher writes answers, and the student is"
            " fine-tuned on them."
        )
    if teacher.eos_token_id != student.eos_token_id:
        raise ModelError(
            "Teacher and student end a text with different tokens:"
            f" '{teacher.eos_token}' ({teacher.eos_token_id}) and"
            f" '{student.eos_token}' ({student.eos_token_id}). All other tokens agree, so copy the"
            " teacher's tokenizer files into the student's folder, or set the student's"
            " `eos_token` to the teacher's."
        )
    size = 1 + max(vocabularies[0].values(), default=-1)
    for owner, head in (("teacher", teacher_head), ("student", student_head)):
        if head is not None and head < size:
            raise ModelError(
                f"The {owner}'s output head has {head:,} rows for a tokenizer of {size:,} tokens,"
                " so some tokens have no probability. Name the tokenizer that belongs to the model,"
                " or resize its embeddings with `model.resize_token_embeddings`."
            )
    return size


def describe_model(config: PretrainedConfig, *, dtype: str = "float32") -> ModelSize:
    """The size of a model, from its configuration alone: no weight is read or allocated.

    Args:
        config: the model's configuration.
        dtype: ``float32``, ``bfloat16`` or ``float16``, for the size in bytes.

    Raises:
        ConfigError: an unknown dtype.
        ModelError: the configuration is not that of a causal language model.
    """
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    _check_causal(config.name_or_path or config.model_type, config, trusted=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    text = config.get_text_config()
    return ModelSize(
        parameters=parameters,
        layers=text.num_hidden_layers,
        hidden_size=text.hidden_size,
        vocab_size=text.vocab_size,
        bytes=parameters * DTYPES[dtype].itemsize,
    )


def _is_gguf(name: str) -> bool:
    return name.lower().endswith(".gguf")


def _find(name: str) -> str:
    """The local folder or the hub name that ``name`` means."""
    if name.startswith(EMBEDDED_PREFIX):
        return str(_embedded(name.removeprefix(EMBEDDED_PREFIX)))
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_file():
        raise ModelError(
            f"'{name}' is a file. Name the folder that holds config.json and model.safetensors, or"
            " a .gguf file."
        )
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ModelError(
            f"There is no folder '{name}'.{did_you_mean(path.name, siblings)} Correct the path; it"
            f" counts from '{Path.cwd()}' unless it begins with '/'."
        )
    return name


def _embedded(name: str) -> Path:
    """The folder of a model that comes with the package."""
    assets = Path(str(importlib.resources.files("tutelage"))) / "assets"
    known = sorted(p.parent.name for p in assets.glob("*/config.json"))
    if name not in known:
        raise ModelError(
            f"No embedded model is called '{name}'.{did_you_mean(name, known)} Known:"
            f" {', '.join(known) or 'none'}. Name one of these, a folder or a hub name."
        )
    return assets / name


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds no model, or one that would have to be unpickled."""
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelError(
                f"'{folder}' holds a LoRA adapter, not a whole model. Merge it into its base model"
                " (`merge_and_unload` of peft), save that, and name its folder."
            )
        raise ModelError(
            f"'{folder}' has no config.json, so it holds no model that transformers could load."
            " Name the folder that `save_pretrained` wrote."
        )
    if any(folder.glob("*.safetensors")):
        return
    if any(folder.glob("pytorch_model*.bin")):
        raise ModelError(
            f"'{folder}' has its weights in pytorch_model.bin alone, and reading a pickle can run"
            " any code. If you trust the file, convert it once with transformers:"
            " `AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)`."
        )
    raise ModelError(f"'{folder}' has no *.safetensors file. Save or download the weights again.")


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
    except _LOADING_ERRORS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
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


def _vocabulary_difference(teacher: Mapping[str, int], student: Mapping[str, int]) -> str:
    """How two vocabularies differ: their sizes, and the first three tokens that do."""
    differing = [token for token in teacher if student.get(token) != teacher[token]]
    differing += [token for token in student if token not in teacher]
    differing.sort(key=lambda token: (teacher.get(token, student.get(token, 0)), token))
    shown = ", ".join(
        f"{token!r} is {teacher.get(token, 'missing')} in the teacher's and"
        f" {student.get(token, 'missing')} in the student's"
        for token in differing[:3]
    )
    return (
        f"the teacher's has {len(teacher):,} tokens, the student's {len(student):,}, and"
        f" {len(differing):,} tokens differ ({shown})"
    )
