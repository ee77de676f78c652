"""On which layers LoRA adapters go, by their names; nothing here loads torch."""

import re
from collections.abc import Collection, Sequence

from tutelage.errors import ConfigError

ALL_LINEAR = "all-linear"


def missing_targets(targets: str | Sequence[str], layers: Collection[str]) -> list[str]:
    """Those of some targets that no layer is called.

    Args:
        targets: ``all-linear``, a regular expression for whole paths, or names.
        layers: paths of the layers that can have an adapter.

    Raises:
        ConfigError: the expression is none.
    """
    if targets == ALL_LINEAR:
        return []
    if not isinstance(targets, str):
        return [t for t in targets if not any(n == t or n.endswith(f".{t}") for n in layers)]
    try:
        pattern = re.compile(targets)
    except re.error as error:
        raise ConfigError(
            f"training.lora.target_modules is '{targets}', which is no regular expression:"
            f" {error}. Write a list of names, or {ALL_LINEAR}."
        ) from error
    return [] if any(pattern.fullmatch(name) for name in layers) else [targets]
