"""Answers that a student proposes and its teacher mends, token by token."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedTokenizerBase

from tutelage.data.collate import padding_id
from tutelage.errors import ModelError
from tutelage.generation.drawing import Chooser, private_stream
from tutelage.generation.engine import Answer, Prompt, seeds_of
from tutelage.generation.engines.local import asking, limits_of
from tutelage.generation.refill import Refill, decodes
from tutelage.generation.requests import token_prompts
from tutelage.generation.row_cache import fresh_cache
from tutelage.generation.rows import Row, rows_of
from tutelage.generation.settings import GenerationSettings
from tutelage.generation.stopping import Stops
from tutelage.models.head import causal_lm

# Shape suffixes: B rows, T tokens, L length of the longest answer, V vocabulary.


class SpeculativeEngine:
    """Answers token by token: the student's token where the teacher ranks it high, else its own.

    At each token the student draws one. Where that is among the ``top_k`` likeliest of the teacher,
    it stays; else the teacher draws another from its own distribution, under the same settings.
    Where every token is good enough this is ``LocalEngine`` of the student, draw by draw. Both
    models read each token once.

    Args:
        model: the student, possibly inside DDP or LoRA wrappers.
        tokenizer: reads prompts that are texts or conversations, and decodes the answers.
        teacher: a causal language model over the same tokens, on the student's device.
        top_k: how many of the teacher's tokens are good enough.

    Raises:
        ModelError: a model whose rows cannot come and go: see ``refill.decodes``.

    References:
        Xu et al., Speculative Knowledge Distillation, ICLR 2025, arXiv:2410.11325.
    """

    def __init__(
        self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, *, teacher: Any, top_k: int
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self._teacher: Any = causal_lm(teacher)
        self._top_k = top_k
        for name, one in (("student", causal_lm(model)), ("teacher", self._teacher)):
            if not decodes(one):
                raise ModelError(
                    f"The {name} ({type(one).__name__}) cannot write token by token beside another"
                    " model: its cache is not a plain one. Leave on_policy.teacher_top_k out."
                )

    @property
    def chats(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return bool(self.tokenizer.chat_template)

    @torch.no_grad()
    def answer(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        seed: int | Sequence[int] = 0,
        progress: Callable[[int, int], None] | None = None,
        on_answer: Callable[[int, Answer], None] | None = None,
    ) -> list[Answer]:
        """One answer to each prompt, in order; see ``Engine``.

        Log-probabilities are the student's.
        """
        seeds = seeds_of(seed, prompts)
        inner: Any = causal_lm(self.model)
        asked = token_prompts(prompts, self.tokenizer)
        both = [limits_of(asked, settings, model) for model in (inner, self._teacher)]
        limits = [min(one) for one in zip(*both, strict=True)]
        stops = Stops.of(self.tokenizer, inner, settings.stop_strings)
        rows = rows_of(asked, limits, seeds, greedy=settings.greedy)
        rows = [_with_teachers_draws(row, seeds[row.place]) for row in rows]
        none = () if settings.logprobs else None
        answers = [Answer("", 0, "length", seed=own, logprobs=none) for own in seeds]
        with asking(inner, settings), asking(self._teacher, settings):
            pair = _Pair(inner, self._teacher)
            choose = _Mending(settings, len(self.tokenizer), pair.width, self._top_k)
            pad = padding_id(self.tokenizer)
            way = Refill(pair, choose, stops, budget=settings.batch_tokens, pad_token_id=pad)
            done = len(asked) - len(rows)
            for ended in way.finished(rows):
                for row in ended:
                    read = stops.read(row.prompt, row.tokens[: row.limit])
                    logprobs = tuple(row.logprobs[: read.num_tokens]) if settings.logprobs else None
                    answers[row.place] = replace(read, seed=seeds[row.place], logprobs=logprobs)
                done += len(ended)
                if progress is not None:
                    progress(done, len(asked))
        if on_answer is not None:
            for position, answer in enumerate(answers):
                on_answer(position, answer)
        return answers


def _with_teachers_draws(row: Row, seed: int) -> Row:
    """A row whose stream has a number for the teacher after each of the student's."""
    others = private_stream(-1 - seed, row.prompt, len(row.stream))
    return replace(row, stream=np.stack([row.stream, others], 1).reshape(-1))


@dataclass(frozen=True)
class _Output:
    """What a model gives.

    Attributes:
        logits: of both models side by side, shape ``[B, T, V]``.
    """

    logits: Tensor


class _Pair:
    """Two models that read the same tokens, as one: their layers and logits stand side by side.

    Args:
        student: whose logits come first.
        teacher: the other.
    """

    def __init__(self, student: Any, teacher: Any) -> None:
        self._student, self._teacher = student, teacher
        self.config, self.device = student.config, student.device
        self.width = student.get_output_embeddings().weight.shape[0]
        self._layers = len(fresh_cache(student).layers)

    def get_output_embeddings(self) -> nn.Module:
        """Those of the student."""
        return self._student.get_output_embeddings()

    def forward(
        self, *, past_key_values: DynamicCache, logits_to_keep: int = 0, **inputs: Any
    ) -> _Output:
        """Read tokens; the cache gets the layers of both."""
        layers = past_key_values.layers
        begins = past_key_values.get_seq_length() == 0
        caches = fresh_cache(self._student), fresh_cache(self._teacher)
        if not begins:
            caches[0].layers, caches[1].layers = layers[: self._layers], layers[self._layers :]
        logits = []
        for model, cache in zip((self._student, self._teacher), caches, strict=True):
            keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
            last = {"logits_to_keep": logits_to_keep} if keeps else {}
            output = model(past_key_values=cache, **inputs, **last).logits
            logits.append(output[:, -logits_to_keep:])
        past_key_values.layers = [*caches[0].layers, *caches[1].layers]
        return _Output(torch.cat(logits, -1))

    __call__ = forward


class _Mending:
    """Chooses tokens: the student's, or the teacher's where it ranks that too low.

    Args:
        settings: how both draw.
        vocab_size: number of real tokens.
        width: logits of the student.
        top_k: how many of the teacher's tokens are good enough.
    """

    def __init__(
        self, settings: GenerationSettings, vocab_size: int, width: int, top_k: int
    ) -> None:
        self._choose = Chooser(replace(settings, logprobs=False), vocab_size)
        self._wanted = settings.logprobs
        self._vocab_size, self._width, self._top_k = vocab_size, width, top_k

    def __call__(
        self, logits_BV: Tensor, streams_BL: Tensor, places_B: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The token of each row and, where it is wanted, its log-probability; see ``Chooser``."""
        student_BV = logits_BV[:, : self._width][:, : self._vocab_size].float()
        teacher_BV = logits_BV[:, self._width :][:, : self._vocab_size].float()
        proposed_B, _ = self._choose(student_BV, streams_BL[:, 0::2], places_B)
        # Rows that have ended draw with what is there.
        places_B = places_B.clamp_max(streams_BL.shape[1] // 2 - 1)
        own_B, _ = self._choose(teacher_BV, streams_BL[:, 1::2], places_B)
        score_B1 = teacher_BV.gather(1, proposed_B.unsqueeze(1))
        token_B = torch.where((teacher_BV > score_B1).sum(1) < self._top_k, proposed_B, own_B)
        if not self._wanted:
            return token_B, None
        chosen_B = student_BV.gather(1, token_B.unsqueeze(1)).squeeze(1)
        return token_B, chosen_B - student_BV.logsumexp(-1)
