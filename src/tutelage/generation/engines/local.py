"""Generation with transformers, in this process."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    GenerationConfig,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from tutelage.data.collate import padding_id
from tutelage.data.encode import tokenize_prompts
from tutelage.data.ending import stop_ids
from tutelage.data.pieces import continuation_text, decode, spaces_beginnings
from tutelage.errors import DataError
from tutelage.generation.engine import Answer, Prompt
from tutelage.generation.settings import GenerationSettings
from tutelage.models.forward import own_forward, routers_unheard
from tutelage.models.head import causal_lm
from tutelage.models.positions import positions_of

# Shape suffixes: B batch, T tokens.

_HALF = "\N{REPLACEMENT CHARACTER}"
"""What a character becomes whose bytes a length limit cut in two."""


class LocalEngine:
    """Answers with a model that is in memory here.

    Prompts of similar length share a batch, and answers that have ended leave it. Greedy answers do
    not depend on the batches beyond rounding; sampled ones depend on the seed, on the prompts and
    on the batches. The model's own generation defaults (penalties, sampling) are left aside, except
    for its end-of-sequence tokens: two models are compared under the same settings. An answer ends
    at any of ``tutelage.data.stop_ids``: the end of a text, of a turn of the chat template, or the
    model's own. Model and tokenizer are left as they were.

    Args:
        model: a causal language model, possibly inside DDP or LoRA wrappers. Its number of
            positions is a further limit on the length.
        tokenizer: reads prompts that are texts, and decodes the answers.
    """

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer

    @torch.no_grad()
    def answer(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Answer]:
        """One answer to each prompt, in order; see ``Engine``."""
        tokenizer = self.tokenizer
        inner: Any = causal_lm(self.model)
        asked = _token_prompts(prompts, tokenizer)
        device = next(inner.parameters()).device
        positions = _positions(inner)
        lengths = [len(prompt) for prompt in asked]
        limits = [_limit(length, settings, positions) for length in lengths]
        stops = stop_ids(tokenizer, inner)
        spaced = spaces_beginnings(tokenizer)
        # Rows of the head beyond the tokenizer stand for no token; a model must not write them.
        padded = list(range(len(tokenizer), inner.get_output_embeddings().weight.shape[0]))
        # A prompt that fills the whole limit has an empty answer.
        answers = [Answer("", 0, "length", seed=seed) for _ in asked]
        done = sum(limit == 0 for limit in limits)
        with _generating(inner, device, settings, seed):
            for batch in _batches(lengths, limits, settings.batch_tokens, positions):
                limit = max(limits[i] for i in batch)
                config = _config(settings, limit, stops, padding_id(tokenizer))
                config.suppress_tokens = padded or None
                written = _continue_batch(inner, [asked[i] for i in batch], config)
                for tokens, i in zip(written, batch, strict=True):
                    before = asked[i] if spaced else ()
                    read = _read_answer(tokenizer, before, tokens[: limits[i]], stops)
                    answers[i] = replace(read, seed=seed)
                done += len(batch)
                if progress is not None:
                    progress(done, len(asked))
        return answers


def _token_prompts(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase
) -> list[Sequence[int]]:
    """The tokens of each prompt.

    Raises:
        DataError: there are none.
    """
    found = [
        tokenize_prompts([prompt], tokenizer, in_chat=False)[0]
        if isinstance(prompt, str)
        else prompt
        for prompt in prompts
    ]
    for number, tokens in enumerate(found):
        if not len(tokens):
            raise DataError(
                f"Prompt {number} has no tokens, so there is nothing to continue. Give it a text,"
                " or use a template that adds some."
            )
    return found


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
    settings: GenerationSettings, limit: int, stops: Sequence[int], pad_token_id: int
) -> GenerationConfig:
    sampling: dict[str, Any] = {}
    if not settings.greedy:
        sampling = {
            "temperature": settings.sampling_temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k,
        }
    return GenerationConfig(
        max_new_tokens=limit,
        do_sample=not settings.greedy,
        num_beams=1,
        use_cache=True,
        pad_token_id=pad_token_id,
        eos_token_id=list(stops) or None,
        return_dict_in_generate=True,
        **sampling,
    )


@contextlib.contextmanager
def _generating(
    model: Any, device: torch.device, settings: GenerationSettings, seed: int
) -> Iterator[None]:
    """Evaluation mode, neutral defaults, the precision and a random state of our own; then back."""
    # Module by module: a user may keep some of a model in evaluation mode while the rest trains.
    modes = [(module, module.training) for module in model.modules()]
    own_defaults = model.generation_config
    cuda = [device] if device.type == "cuda" else []
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16")
    seeded = torch.random.fork_rng(devices=cuda)
    with seeded, own_forward(model), routers_unheard(model), autocast:
        torch.manual_seed(seed)
        model.eval()
        # What a configuration leaves open, `generate` fills from the model's own defaults.
        model.generation_config = GenerationConfig()
        try:
            yield
        finally:
            model.generation_config = own_defaults
            for module, was_training in modes:
                module.training = was_training


class _HalfHasEnded(StoppingCriteria):
    """Stops a whole batch once at least half of its rows hold a stop token."""

    def __init__(self, width: int, stops: Tensor) -> None:
        self.width = width
        self.stops = stops

    def __call__(self, input_ids: Tensor, scores: Any, **options: Any) -> Tensor:
        ended_B = torch.isin(input_ids[:, self.width :], self.stops).any(dim=1)
        return torch.full_like(ended_B, bool(2 * ended_B.sum() >= len(ended_B)))


def _continue_batch(
    model: Any, prompts: Sequence[Sequence[int]], config: GenerationConfig
) -> list[list[int]]:
    """The tokens that follow each prompt, up to its end or a little beyond.

    Answers differ in length, and a row that has ended costs as much as one that has not. So the
    batch stops whenever half of it has ended and goes on without those rows: never more than half
    of the work is wasted, and there are few stops.
    """
    width = max(len(prompt) for prompt in prompts)
    pad = config.pad_token_id
    ids_BT = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts]).to(model.device)
    mask_BT = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    mask_BT = mask_BT.to(model.device)
    stops = torch.tensor(config.eos_token_id or [], dtype=torch.long, device=model.device)
    limit = width + config.max_new_tokens
    written: list[list[int]] = [[] for _ in prompts]
    rows_B = torch.arange(len(prompts), device=model.device)
    cache: DynamicCache | None = None
    while len(rows_B):
        config.max_new_tokens = limit - ids_BT.shape[1]
        output = model.generate(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            generation_config=config,
            **({} if cache is None else {"past_key_values": cache}),
            stopping_criteria=StoppingCriteriaList([_HalfHasEnded(width, stops)]),
        )
        ids_BT = output.sequences
        ended_B = torch.isin(ids_BT[:, width:], stops).any(dim=1) | (ids_BT.shape[1] == limit)
        for row, tokens in zip(rows_B[ended_B].tolist(), ids_BT[ended_B].tolist(), strict=True):
            written[row] = tokens[width:]
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


def _read_answer(
    tokenizer: PreTrainedTokenizerBase,
    before: Sequence[int],
    tokens: list[int],
    stops: Sequence[int],
) -> Answer:
    """The answer in a row of new tokens, which ends at its first stop token or at its limit.

    ``before`` is the prompt where decoding needs it, and empty elsewhere.
    """
    end = next((place for place, token in enumerate(tokens) if token in stops), None)
    if before:
        text = continuation_text(before, tokens[:end], tokenizer)
    else:
        text = decode(tokens[:end], tokenizer)
    if end is None:
        text = text.rstrip(_HALF)
    num_tokens = len(tokens) if end is None else end + 1
    finish = "length" if end is None else "stop"
    return Answer(text, num_tokens, finish, tuple(tokens[:num_tokens]))
