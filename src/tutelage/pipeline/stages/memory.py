"""What a training takes of memory in one process: a formula, held against runs by its tests."""

from dataclasses import dataclass

import torch

from tutelage.models.gate import machine_memory
from tutelage.training.settings import parts_of
from tutelage.training.tiles import tile_rows

ACTIVATIONS = {"float32": 34 * 2, "bfloat16": 34 * 3 // 2}
"""Bytes of activations for each token, layer and hidden unit, roughly, by the type of products:
what passes between layers is float32 in both."""

KEPT = 4
"""The same of a layer that is run again in the backward pass: its input."""


@dataclass(frozen=True)
class Sizes:
    """What a model is to the formula.

    Attributes:
        parameters: all of them.
        outside: of these, what is in no layer: embeddings, head, last norm.
        layers: number of layers.
        hidden: width.
        vocab: rows of the head.
        itemsize: bytes of a weight.
    """

    parameters: int
    outside: int
    layers: int
    hidden: int
    vocab: int
    itemsize: int = 4

    @property
    def layer(self) -> float:
        """Parameters of one layer."""
        return (self.parameters - self.outside) / max(self.layers, 1)


@dataclass(frozen=True)
class Memory:
    """Bytes of one process, by what takes them.

    Attributes:
        weights: of the student, or its part.
        gradients: of what is trained of it.
        optimizer: Adam's two moments of that.
        teacher: weights of the live teacher, or its part; the head of a stored one.
        gathered: of models that are cut: what is whole at once while a step runs.
        activations: of the student's forward pass.
        head: copies of heads in the type of the products, and the head's gradient.
        logits: of a tile, of both models.
        whole: of a student that is cut: all its weights, while it is validated or saved.
    """

    weights: float
    gradients: float
    optimizer: float
    teacher: float
    gathered: float
    activations: float
    head: float
    logits: float
    whole: float = 0.0

    @property
    def total(self) -> int:
        """The peak: in a step, or while all of a cut student is there."""
        always = self.weights + self.optimizer + self.teacher
        step = self.gradients + self.gathered + self.activations + self.head + self.logits
        return int(always + max(step, self.whole))


def training_memory(
    student: Sizes,
    teacher: Sizes | None,
    *,
    trainable: int,
    tokens: int,
    live: bool = True,
    precision: str = "float32",
    checkpointed: bool = False,
    tile_tokens: int | None = None,
    processes: int = 1,
    shard: str = "none",
) -> Memory:
    """Memory of one process of a training.

    Args:
        student: its sizes.
        teacher: that of the teacher; None without one.
        trainable: parameters with gradients and optimizer state.
        tokens: of the largest micro-batch, padding included where there is some.
        live: whether the teacher runs beside the student; of a stored one the head is there.
        precision: type of the products.
        checkpointed: whether layers are run again in the backward pass.
        tile_tokens: tokens whose logits are in memory at once; None for the loss's own budget.
        processes: how many share the training.
        shard: what is cut over them, as ``training.shard``.
    """
    parts = parts_of(shard, "student", processes)
    teacher_parts = parts_of(shard, "teacher", processes)
    trained = trainable / max(student.parameters, 1)
    gathered = whole = 0.0
    if parts > 1:
        # Two layers: one runs, the next is on its way; gradients of one wait to be reduced.
        units = student.outside + 2 * student.layer
        gathered += 4 * units + 4 * trained * (student.outside + student.layer)
        whole = 4.0 * student.parameters
    of_teacher = 0.0
    if teacher is not None:
        of_teacher = 4.0 * teacher.hidden * teacher.vocab
        if live:
            of_teacher = teacher.itemsize * teacher.parameters / teacher_parts
            if teacher_parts > 1:
                gathered += teacher.itemsize * (teacher.outside + 2 * teacher.layer)
    each = ACTIVATIONS[precision] * student.hidden
    activations = tokens * each * student.layers
    if checkpointed:
        activations = tokens * (KEPT * student.hidden * student.layers + each)
    heads = [model.hidden * model.vocab for model in (student, teacher) if model is not None]
    head = 4.0 * heads[0] * (trained > 0)
    if precision == "bfloat16":
        head += 2.0 * sum(heads)
    logit_bytes = 4 * 2 * student.vocab
    tile = min(tokens, tile_tokens or tile_rows(tokens, logit_bytes))
    return Memory(
        weights=student.itemsize * student.parameters / parts,
        gradients=4.0 * trainable / parts,
        optimizer=8.0 * trainable / parts,
        teacher=of_teacher,
        gathered=gathered,
        activations=activations,
        head=head,
        logits=float(logit_bytes * tile),
        whole=whole,
    )


def memory_of(device: torch.device) -> int | None:
    """Bytes that a device has in all, or the machine for a CPU; None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return machine_memory() if device.type == "cpu" else None


def too_little(need: int, there: int | None) -> str | None:
    """What to do where a training needs more than there is, in words; None where it does not.

    Args:
        need: bytes of a process.
        there: bytes of its device.
    """
    if there is None or need <= there:
        return None
    return (
        f"that is more than the {there / 1e9:.0f} GB here. Less is needed with"
        " training.gradient_checkpointing=true, a smaller training.micro_batch_size, a stored"
        " teacher (teacher.signal), training.lora, or several processes and training.shard; see"
        " docs/scale.md"
    )
