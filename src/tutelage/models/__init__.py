"""Models: loading them, checking that two fit each other, and making a student from a teacher.

What needs no weights does not load what weights need: names are imported at their first use.
"""

from typing import TYPE_CHECKING

from tutelage.lazy import lazy_names

if TYPE_CHECKING:
    from tutelage.models.load import (
        ModelSize,
        describe_model,
        load_config,
        load_model,
        load_tokenizer,
    )
    from tutelage.models.prune import keep_layers
    from tutelage.models.same_tokenizer import check_same_tokenizer
    from tutelage.models.shorten import layer_indices

_HOMES = {
    "ModelSize": "load",
    "check_same_tokenizer": "same_tokenizer",
    "describe_model": "load",
    "keep_layers": "prune",
    "layer_indices": "shorten",
    "load_config": "load",
    "load_model": "load",
    "load_tokenizer": "load",
}

__all__ = [
    "ModelSize",
    "check_same_tokenizer",
    "describe_model",
    "keep_layers",
    "layer_indices",
    "load_config",
    "load_model",
    "load_tokenizer",
]

__getattr__ = lazy_names(__name__, _HOMES)
