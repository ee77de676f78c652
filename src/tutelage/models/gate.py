"""The gate before transformers: what a model's folder says of itself, read from a few kilobytes.

Configuration, index and the headers of the safetensors files are read here first, and compared. A
folder passes only when its weights are safetensors files that lie inside it, are whole, and are
those that its configuration describes. So nothing outside the folder is read, nothing is unpickled,
nothing is filled in at random, and an absurd number is a message and not an hour of waiting.
"""

import json
import os
import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from tutelage.errors import ModelError
from tutelage.models.headers import Stored, check_ends, read_bytes, tensors_in

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_LFS = b"version https://git-lfs"
_FLOATS = {"F64", "F32", "F16", "BF16"}
_MODEL_FILES = {".json", ".safetensors", ".model", ".txt", ".jinja", ".py", ".tiktoken"}
_NOT_OF_THE_MODEL = {
    "manifest.json", "selected.json", "check.json", "trainer_state.json", "complete.json",
    "seconds.json", "healed.json",
}  # fmt: skip
"""What we write beside weights: how long making them took must not make another model of them."""
_COUNTS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "hidden_size", "n_embd", "d_model",
    "num_attention_heads", "n_head", "n_heads", "num_key_value_heads", "head_dim", "vocab_size",
    "intermediate_size", "max_position_embeddings", "n_positions",
)  # fmt: skip
_LAYERS = _COUNTS[:4]
_CHANCES = ("dropout", "pdrop")
"""How the names of chances end."""
_LONGEST_NAME = 255
_MOST_LABELS = 100_000
_WIDTHS = ("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "embedding_size")
_LAYER = re.compile(
    r"^(?:(?:model|transformer|gpt_neox|backbone|decoder|language_model)\.)*"
    r"(?:layers|h|blocks)\.(\d+)\."
)
_EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|wte|embed_in|word_embeddings)\.weight$")
_GUESS = 4
"""A configuration with so many times the layers that the weights have is not built at all."""


