"""Programs that a model wrote, run where they can do no harm and cannot judge themselves."""

from tutelage.evaluation.sandbox.backends import BACKENDS
from tutelage.evaluation.sandbox.limits import Limits, Outcome
from tutelage.evaluation.sandbox.pool import Sandbox, Task, find_backend, run_checked

__all__ = ["BACKENDS", "Limits", "Outcome", "Sandbox", "Task", "find_backend", "run_checked"]
