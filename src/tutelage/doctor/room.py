"""Room in memory, before weights go there."""

from tutelage.doctor.patient import Patient
from tutelage.pipeline.context.display import size_text
from tutelage.pipeline.context.models import device
from tutelage.pipeline.stages.memory import memory_of

_SHARE = 0.8
"""Of what is free, that the doctor takes at most."""


def free_memory() -> int | None:
    """Bytes that are free on the device that models go to; None where nobody says."""
    import torch

    here = device()
    if here.type == "cuda":
        return torch.cuda.mem_get_info()[0]
    if here.type != "cpu":
        return memory_of(here)
    try:
        import psutil  # accelerate needs it too

        return int(psutil.virtual_memory().available)
    except ImportError:
        return memory_of(here)


def why_not_loaded(patient: Patient) -> str | None:
    """Why both models are not loaded together; None where they fit."""
    teacher, free = patient.teacher_size, free_memory()
    need = patient.student_size.bytes + (0 if teacher is None else teacher.bytes)
    if free is None or need <= _SHARE * free:
        return None
    return (
        f"both models' weights take {size_text(need)}, and {size_text(free)} are free"
        " (teacher.dtype=bfloat16 halves one of them)"
    )
