"""GGUF files: converted once to safetensors, in a cache folder, and loaded from there afterwards.

The weights of a GGUF file are usually quantized in blocks, which cannot be trained. They are
unpacked to the dtype that was asked for. Programs that compute with the packed weights give
slightly other probabilities: do not mix both as one teacher.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.errors import MissingDependencyError, ModelError, first_line
from tutelage.files import atomic_directory, remove_leftovers
from tutelage.hashes import cache_folder, content_sha256

if TYPE_CHECKING:
    import torch

_ID_DIGITS = 16


def gguf_model_folder(name: str, dtype: "torch.dtype") -> Path:
    """The folder with the model of a GGUF file, converted now if it was not before.

    Args:
        name: path of the file.
        dtype: dtype of the weights in the folder; each has its own conversion.

    Raises:
        ModelError: the file is missing or not a GGUF file that transformers knows.
        MissingDependencyError: a package that reads GGUF is not installed.
    """
    file = existing_gguf(name)
    return _converted(file, str(dtype).removeprefix("torch."), lambda: _read_model(file, dtype))


def gguf_tokenizer_folder(name: str) -> Path:
    """The folder with the tokenizer of a GGUF file; see ``gguf_model_folder``."""
    file = existing_gguf(name)
    return _converted(file, "tokenizer", lambda: _read_tokenizer(file))


def read_model(file: Path, dtype: "torch.dtype") -> Any:
    """The model of a GGUF file, unpacked now and kept nowhere.

    Args:
        file: the file.
        dtype: type of the weights in memory.

    Raises:
        ModelError: it is not a GGUF file that transformers knows.
        MissingDependencyError: a package that reads GGUF is not installed.
    """
    with _no_bars():
        return _attempt(file, lambda: _read_model(file, dtype))


def converted_before(name: str, dtype: str) -> tuple[Path, Path] | None:
    """The folders with the model and the tokenizer of a GGUF file, when both are there already."""
    parts = cache_folder() / "gguf"
    if not parts.is_dir():
        return None
    parts /= content_sha256(existing_gguf(name))[:_ID_DIGITS]
    folders = parts / dtype, parts / "tokenizer"
    return folders if all(folder.is_dir() for folder in folders) else None


def existing_gguf(name: str) -> Path:
    """The file that a name ending in .gguf means."""
    file = Path(name).expanduser()
    if not file.is_file():
        raise ModelError(
            f"There is no GGUF file '{name}'. Correct the path; it counts from '{Path.cwd()}'"
            " unless it begins with '/'."
        )
    return file


def _converted(file: Path, part: str, read: Callable[[], Any]) -> Path:
    """The cache folder of one part of a file, made by ``read().save_pretrained`` if need be."""
    # By content, so that a moved file is found again and a replaced one is not taken for the old.
    folder = cache_folder() / "gguf" / content_sha256(file)[:_ID_DIGITS] / part
    if not folder.is_dir():
        with _no_bars():
            value = _attempt(file, read)
        remove_leftovers(cache_folder() / "gguf", alone=False)
        with atomic_directory(folder) as temporary:
            value.save_pretrained(temporary)
    return folder


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Without the bar over tensors, which fills a log with lines and which no setting silences."""
    from transformers import modeling_gguf_pytorch_utils

    reader: Any = modeling_gguf_pytorch_utils  # its bar is no public name
    shown = reader.tqdm
    reader.tqdm = functools.partial(shown, disable=True)
    try:
        yield
    finally:
        reader.tqdm = shown


def _attempt(file: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ImportError as error:
        raise MissingDependencyError(
            f"'{file}' needs the gguf package and a transformers that unpacks GGUF files, and one"
            f" is missing ({error}). Install them: pip install -U 'tutelage[gguf]' transformers."
        ) from error
    except Exception as error:  # a cut or foreign binary file fails wherever it is read
        raise ModelError(
            f"'{file}' cannot be read as a GGUF model: {first_line(error)}. Download it again, or"
            " use the safetensors version of the model."
        ) from error


def _read_model(file: Path, dtype: "torch.dtype") -> Any:
    from transformers import AutoModelForCausalLM, GgufConfig  # GgufConfig is recent

    # Without dequantize a quantizer stays attached: such a model can be neither saved nor trained.
    return AutoModelForCausalLM.from_pretrained(
        str(file.parent),
        gguf_file=file.name,
        quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
        dtype=dtype,
    )


def _read_tokenizer(file: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
