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
from tutelage.generation.ended import read_answers
from tutelage.generation.engine import Answer, Prompt, seeds_of
from tutelage.generation.engines.local import asking, limits_of
from tutelage.generation.refill import Refill, decodes
from tutelage.generation.requests import token_prompts
from tutelage.generation.row_cache import cache_name, fresh_cache
from tutelage.generation.rows import Row, rows_of
from tutelage.generation.settings import GenerationSettings
from tutelage.generation.stopping import Stops
from tutelage.models.head import causal_lm, head_inputs

# Shape suffixes: B rows, T tokens, L length of the longest answer, V vocabulary.


@dataclass(frozen=True)
class Mended:
    """An answer that a student proposed and its teacher mended.

    Attributes:
        answer: the answer.
        kept: how many of its tokens are those that the student proposed.
        states: the teacher's last hidden state before each token, from which it predicts the
            token, shape ``[n, H]``: what it would encode the answer to, to rounding.
    """

    answer: Answer
    kept: int
    states: Tensor


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
        whole = self.mended(prompts, settings, seed=seed, progress=progress, on_answer=on_answer)
        return [one.answer for one in whole]

    @torch.no_grad()
    def mended(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        seed: int | Sequence[int] = 0,
        progress: Callable[[int, int], None] | None = None,
        on_answer: Callable[[int, Answer], None] | None = None,
    ) -> list[Mended]:
        """The same, with what the teacher made of each answer."""
        seeds = seeds_of(seed, prompts)
        inner: Any = causal_lm(self.model)
        asked = token_prompts(prompts, self.tokenizer)
        both = [limits_of(asked, settings, model) for model in (inner, self._teacher)]
        limits = [min(one) for one in zip(*both, strict=True)]
        stops = Stops.of(self.tokenizer, inner, settings.stop_strings)
        rows = rows_of(asked, limits, seeds, greedy=settings.greedy)
        rows = [_with_teachers_draws(row, seeds[row.place]) for row in rows]
        kept: dict[int, tuple[int, Tensor]] = {}
        with (
            asking(inner, settings),
            asking(self._teacher, settings),
            head_inputs(self._teacher) as states,
        ):
            pair = _Pair(inner, self._teacher, states)
            choose = _Mending(settings, len(self.tokenizer), pair, self._top_k)
            pad = padding_id(self.tokenizer)
            way = Refill(pair, choose, stops, budget=settings.batch_tokens, pad_token_id=pad)

            def completed(row: Row, answer: Answer) -> Answer:
                stayed_n, logp_n, states_nH = choose.told(row.noted(answer.num_tokens))
                kept[row.place] = int(stayed_n.sum()), states_nH
                logprobs = tuple(logp_n.tolist()) if settings.logprobs else None
                return replace(answer, logprobs=logprobs)

            answers = read_answers(
                way,
                rows,
                seeds,
                stops,
                settings,
                on_end=completed,
                progress=progress,
                on_answer=on_answer,
            )
        nothing = 0, torch.empty(0, self._teacher.get_output_embeddings().weight.shape[1])
        return [Mended(one, *kept.get(place, nothing)) for place, one in enumerate(answers)]


def _with_teachers_draws(row: Row, seed: int) -> Row:
    """A row whose stream has a number for the teacher after each of the student's."""
    others = private_stream(-1 - seed, row.prompt, len(row.stream))
    return replace(row, stream=np.stack([row.stream, others], 1).reshape(-1))


@dataclass(frozen=True)
class _Output:
    """What a model gives.

    Attributes:
        logits: of both models, and the teacher's last hidden states, side by side, shape
            ``[B, T, V + V + H]``.
    """

    logits: Tensor


class _Pair:
    """Two models that read the same tokens, as one: their layers and logits stand side by side.

    Args:
        student: whose logits come first.
        teacher: the other.
        states: where the teacher's last hidden states turn up as it runs.

    Attributes:
        widths: logits of the student, of the teacher, and the teacher's hidden width.
        dtype: of the teacher's last hidden states, once it ran.
    """

    def __init__(self, student: Any, teacher: Any, states: list[Tensor]) -> None:
        self._student, self._teacher, self._states = student, teacher, states
        self.config, self.device = student.config, student.device
        heads = [one.get_output_embeddings().weight for one in (student, teacher)]
        self.widths = (len(heads[0]), *heads[1].shape)
        self.dtype = heads[1].dtype
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
            output = model(**{cache_name(model): cache}, **inputs, **last).logits
            logits.append(output[:, -logits_to_keep:])
        logits.append(self._states.pop()[:, -logits_to_keep:])
        self.dtype = logits[-1].dtype
        past_key_values.layers = [*caches[0].layers, *caches[1].layers]
        return _Output(torch.cat(logits, -1))

    __call__ = forward


class _Mending:
    """Chooses tokens: the student's, or the teacher's where it ranks that too low.

    Args:
        settings: how both draw.
        vocab_size: number of real tokens.
        pair: both.
        top_k: how many of the teacher's tokens are good enough.
    """

    def __init__(
        self, settings: GenerationSettings, vocab_size: int, pair: _Pair, top_k: int
    ) -> None:
        self._choose = Chooser(replace(settings, logprobs=False), vocab_size)
        self._vocab_size, self._pair, self._top_k = vocab_size, pair, top_k

    def __call__(
        self, logits_BV: Tensor, streams_BL: Tensor, places_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The token of each row, and a note of it; see ``Chooser`` and ``told``."""
        both_and_states = logits_BV.split(self._pair.widths, 1)
        student_BV, teacher_BV = (one[:, : self._vocab_size].float() for one in both_and_states[:2])
        proposed_B, _ = self._choose(student_BV, streams_BL[:, 0::2], places_B)
        # Rows that have ended draw with what is there.
        places_B = places_B.clamp_max(streams_BL.shape[1] // 2 - 1)
        own_B, _ = self._choose(teacher_BV, streams_BL[:, 1::2], places_B)
        score_B1 = teacher_BV.gather(1, proposed_B.unsqueeze(1))
        stays_B = (teacher_BV > score_B1).sum(1) < self._top_k
        token_B = torch.where(stays_B, proposed_B, own_B)
        chosen_B = student_BV.gather(1, token_B.unsqueeze(1)).squeeze(1)
        logp_B = chosen_B - student_BV.logsumexp(-1)
        return token_B, torch.cat([torch.stack([stays_B, logp_B], 1), both_and_states[2]], 1)

    def told(self, noted_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of some notes: whether each token stayed, its log-probability, the teacher's state."""
        return noted_n[:, 0], noted_n[:, 1], noted_n[:, 2:].to(self._pair.dtype)
