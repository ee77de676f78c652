"""A stand-in for the package vLLM, with the part of its documented interface that is used."""

from dataclasses import dataclass
from types import SimpleNamespace

from tutelage.generation import GenerationSettings, LocalEngine
from tutelage.models import load_model, load_tokenizer


@dataclass
class SamplingParams:
    """The arguments that vLLM documents; others are a TypeError, as they are there."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    seed: int | None = None
    max_tokens: int | None = 16
    stop: list | None = None
    stop_token_ids: list | None = None
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True

    def __post_init__(self):
        assert self.temperature >= 0 and 0 < self.top_p <= 1 and self.max_tokens >= 1
        assert self.top_k == -1 or self.top_k >= 1
        assert self.seed is None or 0 <= self.seed < 2**63


class LLM:
    """Runs a model; prompts may be tokens."""

    def __init__(self, model, generation_config="auto", dtype="auto", **options):
        known = {"tensor_parallel_size", "gpu_memory_utilization", "max_model_len"}
        assert generation_config == "vllm" and set(options) <= known
        self.engine = LocalEngine(load_model(model).eval(), load_tokenizer(model))
        longest = options.get("max_model_len") or self.engine.model.config.max_position_embeddings
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=longest))

    def generate(self, prompts, sampling_params, use_tqdm=True):
        found = []
        for prompt, params in zip(prompts, sampling_params, strict=True):
            settings = GenerationSettings(
                max_new_tokens=params.max_tokens,
                sampling_temperature=params.temperature,
                top_p=params.top_p,
                top_k=max(params.top_k, 0),
            )
            tokens = prompt["prompt_token_ids"]
            (answer,) = self.engine.answer([tokens], settings, seed=params.seed)
            finish = "length" if answer.truncated else "stop"
            one = SimpleNamespace(
                text=answer.text, token_ids=list(answer.tokens), finish_reason=finish
            )
            found.append(SimpleNamespace(outputs=[one]))
        return found
