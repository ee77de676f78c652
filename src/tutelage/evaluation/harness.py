"""lm-evaluation-harness with a model that is in memory: its tasks as questions and numbers."""

import contextlib
import functools
import importlib
import io
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.errors import ConfigError, DataError, MissingDependencyError, did_you_mean, first_line
from tutelage.evaluation.measure import Measured, Progress, Read, local_model
from tutelage.evaluation.question import Question
from tutelage.evaluation.suite import Suite
from tutelage.files import plain_json
from tutelage.hashes import content_sha256
from tutelage.models.finite import no_numbers
from tutelage.proofs import fingerprint
from tutelage.statistics import Interval, bootstrap_sums

_ID_DIGITS = 16
_FEWSHOT_SEED = 1234  # the harness's own
_WINDOW = 2048
"""Tokens for which a row counts when a budget of tokens becomes a number of rows."""


@dataclass(frozen=True)
class Harness:
    """A task (or group of tasks) of the harness, asked and scored by the harness itself.

    Attributes:
        task: its name.
        include_path: a folder with task files; empty for the tasks that come with the harness.
        shots: solved examples before each question; None for what the task says.
        chat: ask in the model's chat template.
    """

    task: str
    include_path: str = ""
    shots: int | None = None
    chat: bool = False

    @property
    def identity(self) -> Mapping[str, Any]:
        """The task, how it is asked, and with which version."""
        return {
            "measure": "lm-eval",
            "task": self.task,
            "shots": self.shots,
            "chat": self.chat,
            "version": getattr(_package(), "__version__", ""),
            "files": self._files(),
        }

    def _files(self) -> dict[str, str]:
        """What the task files of the user's own say."""
        folder = Path(self.include_path)
        files = sorted(folder.rglob("*.y*ml")) + sorted(folder.rglob("*.py"))
        return {
            str(file.relative_to(folder)): content_sha256(file)
            for file in (files if self.include_path else [])
        }

    def questions(self) -> list[Question]:
        """The documents of the task, each with an id of its content."""
        seen: dict[str, int] = {}
        questions = []
        for name, task in self._load()["tasks"].items():
            for place, doc in enumerate(task.eval_docs):
                made = fingerprint([name, plain_json(doc)])[:_ID_DIGITS]
                seen[made] = seen.get(made, 0) + 1
                questions.append(
                    Question(
                        made if seen[made] == 1 else f"{made}-{seen[made]}",
                        str(task.doc_to_text(doc)),
                        references=(str(task.doc_to_target(doc)),),
                        group=name,
                        extra={"task": name, "doc": place},
                    )
                )
        return questions

    # The harness draws solved examples question by question from one stream: asked for a part of
    # the questions, it would put others in front of them.
    whole = True

    def reader(self, engine: Any, suite: Suite) -> Read:
        """Asks the harness, and gives what it logged of each question."""
        model, tokenizer = local_model(engine, suite.name)
        if self.chat and not tokenizer.chat_template:
            raise ConfigError(
                f"The suite '{suite.name}' was to ask in the model's chat template, and the"
                " tokenizer has none. Ask as text (chat=false), or a model tuned for chats."
            )
        return functools.partial(self._read, model, tokenizer, suite)

    def _read(
        self,
        model: Any,
        tokenizer: Any,
        suite: Suite,
        questions: Sequence[Question],
        progress: Progress,
    ) -> list[list[Mapping[str, Any]]]:
        from transformers import GenerationConfig

        from tutelage.data.ending import stop_ids
        from tutelage.generation.engines.local import asking
        from tutelage.models.head import causal_lm

        samples: dict[str, list[int]] = {}
        for question in questions:
            samples.setdefault(question.extra["task"], []).append(question.extra["doc"])
        inner = causal_lm(model)
        rows = max(1, suite.generation.batch_tokens // _WINDOW)
        with asking(inner, suite.generation), _quiet():
            # Where an answer ends, as for all suites; without it rows run on beside longer ones.
            ends = list(stop_ids(tokenizer, inner))
            inner.generation_config = GenerationConfig(eos_token_id=ends or None)
            adapter = importlib.import_module("lm_eval.models.huggingface").HFLM
            asked = adapter(pretrained=inner, tokenizer=tokenizer, batch_size=rows)
            found = _package().evaluate(
                lm=asked,
                task_dict=self._load(),
                samples=samples,
                bootstrap_iters=0,
                apply_chat_template=self.chat,
                fewshot_as_multiturn=self.chat,
            )
        progress(len(questions), len(questions))
        logged_of: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
        for name, logged in found["samples"].items():
            for sample in logged:
                logged_of.setdefault((name, sample["doc_id"]), []).append(sample)
        return [logged_of[one.extra["task"], one.extra["doc"]] for one in questions]

    def conclude(self, questions: Sequence[Question], found: Sequence[Any]) -> Measured:
        """What the harness found for each question, and for all where it has no more."""
        return _measured(found, self.task)

    def _load(self) -> Any:
        """The task as the harness loads it."""
        package = _package()
        with _quiet():
            manager = package.tasks.TaskManager(
                include_path=self.include_path or None, include_defaults=not self.include_path
            )
            if self.task not in manager.all_tasks:
                where = f"'{self.include_path}'" if self.include_path else "lm-evaluation-harness"
                raise ConfigError(
                    f"There is no task '{self.task}' in {where}."
                    f"{did_you_mean(self.task, manager.all_tasks)} A file of a task is found by"
                    " lm-eval.include_path=FOLDER."
                )
            try:
                loaded = manager.load([self.task])
            except Exception as error:  # of its data set, its file, or its own code
                raise DataError(
                    f"The task '{self.task}' cannot be loaded: {first_line(error)}. Its data must"
                    " be on this machine; a local file is named by `dataset_path: json` and"
                    " `dataset_kwargs: {data_files: ...}` in its task file."
                ) from error
        for task in loaded["tasks"].values():
            if self.shots is not None or task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=self.shots or 0)
            task.set_fewshot_seed(seed=_FEWSHOT_SEED)
        return loaded


