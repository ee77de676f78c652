"""The generation defaults that come with a model, mended where they contradict themselves.

Many published models name a temperature or a top_p and forget ``do_sample``. transformers loads
such a file and refuses to save it, which would end a training at its first checkpoint.
"""

from typing import Any

from transformers import GenerationConfig

_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
)  # fmt: skip
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


def mend_generation_config(model: Any) -> None:
    """Change a model's generation defaults, in place, into ones that can be saved.

    Who names a temperature means to sample, so ``do_sample`` is set. What cannot be saved even then
    is reduced to its special tokens; all else is as good as the library's own defaults. Special
    tokens that are no tokens of the model are left out.

    Args:
        model: what ``from_pretrained`` gave.
    """
    config = getattr(model, "generation_config", None)
    if config is None:
        return
    for name in _TOKENS:
        setattr(config, name, _tokens(getattr(config, name, None), model.config))
    if _saves(config):
        return
    if config.do_sample is not True and any(_given(config, name) for name in _SAMPLING):
        config.do_sample = True
        if _saves(config):
            return
    kept = {name: getattr(config, name, None) for name in _TOKENS}
    model.generation_config = GenerationConfig(**kept)


def _tokens(given: Any, config: Any) -> Any:
    """The ids that stand for tokens of a model: one, several, or None."""
    size = getattr(config.get_text_config(), "vocab_size", None) or 2**31
    several = isinstance(given, list | tuple)
    tokens = [
        token
        for token in (given if several else [given])
        if isinstance(token, int) and not isinstance(token, bool) and 0 <= token < size
    ]
    return tokens or None if several else (tokens or [None])[0]


def _given(config: GenerationConfig, name: str) -> bool:
    return getattr(config, name, None) not in (None, getattr(GenerationConfig(), name, None))


def _saves(config: GenerationConfig) -> bool:
    """Whether ``save_pretrained`` would take it: that check, and that it can be written as JSON."""
    try:
        config.validate(strict=True)
        config.to_json_string()
    except (ValueError, TypeError, AttributeError):
        return False
    return True
