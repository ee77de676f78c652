"""Generation with transformers, in this process."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    GenerationConfig,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from tutelage.data.collate import padding_id
from tutelage.errors import DataError
from tutelage.generation.drawing import private_stream, processors
from tutelage.generation.engine import Answer, Likelihood, Prompt, seeds_of
from tutelage.generation.likelihood import likelihoods
from tutelage.generation.requests import token_pairs, token_prompts
from tutelage.generation.settings import GenerationSettings
from tutelage.generation.stopping import HalfHasEnded, Stops
from tutelage.models.forward import own_forward, routers_unheard
from tutelage.models.head import causal_lm
from tutelage.models.positions import positions_of

# Shape suffixes: B batch, T tokens, L length of the longest answer.


class LocalEngine:
    """Answers with a model that is in memory here.

    Prompts of similar length share a batch, and answers that have ended leave it; neither changes
    an answer beyond rounding (see ``Engine``). The model's own generation defaults (penalties,
    sampling) are left aside, except for its end-of-sequence tokens: two models are compared under
    the same settings. An answer ends at any of ``tutelage.data.stop_ids``: the end of a text, of a
    turn of the chat template, or the model's own. Model and tokenizer are left as they were.

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
    ) -> list[Answer]:
        """One answer to each prompt, in order; see ``Engine``.

        ``on_answer`` is called for all at the end of the call: which batches there are, and with
        them the rounding of every answer, depends on all prompts.
        """
        seeds = seeds_of(seed, prompts)
        inner: Any = causal_lm(self.model)
        asked = token_prompts(prompts, self.tokenizer)
        positions = _positions(inner)
        lengths = [len(prompt) for prompt in asked]
        limits = [_limit(length, settings, positions) for length in lengths]
        stops = Stops.of(self.tokenizer, inner, settings.stop_strings)
        # A prompt that fills the whole limit has an empty answer.
        answers = [Answer("", 0, "length", seed=own) for own in seeds]
        done = sum(limit == 0 for limit in limits)
        with asking(inner, settings):
            for batch in _batches(lengths, limits, settings.batch_tokens, positions):
                rows, own = [asked[i] for i in batch], [seeds[i] for i in batch]
                config = _config(inner, self.tokenizer, stops, max(limits[i] for i in batch))
                written = _continue_batch(inner, rows, own, config, settings, stops)
                for tokens, i in zip(written, batch, strict=True):
                    read = stops.read(asked[i], tokens[: limits[i]])
                    answers[i] = replace(read, seed=seeds[i])
                done += len(batch)
                if progress is not None:
                    progress(done, len(asked))
        if on_answer is not None:
            for position, answer in enumerate(answers):
                on_answer(position, answer)
        return answers

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


def _positions(model: Any) -> float:
    """Most positions that the model can take; infinity when it names no limit."""
    limit = positions_of(model.config).limit
    return math.inf if limit is None else limit


def _limit(prompt_length: int, settings: GenerationSettings, positions: float) -> int:
    """Most tokens that may follow a prompt; never negative."""
    total = min(settings.max_total_tokens or math.inf, positions)
    return int(max(0, min(settings.max_new_tokens, total - prompt_length)))


