"""How long a text a model can read."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Positions:
    """The positions of a model.

    Attributes:
        limit: how many it has, or was made for; None when it names no limit.
        fixed: whether there is nothing beyond, as with learned positions (GPT-2, OPT). Rotary ones
            go on, and a model gets worse there.
    """

    limit: int | None
    fixed: bool


def positions_of(config: Any) -> Positions:
    """The positions of a model, from its configuration."""
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None)
    return Positions(limit, limit is not None and not getattr(text, "rope_parameters", None))