VOCABULARIES = ("tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
"""Files of tokenizers that have no tokenizer.json."""


def model_files(folder: Path) -> list[Path]:
    """The files in a model's folder that decide what it says, from weights to code."""
    found = [
        path
        for pattern in ("*", "additional_chat_templates/*")
        for path in folder.glob(pattern)
        if path.suffix in _MODEL_FILES and path.name not in _NOT_OF_THE_MODEL and path.is_file()
    ]
    return sorted(found)


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds a LoRA adapter, which is no model without its base."""
    return (Path(folder) / "adapter_config.json").is_file()


def check_folder(folder: Path, *, itemsize: int | None = None, weights: bool = True) -> None:
    """Refuse a folder that is not a whole causal language model in safetensors.

    Args:
        folder: where the model is.
        itemsize: bytes of a weight in memory; None when no weights will be loaded.
        weights: whether the weights must be there; not for what the hub has and this machine not.

    Raises:
        ModelError: says what is wrong, and what to do.
    """
    if is_adapter(folder):
        raise ModelError(
            f"'{folder}' holds a LoRA adapter (adapter_config.json), not a whole model. Merge it"
            " into its base model (`merge_and_unload` of peft), save that, and name its folder; or"
            " take adapter_config.json away if the model beside it is meant."
        )
    if not (folder / "config.json").exists():
        raise ModelError(
            f"'{folder}' has no config.json, so it holds no model that transformers could load."
            " Name the folder that `save_pretrained` wrote."
        )
    check_no_pointers(folder)
    config = _config(folder)
    if not weights:
        return
    tensors = _tensors(folder, config)
    _check_whole(folder, config, tensors)
    _check_types(folder, tensors)
    _check_shapes(folder, config.get("text_config") or config, tensors)
    if itemsize is not None:
        _check_memory(folder, sum(prod(t.shape) for t in tensors.values()) * itemsize)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a model's folder as it is written, with numbers where they belong.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    return _config(folder)


def number_of_layers(config: Mapping[str, Any]) -> int | None:
    """The layers of a model that writes text; None where its configuration has no usual key."""
    text = config.get("text_config") or config
    return next((text[key] for key in _LAYERS if isinstance(text.get(key), int)), None)


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """The tensors of a model's folder by name, from the headers of its files.

    Raises:
        ModelError: a file is missing or damaged, or lies elsewhere.
    """
    return _tensors(folder, _config(folder))


def _tensors(folder: Path, config: Mapping[str, Any]) -> dict[str, Stored]:
    return {
        name: tensor
        for file in _weight_files(folder, config)
        for name, tensor in tensors_in(folder, file)
    }


def check_no_pointers(folder: Path) -> None:
    """Refuse files that stand for others, which git-lfs was to fetch, and those without an end."""
    for path in folder.glob("*"):
        if path.suffix in _MODEL_FILES:
            check_ends(path)
    for file in model_files(folder):
        if read_bytes(folder, file.name, len(_LFS)) == _LFS:
            raise ModelError(
                f"'{file}' is a pointer of git-lfs and not the file itself. Run `git lfs install`"
                f" and `git lfs pull` in '{folder}', or download the model again."
            )


def _config(folder: Path) -> dict[str, Any]:
    """The configuration as it is written, with numbers where numbers belong."""
    config = _json(folder, "config.json")
    quantized = config.get("quantization_config")
    if quantized:
        method = quantized.get("quant_method") if isinstance(quantized, dict) else None
        raise ModelError(
            f"The weights in '{folder}' are quantized ({method or 'by an unknown method'}), and"
            " quantized weights can be neither trained nor compared exactly. Name the model that"
            " was quantized, or a .gguf file of it, which is unpacked."
        )
    check_numbers(folder, config)
    return config


def check_numbers(folder: Path, config: Mapping[str, Any] | None = None) -> None:
    """Refuse a configuration with numbers that no model has: transformers makes things of them.

    Args:
        folder: where it is, or is not.
        config: its content, where that is known.

    Raises:
        ModelError: says which number.
    """
    if config is None:
        if not (folder / "config.json").exists():
            return
        config = _json(folder, "config.json")
    text = config.get("text_config") or config
    if not isinstance(text, dict):
        raise ModelError(f"text_config in '{folder / 'config.json'}' is no object. Mend the file.")
    for key in _COUNTS:
        value = text.get(key)
        # Some models name one number for each layer.
        for number in value if isinstance(value, list) else [value]:
            if number is not None and (type(number) is not int or not 0 < number < 2**31):
                raise ModelError(
                    f"{key} is {number!r} in '{folder / 'config.json'}'; it must be a whole number"
                    " of 1 or more. Mend the file or download it again."
                )
    labels = config.get("num_labels")
    if isinstance(labels, int) and labels > _MOST_LABELS:
        raise ModelError(
            f"num_labels is {labels:,} in '{folder / 'config.json'}', and transformers makes a name"
            " for each. Remove it: a language model has none."
        )
    for key, value in text.items():
        chance = key.endswith(_CHANCES) and isinstance(value, int | float)
        if chance and not 0 <= value <= 1:
            raise ModelError(
                f"{key} is {value!r} in '{folder / 'config.json'}'; it must lie between 0 and 1."
                " Mend the file or download it again."
            )


def _weight_files(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Names of the files that transformers will read the weights from."""
    explicit = config.get("transformers_weights")
    if explicit is not None:
        return [_inside(folder, explicit, "config.json")]
    if (folder / _SINGLE).exists() or (folder / _SINGLE).is_symlink():
        return [_inside(folder, _SINGLE, "The folder")]
    if (folder / _INDEX).exists():
        names = _json(folder, _INDEX).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise ModelError(f"'{folder / _INDEX}' has no weight_map. Download it again.")
        shards = {_inside(folder, name, _INDEX) for name in names.values()}
        return sorted(shards)
    if any(folder.glob("pytorch_model*.bin")):
        raise ModelError(
            f"'{folder}' has its weights in pytorch_model.bin alone, and reading a pickle can run"
            " any code. If you trust the file, convert it once with transformers:"
            " `AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)`."
        )
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        raise ModelError(
            f"'{folder}' has neither {_SINGLE} nor {_INDEX}, only {', '.join(others[:3])}. Save or"
            " download the model again, whole."
        )
    raise ModelError(f"'{folder}' has no *.safetensors file. Save or download the weights again.")


def _inside(folder: Path, name: Any, named_by: str) -> str:
    """A file's name, after a look at where it lies and what it is."""
    if not isinstance(name, str) or Path(name).name != name:
        raise ModelError(
            f"{named_by} of '{folder}' names the weights {name!r}, which is not a file in that"
            " folder. Files elsewhere are not read: put the weights beside config.json."
        )
    if not name.endswith(".safetensors"):
        raise ModelError(
            f"{named_by} of '{folder}' names '{name}', and only safetensors are read: reading a"
            " pickle can run any code. Convert the weights to safetensors."
        )
    path = folder / name
    if len(os.fsencode(name)) > _LONGEST_NAME or not path.is_file():
        name = name if len(name) <= _LONGEST_NAME else f"{name[:40]}..."
        raise ModelError(
            f"The weights '{name}', which {named_by} of '{folder}' names, are not there. Download"
            " the model again, whole."
        )
    real, home = path.resolve(), folder.resolve()
    # The hub's cache: models--X/snapshots/COMMIT/file is a link to models--X/blobs/DIGEST.
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else None
    if home not in real.parents and (blobs is None or real.parent != blobs):
        raise ModelError(
            f"'{path}' is a link to '{real}', outside of its folder. Files elsewhere are not read:"
            " put the file itself there, or name the folder that holds it."
        )
    return name


def _check_whole(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> None:
    """There are tensors, and all that the index names, and some of each layer up to the last.

    Which weights each layer needs is known only when the model is built.
    """
    if not tensors:
        raise ModelError(
            f"The weights in '{folder}' hold no tensor at all. Save or download the model again."
        )
    single = (folder / _SINGLE).exists() or config.get("transformers_weights") is not None
    indexed = not single and (folder / _INDEX).exists()
    named = set(_json(folder, _INDEX)["weight_map"]) if indexed else set()
    named.discard("lm_head.weight")  # may be the embedding's, and stored there alone
    layers = {int(match[1]) for name in tensors if (match := _LAYER.match(name))}
    gaps = sorted({*range(max(layers, default=-1) + 1)} - layers)
    missing = sorted(named - tensors.keys()) + [f"layer {number}" for number in gaps]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ModelError(
            f"The weights in '{folder}' lack {', '.join(missing[:3])}{more}, so they are not whole."
            " Save or download the model again."
        )


def _check_types(folder: Path, tensors: Mapping[str, Stored]) -> None:
    """Weights are real numbers; whole ones would be taken as they are, without their scale."""
    for name, tensor in tensors.items():
        if name.endswith(".weight") and tensor.dtype not in _FLOATS:
            raise ModelError(
                f"'{name}' in '{folder}' is of type {tensor.dtype}: the weights are quantized, and"
                " config.json does not say how. Name the model that was quantized."
            )


def _check_shapes(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> None:
    """Layers and vocabulary of the configuration are those of the weights."""
    found = [int(match[1]) for name in tensors if (match := _LAYER.match(name))]
    layers = number_of_layers(config)
    if found and layers is not None:
        # Layers beyond the last that predict several tokens at once are known and left out.
        extra = config.get("num_nextn_predict_layers") or 0
        stored = max(found) + 1
        if layers + extra < stored or layers > _GUESS * stored:
            raise ModelError(
                f"The weights in '{folder}' have {stored:,} layers and config.json says"
                f" {layers:,}: they do not belong together. Take both from one download."
            )
    vocab = config.get("vocab_size")
    widths = [config[key] for key in _WIDTHS if config.get(key) is not None]
    for name, tensor in tensors.items():
        if not _EMBEDDING.search(name) or len(tensor.shape) != 2:
            continue
        rows, width = tensor.shape
        if rows != (vocab or rows) or (widths and width not in widths):
            raise ModelError(
                f"'{name}' in '{folder}' is {rows:,} x {width:,} and config.json says vocab_size"
                f" {vocab}, hidden size {widths[0] if widths else None}: they do not belong"
                " together. Take both from one download."
            )


def check_described(folder: Path, model: Any) -> None:
    """Refuse weights that are far fewer than their configuration describes, or of other shapes.

    What is missing would be made at random first, in whatever size the configuration says.

    Args:
        folder: where they are.
        model: built from the configuration, without weights.

    Raises:
        ModelError: says which, or how many.
    """
    stored = stored_tensors(folder)
    for key, parameter in model.named_parameters():
        tensor = stored.get(key)
        if tensor is not None and tensor.shape != tuple(parameter.shape):
            found, wanted = (" x ".join(map(str, s)) for s in (tensor.shape, parameter.shape))
            raise ModelError(
                f"'{key}' in '{folder}' is {found} and config.json asks for {wanted}: they do not"
                " belong together. Take both from one download."
            )
    described = sum(parameter.numel() for parameter in model.parameters())
    there = sum(prod(tensor.shape) for tensor in stored.values())
    if described > _GUESS * there:
        raise ModelError(
            f"config.json of '{folder}' describes a model of {described:,} weights, and its files"
            f" hold {there:,}: they do not belong together. Take both from one download."
        )


def machine_memory() -> int | None:
    """Bytes of memory that this machine has; None where nobody says."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _check_memory(folder: Path, need: int) -> None:
    """The weights must fit into the machine's memory before they go anywhere else."""
    there = machine_memory()
    if there is not None and need > there:
        raise ModelError(
            f"The model in '{folder}' needs {need / 2**30:.0f} GB and this machine has"
            f" {there / 2**30:.0f} GB of memory. Use dtype bfloat16, a smaller model, or a larger"
            " machine."
        )


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads(read_bytes(folder, name))
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"'{folder / name}' is not a valid JSON file: {str(error)[:200]}. Download it again."
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"'{folder / name}' holds no JSON object. Download it again.")
    return value
