"""How well a model predicts held-out text, and how close it is to a teacher there."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.errors import DataError
from tutelage.evaluation.measure import Measured, Progress, Read, local_model
from tutelage.evaluation.question import Question
from tutelage.evaluation.suite import Suite
from tutelage.statistics import Interval, bootstrap_sums

IGNORED = -100

ALONE = ("nll", "bits_per_byte", "entropy", "top1")
"""Nats per token, bits per byte of text, entropy of the predictions in nats, and the share of
tokens that were found likeliest; and of all texts together the perplexity and the expected
calibration error (``ece``)."""

AGREEMENT = ("forward_kl", "reverse_kl", "agreement")
"""KL(teacher || student) and KL(student || teacher) in nats per token, and the share of tokens
where both find the same one likeliest."""


@dataclass(frozen=True)
class HeldOut:
    """Reads texts whole, and adds up what a model makes of their tokens.

    A text without a question is scored from its first token on, after the token that begins (or
    else ends) a text; one with a question from the first token of its answer on. What is longer
    than a window is read window by window, each token once, after one token of the window before.

    Attributes:
        teacher: a model to compare with, by its place; empty for none.
        max_length: longest window in tokens, where the model itself has no lower limit.
        dtype: type of the teacher's weights.
    """

    teacher: str = ""
    max_length: int = 2048
    dtype: str = "float32"

    @property
    def identity(self) -> Mapping[str, Any]:
        """The windows, and every byte of the teacher."""
        return {
            "measure": "held_out",
            "max_length": self.max_length,
            "teacher": _content(self.teacher),
            "dtype": self.dtype,
        }

    whole = False

    def reader(self, engine: Any, suite: Suite) -> Read:
        """Adds up what the model makes of the tokens of some texts."""
        model, tokenizer = local_model(engine, suite.name)
        return functools.partial(self._read, engine, suite, self._teacher(model, tokenizer))

    def _read(
        self,
        engine: Any,
        suite: Suite,
        teacher: Any,
        questions: Sequence[Question],
        progress: Progress,
    ) -> list[dict[str, Any]]:
        from tutelage.data.collate import padding_id
        from tutelage.evaluation.token_sums import token_sums
        from tutelage.generation.engines.local import asking
        from tutelage.models.head import causal_lm

        rows, owners = self._windows(engine, suite, questions)
        inner: Any = causal_lm(engine.model)
        with asking(inner, suite.generation):
            found = token_sums(
                inner,
                rows,
                vocab_size=len(engine.tokenizer),
                batch_tokens=suite.generation.batch_tokens,
                pad_token_id=padding_id(engine.tokenizer),
                teacher=teacher,
                progress=progress,
            )
        count = len(questions)
        numbers = {
            name: np.bincount(owners, weights=values, minlength=count).tolist()
            for name, values in found.numbers.items()
        }
        bins = np.zeros((count, *found.bins.shape[1:]))
        np.add.at(bins, owners, found.bins)
        return [
            {
                "numbers": {name: values[place] for name, values in numbers.items()},
                "bins": bins[place].tolist(),
            }
            for place in range(count)
        ]

    def conclude(self, questions: Sequence[Question], found: Sequence[Any]) -> Measured:
        """Numbers of each text, weighted by its tokens (bits per byte by its bytes)."""
        numbers = {
            name: np.array([one["numbers"][name] for one in found]) for name in found[0]["numbers"]
        }
        return _measured(questions, numbers, np.array([one["bins"] for one in found]))

    def _windows(
        self, engine: Any, suite: Suite, questions: Sequence[Question]
    ) -> tuple[list[dict[str, Any]], list[int]]:
        """Rows to read, and the number of the question that each is of."""
        from tutelage.generation.requests import token_pairs
        from tutelage.models.head import causal_lm
        from tutelage.models.positions import positions_of

        model, tokenizer = causal_lm(engine.model), engine.tokenizer
        limit = min(positions_of(model.config).limit or math.inf, self.max_length)
        length = max(2, int(limit))
        rows, owners = [], []
        for number, question in enumerate(questions):
            prompt = suite.prompt_of(question, engine)
            if prompt:
                (pair,) = token_pairs([prompt], [question.references[0]], tokenizer)
                tokens, start = list(pair.tokens), pair.start
            else:
                tokens = [_prefix(tokenizer), *_plain(tokenizer, question.references[0])]
                start = 1
            for row in _cut(tokens, start, length):
                rows.append(row)
                owners.append(number)
        return rows, owners

    def _teacher(self, model: Any, tokenizer: Any) -> Any:
        """The teacher on the model's device, ready to be read; None without one."""
        if not self.teacher:
            return None
        from tutelage.models import check_same_tokenizer, load_model, load_tokenizer
        from tutelage.models.head import head_size

        loaded = load_model(self.teacher, dtype=self.dtype)
        own: Any = load_tokenizer(self.teacher)
        check_same_tokenizer(
            own,
            tokenizer,
            teacher_head=head_size(loaded),
            student_head=head_size(model),
            ends_alike=True,
        )
        return loaded.to(next(model.parameters()).device).eval()


