"""Generation with transformers, in this process."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

from tutelage.data.collate import padding_id
from tutelage.errors import DataError, ModelError
from tutelage.generation.drawing import Choose, Chooser, watched
from tutelage.generation.ended import read_answers, with_logprobs
from tutelage.generation.engine import Answer, Likelihood, Prompt, seeds_of
from tutelage.generation.halving import Halving
from tutelage.generation.likelihood import likelihoods
from tutelage.generation.refill import Refill, decodes
from tutelage.generation.requests import token_pairs, token_prompts
from tutelage.generation.rows import rows_of
from tutelage.generation.settings import GenerationSettings
from tutelage.generation.stopping import Stops
from tutelage.models.forward import own_forward, routers_unheard
from tutelage.models.head import causal_lm
from tutelage.models.positions import positions_of


class LocalEngine:
    """Answers with a model that is in memory here.

    Prompts share a batch, those whose answers have ended leave it, and others take their place;
    none of this changes an answer beyond rounding (see ``Engine``). The model's own generation
    defaults (penalties, sampling) are left aside, except for its end-of-sequence tokens: two models
    are compared under the same settings. An answer ends at any of ``tutelage.data.stop_ids``: the
    end of a text, of a turn of the chat template, or the model's own. Model and tokenizer are left
    as they were.

    Args:
        model: a causal language model, possibly inside DDP or LoRA wrappers. Its number of
            positions is a further limit on the length.
        tokenizer: reads prompts that are texts or conversations, and decodes the answers.
    """

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer

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
        on_tokens: Callable[[Tensor], None] | None = None,
    ) -> list[Answer]:
        """One answer to each prompt, in order; see ``Engine``.

        ``on_answer`` is called for all at the end of the call: which batches there are, and with
        them the rounding of every answer, depends on all prompts. ``on_tokens`` is called at every
        step with the tokens that were chosen, shape ``[B]``, in the batch's own order; what it
        raises ends the call.
        """
        seeds = seeds_of(seed, prompts)
        inner: Any = causal_lm(self.model)
        asked = token_prompts(prompts, self.tokenizer)
        _check_known(asked, inner)
        positions = _positions(inner)
        limits = limits_of(asked, settings, inner)
        stops = Stops.of(self.tokenizer, inner, settings.stop_strings)
        rows = rows_of(asked, limits, seeds, greedy=settings.greedy)
        with asking(inner, settings):
            chooser = Chooser(settings, len(self.tokenizer))
            choose: Choose = chooser if on_tokens is None else watched(chooser, on_tokens)
            budget, pad = settings.batch_tokens, padding_id(self.tokenizer)
            if decodes(inner):
                way = Refill(inner, choose, stops, budget=budget, pad_token_id=pad)
            else:
                way = Halving(
                    inner, choose, stops, budget=budget, positions=positions, pad_token_id=pad
                )
            return read_answers(
                way,
                rows,
                seeds,
                stops,
                settings,
                on_end=with_logprobs if settings.logprobs else None,
                progress=progress,
                on_answer=on_answer,
                check=chooser.check,
            )

    @torch.no_grad()
    def log_likelihoods(
        self,
        prompts: Sequence[Prompt],
        continuations: Sequence[str],
        settings: GenerationSettings,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Likelihood]:
        """How likely the model finds each continuation; see ``ScoringEngine``.

        Probabilities are over the tokenizer's tokens alone, in float32 or better; logits are made
        of the continuations' positions only, a tile at a time.
        """
        inner: Any = causal_lm(self.model)
        pairs = token_pairs(prompts, continuations, self.tokenizer)
        _check_known([pair.tokens for pair in pairs], inner)
        positions = _positions(inner)
        for number, pair in enumerate(pairs):
            if len(pair.tokens) > positions:
                raise DataError(
                    f"Prompt {number} has {pair.start} tokens, {len(pair.tokens)} with what is to"
                    f" be scored after it, and the model can read {positions}. Shorten it (fewer"
                    " examples before the question), or leave it out."
                )
        with asking(inner, settings):
            return likelihoods(
                inner,
                pairs,
                vocab_size=len(self.tokenizer),
                pad_token_id=padding_id(self.tokenizer),
                batch_tokens=settings.batch_tokens,
                progress=progress,
            )


def _check_known(prompts: Sequence[Sequence[int]], model: Any) -> None:
    """Refuse tokens for which the model has no embedding.

    Raises:
        ModelError: its tokenizer is another model's.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    highest = max((max(prompt, default=0) for prompt in prompts), default=0)
    if highest >= rows:
        raise ModelError(
            f"The tokenizer makes the token {highest:,}, and the model has embeddings for"
            f" {rows:,} alone. Name the tokenizer that belongs to the model."
        )


def _positions(model: Any) -> float:
    """Most positions that the model can take; infinity when it names no limit."""
    limit = positions_of(model.config).limit
    return math.inf if limit is None else limit


def limits_of(
    prompts: Sequence[Sequence[int]], settings: GenerationSettings, model: Any
) -> list[int]:
    """Most tokens that a model may write after each prompt; never negative."""
    positions = _positions(model)
    return [settings.limit(len(prompt), positions) for prompt in prompts]


@contextlib.contextmanager
def _cast_once(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Let autocast keep the 16-bit copies of frozen weights, as it does with those that learn.

    It would make them anew for every token: below adapters those are nearly all of the weights.
    """
    frozen = [p for p in model.parameters() if not p.requires_grad and p.dtype == torch.float32]
    frozen = frozen if wanted and not torch.is_grad_enabled() else []
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextlib.contextmanager
def asking(model: Any, settings: GenerationSettings) -> Iterator[None]:
    """Evaluation mode, neutral generation defaults and the precision asked for; then back."""
    # Module by module: a user may keep some of a model in evaluation mode while the rest trains.
    modes = [(module, module.training) for module in model.modules()]
    own_defaults = model.generation_config
    kind = next(model.parameters()).device.type
    autocast = torch.autocast(kind, torch.bfloat16, enabled=settings.precision == "bfloat16")
    casts = settings.precision == "bfloat16"
    with own_forward(model), routers_unheard(model), _cast_once(model, casts), autocast:
        model.eval()
        # What a configuration leaves open, `generate` fills from the model's own defaults.
        model.generation_config = GenerationConfig()
        try:
            yield
        finally:
            model.generation_config = own_defaults
            for module, was_training in modes:
                module.training = was_training