def _measured(mine: Sequence[Sequence[Mapping[str, Any]]], task: str) -> Measured:
    """Numbers from what the harness logged of each question."""
    values: dict[str, list[Any]] = {}
    for logged in mine:
        for sample in logged:
            _check_numbers(sample["filtered_resps"])
            for metric in sample["metrics"]:
                known = sample["filter"] in ("none", None)
                name = metric if known else f"{metric},{sample['filter']}"
                values.setdefault(name, []).append(sample[metric])
    scores: dict[str, list[float]] = {}
    weights: dict[str, list[float]] = {}
    overall: dict[str, Interval] = {}
    for name, found in values.items():
        if len(found) != len(mine):
            continue  # of some tasks of a group only
        if all(isinstance(value, int | float | np.number) for value in found):
            scores[name] = [float(value) for value in found]
        elif all(_is_likelihood(value) for value in found):
            _add_likelihood(name, found, scores, weights, overall)
    if not scores:
        raise ConfigError(
            f"The task '{task}' scores no question by itself ({', '.join(values) or 'no metric'}),"
            " so models cannot be compared by it. Choose a task with a metric such as acc or"
            " exact_match."
        )
    return Measured([_shown(logged[-1]) for logged in mine], scores, weights, overall)


def _check_numbers(responses: Sequence[Any]) -> None:
    """Refuse log-probabilities that are NaN, of which the harness takes the first for the best."""
    for one in responses:
        value = one[0] if isinstance(one, list | tuple) and one else one
        if isinstance(value, float) and math.isnan(value):
            raise no_numbers()


def _is_likelihood(value: Any) -> bool:
    """Whether a value is a log-probability and what it is of: words or bytes."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(part, int | float | np.number) for part in value)
    )


def _add_likelihood(
    name: str,
    found: Sequence[Sequence[float]],
    scores: dict[str, list[float]],
    weights: dict[str, list[float]],
    overall: dict[str, Interval],
) -> None:
    """Bits of each document, or its nats where the metric is a perplexity of all documents."""
    sums = np.array([[-float(logp), float(size)] for logp, size in found])
    mean = (sums[:, 0] / sums[:, 1]).tolist()
    if "perplexity" in name:
        overall[name] = bootstrap_sums(sums, lambda s: np.exp(s[:, 0] / s[:, 1]))
        name = name.replace("perplexity", "nll")
    else:
        mean = [value / math.log(2) for value in mean]
    scores[name], weights[name] = mean, sums[:, 1].tolist()


def _shown(sample: Mapping[str, Any]) -> str:
    """What the model wrote, or how likely it found what was to be written."""
    answers = sample["filtered_resps"]
    if answers and isinstance(answers[0], str):
        return answers[0]
    options = [str(given[-1]) for given in sample["arguments"]]
    likely = [one[0] if isinstance(one, list | tuple) else one for one in answers]
    ranked = sorted(zip(options, likely, strict=False), key=lambda pair: -float(pair[1]))
    return "\n".join(f"{float(value):.3f}{option}" for option, value in ranked)


def _package() -> Any:
    """lm-evaluation-harness.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        with _quiet():
            importlib.import_module("lm_eval.tasks")
            return importlib.import_module("lm_eval")
    except ImportError as error:
        raise MissingDependencyError(
            "The suite 'lm-eval' needs lm-evaluation-harness. Install it with:"
            " pip install 'tutelage[lm-eval]'"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without its progress bars and its log, which would run over ours."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
