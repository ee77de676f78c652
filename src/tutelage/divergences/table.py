"""The table of all divergences. A new row is held to the contract test of the family."""

from tutelage.components import Component
from tutelage.divergences.adaptive import adaptive_kl
from tutelage.divergences.alpha_beta import alpha_beta
from tutelage.divergences.bounded import hellinger, tvd
from tutelage.divergences.kl import forward_kl, reverse_kl, symmetric_kl
from tutelage.divergences.mixtures import bdl, jsd, skl, srkl

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
    "symmetric_kl": Component(
        symmetric_kl,
        "forward and reverse KL; forward_weight weighs the forward one",
        "Jeffreys 1946",
    ),
    "adaptive_kl": Component(
        adaptive_kl,
        "forward KL where a token is open, reverse KL where it is settled, by entropy or coverage",
        "after Jin et al. 2026, arXiv:2603.07079",
    ),
    "tvd": Component(tvd, "total variation distance", "Wen et al. 2023, arXiv:2307.15190"),
    "hellinger": Component(hellinger, "squared Hellinger distance", "Hellinger 1909"),
    "jsd": Component(
        jsd,
        "generalised Jensen-Shannon; jsd_beta weighs the teacher (GKD)",
        "Agarwal et al. 2024, arXiv:2306.13649",
    ),
    "skl": Component(
        skl,
        "forward KL to the student with a little teacher in it (DistiLLM)",
        "Ko et al. 2024, arXiv:2402.03898",
    ),
    "srkl": Component(
        srkl,
        "reverse KL to the teacher with a little student in it (DistiLLM)",
        "Ko et al. 2024, arXiv:2402.03898",
    ),
    "alpha_beta": Component(
        alpha_beta,
        "alpha-beta divergence with all its limits (ABKD)",
        "Wang et al. 2025, arXiv:2505.04560",
    ),
    "bdl": Component(
        bdl,
        "KL between two opposite mixtures of teacher and student (DA-KD)",
        "He et al. 2025, DA-KD, PMLR 267",
    ),
}
"""Divergences by name, as ``kind`` in a recipe; `tutelage ls divergences` prints them."""
