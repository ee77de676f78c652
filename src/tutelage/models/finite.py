"""Whether what a model computes are numbers at all."""

from typing import TYPE_CHECKING

from tutelage.errors import ModelError

if TYPE_CHECKING:  # what is looked at before anything runs reads this, too
    from torch import Tensor


def check_numbers(values: "Tensor") -> None:
    """Refuse NaN: the likeliest of such numbers is the first, and looks like an answer.

    Args:
        values: what logits became, of any shape.

    Raises:
        ModelError: one is no number.
    """
    if bool(values.isnan().any()):
        raise no_numbers()


def no_numbers() -> ModelError:
    """The error for a model whose logits are none."""
    return ModelError(
        "The model gives logits that are no numbers (NaN), so nothing that is read off them would"
        " mean anything. Its weights are damaged, or too large for the type in which they are"
        " computed: load it in float32 or bfloat16, and look whether its weights are finite."
    )
