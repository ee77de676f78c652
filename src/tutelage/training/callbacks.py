"""What happens around the steps: the log file, validation, progress."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import TrainerCallback

from tutelage.files import append_jsonl, read_jsonl
from tutelage.training.checkpoints import truncate_log

_HIDDEN = ("epoch", "total_flos")


class MetricsFile(TrainerCallback):
    """Append every training record to a JSON Lines file, on the first process.

    After a resume the rows that the lost steps had written are dropped first, so that each step
    stands in the file once.

    In a row ``loss``, ``ce``, ``kd``, ``token_agreement``, ``response_tokens`` and the names of
    ``own_text`` are means over the steps since the row before, ``fresh_steps`` and
    ``replayed_steps`` count those of them that learned from the student's own text, ``seconds``
    counts from the beginning, what begins with ``alarm_`` is said once, and all others are the
    values of the last step.

    Args:
        path: the file.
        spent: seconds that this training has taken so far, in earlier processes too; None counts
            from the beginning of this one.
    """

    def __init__(self, path: str | Path, spent: Callable[[], float] | None = None) -> None:
        self._path = Path(path)
        self._started = time.monotonic()
        self._spent = spent or (lambda: time.monotonic() - self._started)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **keywords: Any,
    ) -> None:
        """Drop rows beyond the step that training starts from."""
        self._started = time.monotonic()
        if state.is_world_process_zero:
            truncate_log(self._path, state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        """Write the record of a training step."""
        if not state.is_world_process_zero or logs is None or "loss" not in logs:
            return
        row = {key: value for key, value in logs.items() if key not in _HIDDEN}
        row = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        row["seconds"] = round(self._spent(), 3)
        append_jsonl(self._path, {"step": state.global_step, **row})


class ValidateAndLog(TrainerCallback):
    """Validate after given steps, and log after given ones and the last.

    Logged windows start and end at the same steps in a resumed run: a checkpoint holds the sums of
    the one that is open.
    """

    def __init__(self, validate_after: Sequence[int] = (), log_after: Sequence[int] = ()) -> None:
        self._validate_after = frozenset(validate_after)
        self._log_after = frozenset(log_after)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **keywords: Any,
    ) -> None:
        """Ask for what this step calls for."""
        if state.global_step in self._validate_after:
            control.should_evaluate = True
        if state.global_step in self._log_after or state.global_step >= state.max_steps:
            control.should_log = True


class BestStudent(TrainerCallback):
    """Record validation and call ``keep`` whenever the metric is better than ever before.

    The record is a file; after a resume, rows of lost steps are dropped and come again.
    """

    def __init__(
        self,
        path: str | Path,
        metric: str | None,
        keep: Callable[[int, float], None] | None = None,
    ) -> None:
        self._path = Path(path)
        self._metric = metric
        self._keep = keep

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **keywords: Any,
    ) -> None:
        """Drop rows beyond the step that training starts from."""
        if state.is_world_process_zero:
            truncate_log(self._path, state.global_step)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **keywords: Any,
    ) -> None:
        """Write the metrics; keep the student when it is the best so far."""
        if not state.is_world_process_zero or metrics is None:
            return
        row = {name.removeprefix("eval_"): value for name, value in metrics.items()}
        earlier = [r[self._metric] for r in read_jsonl(self._path)] if self._metric else []
        append_jsonl(self._path, {"step": state.global_step, **row})
        if self._metric and self._keep and row[self._metric] > max(earlier, default=-math.inf):
            self._keep(state.global_step, row[self._metric])


class ProgressReport(TrainerCallback):
    """Tell a progress display how many steps are done, and how training goes.

    Args:
        report: called with the steps done, the steps in all, and the last logged and validated
            values in words.
    """

    def __init__(self, report: Callable[[int, int, str], None]) -> None:
        self._report = report
        self._logged = self._validated = ""

    def _tell(self, state: TrainerState) -> None:
        words = "; ".join(part for part in (self._logged, self._validated) if part)
        self._report(state.global_step, state.max_steps, words)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **keywords: Any,
    ) -> None:
        """Show where training starts from."""
        self._tell(state)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **keywords: Any,
    ) -> None:
        """Show one more step."""
        self._tell(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        """Show the parts of the loss."""
        if logs is None or "loss" not in logs:
            return
        words = [f"loss {logs['loss']:.3g}"]
        if logs.get("kd") is not None:
            words.append(f"KD {logs['kd']:.3g}")
        if logs.get("token_agreement") is not None:
            words.append(f"agreement {logs['token_agreement']:.0%}")
        self._logged = ", ".join(words)
        self._tell(state)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **keywords: Any,
    ) -> None:
        """Show the last validation."""
        found = {k.removeprefix("eval_").replace("_", " "): v for k, v in (metrics or {}).items()}
        words = ", ".join(f"{name} {value:.3g}" for name, value in found.items())
        self._validated = f"validation at {state.global_step}: {words}" if words else ""
        self._tell(state)