def _measured(
    questions: Sequence[Question], numbers: Mapping[str, np.ndarray], bins: np.ndarray
) -> Measured:
    """The sums as means of each text, with what each text counts."""
    from tutelage.evaluation.token_sums import calibration_error

    tokens = numbers["tokens"]
    clusters = [question.cluster for question in questions]
    bits = numbers["nll"] / math.log(2)
    size = np.array([len(question.references[0].encode()) for question in questions], dtype=float)
    scores = {name: values / tokens for name, values in numbers.items() if name != "tokens"}
    scores["bits_per_byte"] = bits / size
    scores["top1"] = scores.pop("hits")
    scores = {name: scores[name].tolist() for name in (*AGREEMENT, *ALONE) if name in scores}
    weights = {name: tokens.tolist() for name in scores}
    weights["bits_per_byte"] = size.tolist()

    def perplexity(sums_R2: np.ndarray) -> np.ndarray:
        return np.exp(sums_R2[:, 0] / sums_R2[:, 1])

    def ece(sums_RK: np.ndarray) -> np.ndarray:
        return calibration_error(sums_RK.reshape(len(sums_RK), *bins.shape[1:]))

    overall: dict[str, Interval] = {
        "perplexity": bootstrap_sums(
            np.stack([numbers["nll"], tokens], axis=1), perplexity, clusters=clusters
        ),
        "ece": bootstrap_sums(bins.reshape(len(bins), -1), ece, clusters=clusters),
    }
    shown = [
        f"{mean:.4f} nats a token over {int(count):,} tokens"
        for mean, count in zip(scores["nll"], tokens, strict=True)
    ]
    return Measured(shown, scores, weights, overall)


def _cut(tokens: Sequence[int], start: int, length: int) -> list[dict[str, Any]]:
    """Windows in which every token from ``start`` on is scored once.

    The first window has what comes before, up to half of it where not all fits; each further one
    begins with one token that was scored before.
    """
    begin = max(0, min(len(tokens) - length, start - length // 2))
    rows, scored = [], start
    while scored < len(tokens):
        end = min(begin + length, len(tokens))
        labels = [IGNORED] * (scored - begin) + list(tokens[scored:end])
        rows.append({"input_ids": list(tokens[begin:end]), "labels": labels})
        scored, begin = end, end - 1
    return rows


def _plain(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text, without any that begin or end it."""
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not tokens:
        raise DataError(
            "A held-out text has no tokens, so nothing of it can be predicted."
            " Give it a text, or remove the row."
        )
    return list(tokens)


def _prefix(tokenizer: Any) -> int:
    """The token after which a text is read from its beginning."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise DataError(
        "The tokenizer has no token that begins or ends a text, so the first token of a text cannot"
        " be predicted after anything. Set its eos_token and save it with the model."
    )


def _content(place: str) -> Any:
    """Every byte of a model; its name, where it is on the hub."""
    if not place:
        return None
    from tutelage.hashes import content_digests
    from tutelage.models.gate import model_files
    from tutelage.models.places import local_place

    found = local_place(place)
    if found is None:
        return place
    files = model_files(found) if found.is_dir() else [found]
    return {file.name: digest for file, digest in content_digests(files).items()}
