"""Write answers with the model in this process."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from tutelage.data.collate import padding_id
from tutelage.generation.settings import GeneratedAnswer, GenerationSettings

MAX_ROWS = 256


def generate_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[GeneratedAnswer]:
    """Continue prompts until the end-of-sequence token or the limit.

    Prompts of similar length share a batch. Greedy answers do not depend on the batches beyond
    rounding; sampled ones depend on the seed. The global random state, the tokenizer, the model's
    mode and its generation settings are left as they were.

    Args:
        model: a causal language model of transformers, LoRA included.
        tokenizer: its tokenizer.
        prompts: token ids.
        settings: how to generate.
        seed: seed of the sampling.
        progress: called with (prompts done, prompts in all).

    Returns:
        One answer for each prompt, in the order of ``prompts``.
    """
    answers: list[GeneratedAnswer | None] = [None] * len(prompts)
    done = 0
    with _generating(model), torch.random.fork_rng():
        torch.manual_seed(seed)
        for batch, limit in _batches([len(prompt) for prompt in prompts], settings):
            if limit == 0:
                written = [GeneratedAnswer("", 0, True)] * len(batch)
            else:
                written = _write(model, tokenizer, [prompts[i] for i in batch], settings, limit)
            for i, answer in zip(batch, written, strict=True):
                answers[i] = answer
            done += len(batch)
            if progress is not None:
                progress(done, len(prompts))
    return [answer for answer in answers if answer is not None]


@contextlib.contextmanager
def _generating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with a key-value cache, for the time."""
    was_training, config = model.training, model.config
    use_cache = config.use_cache
    model.eval()
    config.use_cache = True
    try:
        with torch.no_grad():
            yield
    finally:
        config.use_cache = use_cache
        model.train(was_training)


def _batches(
    lengths: Sequence[int], settings: GenerationSettings
) -> Iterator[tuple[list[int], int]]:
    """Positions of prompts, longest first, with the limit of new tokens for the batch."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        limit = settings.new_tokens(lengths[i])
        if batch:
            longest = lengths[batch[0]]
            room = settings.batch_tokens // (longest + settings.max_new_tokens)
            # With a limit on prompt and answer together, a batch shares one limit of new tokens.
            other_limit = limit != settings.new_tokens(longest)
            if len(batch) >= min(max(room, 1), MAX_ROWS) or other_limit:
                yield batch, settings.new_tokens(longest)
                batch = []
        batch.append(i)
    if batch:
        yield batch, settings.new_tokens(lengths[batch[0]])


def _write(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    limit: int,
) -> list[GeneratedAnswer]:
    device = next(model.parameters()).device
    pad = padding_id(tokenizer)
    input_ids, mask = _left_padded(prompts, pad)
    ends = _end_tokens(model, tokenizer)
    sampling: dict[str, Any] = {"do_sample": False}
    if not settings.greedy:
        sampling = {
            "do_sample": True,
            "temperature": settings.sampling_temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k,
        }
    config = GenerationConfig(
        max_new_tokens=limit, pad_token_id=pad, eos_token_id=ends, use_cache=True, **sampling
    )
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16")
    with autocast:
        output = model.generate(
            input_ids=input_ids.to(device), attention_mask=mask.to(device), generation_config=config
        )
    return [_answer(tokenizer, row, ends) for row in output[:, input_ids.shape[1] :].tolist()]


def _left_padded(prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    longest = max(len(prompt) for prompt in prompts)
    ids = [[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids), torch.tensor(mask)


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: the tokenizer's, and those that the model's makers name."""
    named = model.generation_config.eos_token_id if model.generation_config is not None else None
    several = named if isinstance(named, list) else [named]
    found = {tokenizer.eos_token_id, *several} - {None}
    return sorted(found)


def _answer(tokenizer: Any, row: list[int], ends: list[int]) -> GeneratedAnswer:
    stop = next((i for i, token in enumerate(row) if token in ends), None)
    tokens = row if stop is None else row[:stop]
    text = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return GeneratedAnswer(text, len(tokens) + (stop is not None), stop is None)
