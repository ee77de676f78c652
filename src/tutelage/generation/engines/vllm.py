"""vLLM in this process, for models that are on the disk; written against its documentation.

Nobody has run it on a GPU yet: its tests have a stand-in with vLLM's documented interface.
"""

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from tutelage.errors import MissingDependencyError, ModelError, first_line
from tutelage.generation.engine import Answer, Prompt, seeds_of
from tutelage.generation.requests import token_prompts
from tutelage.generation.settings import GenerationSettings
from tutelage.generation.stopping import Stops

CHUNK = 512
"""Prompts that are handed over at once; vLLM batches them, and their answers are kept together."""


class VllmEngine:
    """Answers with a model that vLLM loads and runs.

    Args:
        place: a folder or a name on the hub.
        tokenizer: its tokenizer; prompts are given as tokens, as all engines read them.
        options: further arguments of ``vllm.LLM``, such as ``tensor_parallel_size``.

    Raises:
        MissingDependencyError: vLLM is not installed.
        ModelError: vLLM cannot load the model.
    """

    def __init__(self, place: str, tokenizer: Any, options: Mapping[str, Any]) -> None:
        self._vllm = _package()
        self.tokenizer = tokenizer
        try:
            # Two models are compared under the same settings: none of the model's own defaults.
            self._llm = self._vllm.LLM(model=place, generation_config="vllm", **options)
        except (ValueError, RuntimeError, OSError, TypeError) as error:
            raise ModelError(
                f"vLLM cannot load '{place}': {first_line(error)}. Try it with `vllm serve {place}`"
                " to see why, or ask it in this process with engine: {kind: local}."
            ) from error
        self._stop_owner = SimpleNamespace(generation_config=_own_stops(place))
        self._positions = int(self._llm.llm_engine.model_config.max_model_len)

    @property
    def chats(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return bool(self.tokenizer.chat_template)

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

        ``on_answer`` is called for all prompts of a chunk when the chunk is done.
        """
        seeds = seeds_of(seed, prompts)
        asked = token_prompts(prompts, self.tokenizer)
        stops = Stops.of(self.tokenizer, self._stop_owner, settings.stop_strings)
        limits = [settings.limit(len(prompt), self._positions) for prompt in asked]
        answers = [Answer("", 0, "length", seed=own) for own in seeds]
        places = [place for place, limit in enumerate(limits) if limit]
        done = len(asked) - len(places)
        for start in range(0, len(places), CHUNK):
            chunk = places[start : start + CHUNK]
            outputs = self._llm.generate(
                [{"prompt_token_ids": list(asked[place])} for place in chunk],
                [self._parameters(settings, limits[p], seeds[p], stops) for p in chunk],
                use_tqdm=False,
            )
            for place, output in zip(chunk, outputs, strict=True):
                tokens = list(output.outputs[0].token_ids)[: limits[place]]
                answers[place] = replace(stops.read(asked[place], tokens), seed=seeds[place])
            done += len(chunk)
            if on_answer is not None:
                for place in chunk:
                    on_answer(place, answers[place])
            if progress is not None:
                progress(done, len(asked))
        if on_answer is not None:
            for place, limit in enumerate(limits):
                if not limit:
                    on_answer(place, answers[place])
        return answers

    def _parameters(self, settings: GenerationSettings, limit: int, seed: int, stops: Stops) -> Any:
        """How one prompt is answered, in vLLM's words."""
        return self._vllm.SamplingParams(
            n=1,
            temperature=settings.sampling_temperature,
            top_p=settings.top_p,
            top_k=settings.top_k or -1,
            seed=_short(seed),
            max_tokens=limit,
            stop=list(stops.strings) or None,
            # The token that ends an answer is a part of it, and one of ours may be a model's own.
            stop_token_ids=list(stops.tokens) or None,
            include_stop_str_in_output=True,
            skip_special_tokens=False,
        )


def _short(seed: int) -> int:
    """A seed that fits into the 63 bits of a sampler's; different ones stay different."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _own_stops(place: str) -> Any:
    """The generation defaults that come with a model, for the tokens that end an answer."""
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(place)
    except OSError:
        return GenerationConfig()


def _package() -> Any:
    try:
        return importlib.import_module("vllm")
    except ImportError as error:
        raise MissingDependencyError(
            "The engine 'vllm' needs vLLM, which needs a GPU. Install it with: pip install"
            " 'tutelage[vllm]'. Without one ask in this process (engine: {kind: local}) or a"
            " server (engine: {kind: server})."
        ) from error