def _batches(
    lengths: Sequence[int], limits: Sequence[int], batch_tokens: int, positions: float
) -> list[list[int]]:
    """Positions of prompts of similar length under a budget, the longest first.

    Prompts that have no room for an answer are left out. A batch continues all of its rows alike,
    so its longest prompt with its longest answer must fit into the model's positions too.
    """
    order = sorted((i for i in range(len(lengths)) if limits[i]), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    width = 0
    for i in order:
        if batches:
            # Sorted, so the first prompt is the longest; shorter ones may have more room.
            width = max(width, lengths[batches[-1][0]] + limits[i])
        full = not batches or (len(batches[-1]) + 1) * width > batch_tokens
        if full or width > positions:
            batches.append([])
            width = lengths[i] + limits[i]
        batches[-1].append(i)
    return batches


def _config(
    model: Any, tokenizer: PreTrainedTokenizerBase, stops: Stops, limit: int
) -> GenerationConfig:
    """Greedy generation: what is drawn is made the likeliest token before."""
    # Rows of the head beyond the tokenizer stand for no token; a model must not write them.
    padded = list(range(len(tokenizer), model.get_output_embeddings().weight.shape[0]))
    return GenerationConfig(
        max_new_tokens=limit,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        pad_token_id=padding_id(tokenizer),
        eos_token_id=list(stops.tokens) or None,
        suppress_tokens=padded or None,
        return_dict_in_generate=True,
    )


@contextlib.contextmanager
def asking(model: Any, settings: GenerationSettings) -> Iterator[None]:
    """Evaluation mode, neutral generation defaults and the precision asked for; then back."""
    # Module by module: a user may keep some of a model in evaluation mode while the rest trains.
    modes = [(module, module.training) for module in model.modules()]
    own_defaults = model.generation_config
    kind = next(model.parameters()).device.type
    autocast = torch.autocast(kind, torch.bfloat16, enabled=settings.precision == "bfloat16")
    with own_forward(model), routers_unheard(model), autocast:
        model.eval()
        # What a configuration leaves open, `generate` fills from the model's own defaults.
        model.generation_config = GenerationConfig()
        try:
            yield
        finally:
            model.generation_config = own_defaults
            for module, was_training in modes:
                module.training = was_training


def _continue_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    config: GenerationConfig,
    settings: GenerationSettings,
    stops: Stops,
) -> list[list[int]]:
    """The tokens that follow each prompt, up to its end or a little beyond.

    Answers differ in length, and a row that has ended costs as much as one that has not. So the
    batch stops whenever half of it has ended and goes on without those rows: never more than half
    of the work is wasted, and there are few stops.
    """
    width = max(len(prompt) for prompt in prompts)
    pad, most = config.pad_token_id, config.max_new_tokens
    ids_BT = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts]).to(model.device)
    mask_BT = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    mask_BT = mask_BT.to(model.device)
    streams_BL = None
    if not settings.greedy:
        streams = [private_stream(*own, most) for own in zip(seeds, prompts, strict=True)]
        streams_BL = torch.from_numpy(np.stack(streams)).to(model.device)
    written: list[list[int]] = [[] for _ in prompts]
    rows_B = torch.arange(len(prompts), device=model.device)
    cache: DynamicCache | None = None
    while len(rows_B):
        config.max_new_tokens = width + most - ids_BT.shape[1]
        own_BL = None if streams_BL is None else streams_BL[rows_B]
        output = model.generate(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            generation_config=config,
            **({} if cache is None else {"past_key_values": cache}),
            logits_processor=processors(settings, own_BL, width),
            stopping_criteria=StoppingCriteriaList([HalfHasEnded(stops, width)]),
        )
        ids_BT = output.sequences
        new_BT = ids_BT[:, width:]
        ended_B = stops.with_token(new_BT) | stops.with_string(new_BT) | (new_BT.shape[1] == most)
        for row, tokens in zip(rows_B[ended_B].tolist(), new_BT[ended_B].tolist(), strict=True):
            written[row] = tokens
        going = (~ended_B).nonzero().squeeze(-1)
        cache = _rows_of_cache(output.past_key_values, going)
        rows_B, ids_BT = rows_B[going], ids_BT[going]
        mask_BT = nn.functional.pad(
            mask_BT[going], (0, ids_BT.shape[1] - mask_BT.shape[1]), value=1
        )
    return written


def _rows_of_cache(cache: Any, rows_B: Tensor) -> DynamicCache | None:
    """The cache of some rows; None when it is of a kind whose rows cannot be taken apart.

    Without a cache the rows are read again from their first token: slower, and just as right.
    """
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    # Exact types: a layer that also holds a recurrent state inherits a selection that forgets it.
    if type(cache) is not DynamicCache or any(type(layer) not in plain for layer in cache.layers):
        return None
    cache.batch_select_indices(rows_B)
    return cache
