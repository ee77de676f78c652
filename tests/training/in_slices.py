"""Losses over a head that two processes have by rows, and the same over the whole head."""

import itertools
import types

import torch
from torch import nn

from conftest_models import VOCAB, tiny_model
from tutelage.components import bind
from tutelage.divergences import DIVERGENCES
from tutelage.models.head import LogitTransform
from tutelage.targets import probability_mix
from tutelage.teachers import live_teacher
from tutelage.training import DistillLoss, StepValues
from tutelage.training.vocabulary import VocabularyParallelLoss, VocabularySlice

TOKENS, TILE = 11, 4
DIVERGENCE = [
    ("forward_kl", {}), ("reverse_kl", {}), ("tvd", {}), ("jsd", {"jsd_beta": 0.3}),
    ("alpha_beta", {"ab_alpha": 0.2, "ab_beta": 0.7}),
]  # fmt: skip
VALUES = [(0.0, 1.0, 0.3), (0.4, 1.5, 0.3), (0.2, 2.0, 0.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0)]
"""Share of the student, temperature, weight of cross-entropy."""

CASES = {
    f"{name}-{values}": {"divergence": (name, options), "values": values}
    for (name, options), values in itertools.product(DIVERGENCE, VALUES)
}
PLAIN = {"divergence": ("forward_kl", {}), "values": (0.2, 1.5, 0.3)}
CASES |= {
    "softcap": {**PLAIN, "softcap": 2.0},
    "bias": {**PLAIN, "bias": True},
    "weights": {**PLAIN, "weighted": True},
    "two divergences": {**PLAIN, "second": 0.3},
    "padded": {**PLAIN, "vocab": VOCAB - 3},
    "no token": {**PLAIN, "vocab": VOCAB // 2},
    "float32": {**PLAIN, "dtype": torch.float32},
    "a head that is not trained": {**PLAIN, "frozen": True},
}


class Case:
    """All that a case is made of, alike in all processes."""

    def __init__(self, told):
        share, tau, ce_weight = told["values"]
        second = told.get("second", 0.0)
        self.values = StepValues(share, tau, ce_weight, second_share=second)
        self.dtype = told.get("dtype", torch.float64)
        self.student = tiny_model(seed=1).to(self.dtype)
        if told.get("softcap"):
            self.student.config.final_logit_softcapping = told["softcap"]
        self.transform = LogitTransform(softcap=told.get("softcap"))
        if told.get("bias"):
            old = self.student.lm_head
            self.student.lm_head = nn.Linear(old.in_features, old.out_features, dtype=self.dtype)
        self.student.lm_head.requires_grad_(not told.get("frozen"))
        name, options = told["divergence"]
        self.loss = DistillLoss(
            bind(DIVERGENCES, "divergence", name, options),
            probability_mix,
            told.get("vocab", VOCAB),
            tile_tokens=TILE,
            second=DIVERGENCES["reverse_kl"].function if second else None,
        )
        self.teacher = live_teacher(tiny_model(seed=2).to(self.dtype), self.loss.vocab_size)
        draw = torch.Generator().manual_seed(5)
        shape = (TOKENS, self.student.config.hidden_size)
        self.hidden, self.of_teacher = (
            torch.randn(shape, generator=draw, dtype=torch.float64).to(self.dtype) for _ in range(2)
        )
        self.hidden.requires_grad_()
        self.targets = torch.randint(self.loss.vocab_size, (TOKENS,), generator=draw)
        self.weights = None
        if told.get("weighted"):
            self.weights = torch.rand(TOKENS, generator=draw, dtype=torch.float64).to(self.dtype)

    def outcome(self, sums, head):
        """What a loss comes to, and the gradients of its half."""
        if sums.total.requires_grad:
            (0.5 * sums.total).backward()
        found = {"total": sums.total.detach(), "parts": sums.parts, "hidden": self.hidden.grad}
        return {**found, "weight": head.weight.grad, "bias": getattr(head.bias, "grad", None)}


def whole(told):
    """One process with the whole head."""
    case = Case(told)
    sums = case.loss(
        case.student, case.hidden, case.targets, case.values, case.teacher, case.of_teacher,
        weights_N=case.weights,
    )  # fmt: skip
    return case.outcome(sums, case.student.lm_head)


def sliced(told, rank):
    """One of two processes; the first has less than half of the rows, or all that are tokens."""
    case = Case(told)
    cut = max(VOCAB // 2 - 2, VOCAB // 2 if told.get("vocab") == VOCAB // 2 else 0)
    rows = slice(0, cut) if rank == 0 else slice(cut, VOCAB)
    head = types.SimpleNamespace(weight=None, bias=None)
    for name in ("weight", "bias"):
        parameter = getattr(case.student.lm_head, name)
        if parameter is not None:
            mine = nn.Parameter(parameter.detach()[rows].clone(), parameter.requires_grad)
            setattr(head, name, mine)
    sums = VocabularyParallelLoss(case.loss)(
        VocabularySlice(head, rows.start),
        case.hidden,
        case.targets,
        case.values,
        iter(case.teacher.tiles(case.of_teacher, TILE)),
        tile_tokens=TILE,
        transform=case.transform,
        weights_N=case.weights,
    )
    return case.outcome(sums, head)
