"""The table of all divergences. A new row is held to the contract test of the family."""

from tutelage.components import Component
from tutelage.divergences.kl import forward_kl, reverse_kl

DIVERGENCES: dict[str, Component] = {
    "forward_kl": Component(
        forward_kl,
        "KL(teacher || student): cover all that the teacher may say",
        "Hinton et al. 2015, arXiv:1503.02531",
    ),
    "reverse_kl": Component(
        reverse_kl,
        "KL(student || teacher): say nothing that the teacher would not",
        "Gu et al. 2024, arXiv:2306.08543",
    ),
}
