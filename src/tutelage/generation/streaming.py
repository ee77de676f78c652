"""One answer of a model in this process, shown as it is written.

It is the answer that the engine gives to the same prompt alone, with the same settings and seed.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from tutelage.generation.engine import Answer
from tutelage.generation.engines.local import LocalEngine
from tutelage.generation.settings import GenerationSettings
from tutelage.generation.stopping import Stops
from tutelage.models.head import causal_lm


class _Stopped(Exception):
    """Ends an answer where it is."""


def stream(
    engine: LocalEngine,
    prompt: Sequence[int],
    settings: GenerationSettings,
    *,
    seed: int = 0,
    on_text: Callable[[str], None],
    stopped: Callable[[], bool] = lambda: False,
) -> Answer:
    """An answer, piece by piece.

    Args:
        engine: with the model.
        prompt: token ids.
        settings: how it is generated.
        seed: of the sampling.
        on_text: called with each new piece of the text once it is final.
        stopped: asked at every token whether somebody has read enough.

    Returns:
        The whole answer; its ``finish`` is ``length`` where it was stopped.

    Raises:
        DataError: a prompt without tokens.
    """
    inner: Any = causal_lm(engine.model)
    stops = Stops.of(engine.tokenizer, inner, settings.stop_strings)
    tokens: list[int] = []
    shown = _Shown(on_text, stops.longest)

    def told(token_B: Tensor) -> None:
        if stopped():
            raise _Stopped
        token = int(token_B[0])
        if token not in stops.tokens:
            tokens.append(token)
            shown.extend(stops.read(prompt, tokens).text)

    try:
        answer = engine.answer([prompt], settings, seed=seed, on_tokens=told)[0]
    except _Stopped:
        return Answer(shown.text, len(tokens), "length", tuple(tokens), seed)
    shown.finish(answer.text)
    return answer


class _Shown:
    """What was shown of an answer.

    Args:
        tell: gets new pieces.
        held: so many characters at the end may still turn out to be a stop string.
    """

    def __init__(self, tell: Callable[[str], None], held: int) -> None:
        self.text = ""
        self._tell, self._held = tell, held

    def extend(self, text: str) -> None:
        """The answer so far; what of it is final and new is shown."""
        final = text[: len(text) - self._held] if self._held else text
        # Some tokenizers mend spaces at a token's arrival; what was shown cannot be taken back.
        if len(final) > len(self.text) and final.startswith(self.text):
            piece, self.text = final[len(self.text) :], final
            self._tell(piece)

    def finish(self, text: str) -> None:
        """The whole answer."""
        self._held = 0
        self.extend(text)
