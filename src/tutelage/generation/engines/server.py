"""Generation by an OpenAI-compatible server: vLLM, SGLang, llama.cpp, a provider."""

import contextlib
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tutelage.errors import ConfigError, DataError, ModelError, ServerError
from tutelage.generation.engine import Answer, Chat, Prompt, check_conversation, seeds_of
from tutelage.generation.engines.in_parallel import in_parallel
from tutelage.generation.engines.server_answers import read_answer
from tutelage.generation.engines.server_calls import Refused, Server, checked_url
from tutelage.generation.settings import GenerationSettings

Api = Literal["auto", "completions", "chat"]

_NEUTRAL = {"min_p": 0.0, "repetition_penalty": 1.0}
"""Of vLLM, SGLang and llama.cpp: what their or a model's own defaults would otherwise bring in."""

_PROBE = "The 3 quick foxes: 42+7=49, naïve déjà-vu?"
_SEEDS = 2**31  # servers take whole numbers of 32 bits at least
_MOST_STOPS = 4  # that some servers take; the answer is cut here at all of them

_GIVEN_UP = ("logprobs", "top_logprobs"), ("extras",), ("token_prompt",), ("seed",)
"""What a server may not take, in the order in which it is left out when it does not say which."""


@dataclass(frozen=True)
class _Asked:
    """One prompt on its way.

    Attributes:
        position: among the prompts of the call.
        prompt: token ids, a text, or the turns of a conversation.
        limit: most tokens of the answer.
        seed: of the sampling.
    """

    position: int
    prompt: list[int] | str | list[dict[str, Any]]
    limit: int
    seed: int

    @property
    def in_chat(self) -> bool:
        """Whether it goes to ``/chat/completions``."""
        return isinstance(self.prompt, list) and isinstance(self.prompt[0], dict)


class ServerEngine:
    """Answers with whatever model a server runs.

    Every prompt is a request of its own, several of them on their way at once. The first one of all
    goes alone: what the server refuses of it (log-probabilities, ``top_k``, token ids as prompts,
    seeds) is left out from then on, unless the answers would be others for it. Settings that a
    server ignores without a word cannot be seen. Greedy answers are asked for with temperature 0.

    Prompts that are texts or tokens are continued by ``/completions``, conversations answered by
    ``/chat/completions``. Texts are tokenized here when there is a tokenizer, as the local engine
    does, and the server's tokens are compared with it once, where the server can say them.

    Args:
        server: whom to call.
        model: the name that the server knows the model by.
        tokenizer: the model's own; None where nobody here has it.
        api: ``completions`` writes conversations with the tokenizer's chat template and lets the
            server continue them; ``chat`` asks a text as the turn of a user.
        concurrency: most requests on their way.
    """

    def __init__(
        self, server: Server, model: str, tokenizer: Any = None, *, api: Api, concurrency: int
    ) -> None:
        self.server = server
        self.model = model
        self.tokenizer = tokenizer
        self.api = api
        self.concurrency = concurrency
        self._left_out: set[str] = set()
        self._settled: set[bool] = set()  # of the two ways of asking, those tried out
        self._compared = False

    @property
    def chats(self) -> bool:
        """Whether the tokenizer has a chat template; without a tokenizer, what ``api`` allows."""
        if self.tokenizer is None or self.api == "chat":
            return self.api != "completions"
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

        Raises:
            ServerError: the server is away or refuses; what had come was given to ``on_answer``.
            ConfigError: a prompt or a setting that this way of asking cannot carry.
            ModelError: the server runs a model with another tokenizer.
        """
        seeds = seeds_of(seed, prompts)
        asked = [
            self._asked(number, prompt, settings, own)
            for number, (prompt, own) in enumerate(zip(prompts, seeds, strict=True))
        ]
        self._compare_tokens(asked)
        found: dict[int, Answer] = {}

        def keep(position: int, answer: Answer) -> None:
            found[position] = answer
            if on_answer is not None:
                on_answer(position, answer)
            if progress is not None:
                progress(len(found), len(asked))

        for one in asked:
            if not one.limit:  # a prompt that fills the whole limit has an empty answer
                keep(one.position, Answer("", 0, "length", seed=one.seed))
        rest = [one for one in asked if one.limit]
        try:
            with contextlib.closing(self._answers(rest, settings)) as answers:
                for position, answer in answers:
                    keep(position, answer)
        except ServerError as error:
            raise ServerError(f"{error} {self._kept(len(found), len(asked), on_answer)}") from error
        return [found[position] for position in range(len(asked))]

    @staticmethod
    def _kept(done: int, total: int, on_answer: Any) -> str:
        if not done:
            return f"None of {total} answers had come."
        fate = "kept, and not asked again" if on_answer is not None else "asked again then"
        return f"{done} of {total} answers had come; they are {fate}."

    def _answers(
        self, asked: Sequence[_Asked], settings: GenerationSettings
    ) -> Generator[tuple[int, Answer], None, None]:
        """Positions and answers as they come in."""
        # Of this call: those who still wait after an earlier one must not wake up by this.
        stopped = self.server.stopped = threading.Event()
        rest = list(asked)
        for one in asked:
            if one.in_chat not in self._settled:
                yield one.position, self._settle(one, settings)
                rest.remove(one)

        def ask(one: _Asked) -> tuple[int, Answer]:
            return one.position, self._ask(one, settings)

        yield from in_parallel(rest, ask, self.concurrency, stopped)

    # ---- what is sent -----------------------------------------------------------------------

    def _asked(
        self, position: int, prompt: Prompt, settings: GenerationSettings, seed: int
    ) -> _Asked:
        """A prompt as it is sent.

        Raises:
            DataError: it is empty, or a conversation in which nothing is asked.
            ConfigError: it cannot be asked in this way.
        """
        sent = self._sent(position, prompt)
        if not sent:
            raise DataError(
                f"Prompt {position} has no tokens, so there is nothing to continue. Give it a text,"
                " or use a template that adds some."
            )
        limit = settings.max_new_tokens
        if settings.max_total_tokens is not None:
            length = self._length(position, prompt, sent)
            limit = max(0, min(limit, settings.max_total_tokens - length))
        return _Asked(position, sent, limit, seed)

    def _sent(self, position: int, prompt: Prompt) -> Any:
        if isinstance(prompt, Chat):
            if self.api == "completions":
                return self._written(position, prompt)
            check_conversation(position, prompt)
            return [
                {"role": turn.role, "content": turn.content, **turn.extra}
                for turn in prompt.messages
            ]
        if isinstance(prompt, str):
            if self.api == "chat":
                return [{"role": "user", "content": prompt}] if prompt else ""
            return self._tokens(prompt, in_chat=False) if self.tokenizer is not None else prompt
        if self.api == "chat":
            raise ConfigError(
                "The prompts are token ids, in which a template is written already, and `api: chat`"
                " lets the server write its own around them. Use `api: completions` or leave `api`"
                " out; a server that knows chats alone cannot continue such prompts."
            )
        return [int(token) for token in prompt]

    def _tokens(self, text: str, *, in_chat: bool) -> list[int]:
        # Recipes and `tutelage ls` come near this file, and need no transformers.
        from tutelage.data.encode import tokenize_prompts

        return tokenize_prompts([text], self.tokenizer, in_chat=in_chat)[0]

    def _written(self, position: int, chat: Chat) -> list[int]:
        """A conversation as the tokenizer's own template writes it."""
        from tutelage.generation.requests import chat_text

        if self.tokenizer is None:
            raise ConfigError(
                "Conversations are written here with a tokenizer's chat template before a server"
                " continues them, and there is no tokenizer. Use `api: chat`: the server writes"
                " them with its own."
            )
        return self._tokens(chat_text(position, chat, self.tokenizer), in_chat=True)

    def _length(self, position: int, prompt: Prompt, sent: Any) -> int:
        """Tokens of a prompt, as far as they can be known here."""
        if sent and isinstance(sent[0], int):
            return len(sent)
        if isinstance(prompt, Chat) and getattr(self.tokenizer, "chat_template", None):
            return len(self._written(position, prompt))
        raise ConfigError(
            "`max_total_tokens` counts the prompt's tokens, and there is no tokenizer here that"
            " counts them. Leave it out, and set `max_new_tokens` (instruct.counts=answer)."
        )

    def _body(self, one: _Asked, settings: GenerationSettings) -> dict[str, Any]:
        """A request, without what this server does not take."""
        out = self._left_out
        body: dict[str, Any] = {"model": self.model}
        body["messages" if one.in_chat else "prompt"] = one.prompt
        if "token_prompt" in out and not one.in_chat and not isinstance(one.prompt, str):
            body["prompt"], whole = self._text(one.prompt)
            if whole and "extras" not in out:
                body["add_special_tokens"] = False
        limit = "max_completion_tokens" if "max_tokens" in out and one.in_chat else "max_tokens"
        body |= {limit: one.limit, "temperature": settings.sampling_temperature}
        if not settings.greedy:
            body["top_p"] = settings.top_p
            if "seed" not in out:
                body["seed"] = one.seed % _SEEDS
        if "extras" not in out:
            body |= {**_NEUTRAL, "top_k": settings.top_k or -1}
        if "logprobs" not in out:
            body |= {"logprobs": True, "top_logprobs": 1} if one.in_chat else {"logprobs": 1}
        if settings.stop_strings:
            body["stop"] = list(settings.stop_strings[:_MOST_STOPS])
        return body

    def _text(self, tokens: Any) -> tuple[str, bool]:
        """A prompt of tokens as the text from which the server makes them again.

        Returns:
            The text, and whether the server must put nothing before it as it does before texts.
        """
        from tutelage.data.pieces import leading_ids, token_ids

        plain = token_ids([_PROBE], self.tokenizer)[0]
        before = leading_ids(_PROBE, plain, self.tokenizer)
        begins = tokens[: len(before)] == before
        text = self.tokenizer.decode(
            tokens[len(before) :] if begins else tokens,
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        return text, not begins

    # ---- what comes back --------------------------------------------------------------------

    def _ask(self, one: _Asked, settings: GenerationSettings) -> Answer:
        try:
            return self._request(one, settings)
        except Refused as refused:
            error = self.server.refusal(refused)
            raise ServerError(f"Prompt {one.position}: {error}") from refused

    def _request(self, one: _Asked, settings: GenerationSettings) -> Answer:
        call = self.server.chat if one.in_chat else self.server.complete

        def read(value: Any) -> Answer:
            answer = read_answer(
                value,
                in_chat=one.in_chat,
                limit=one.limit,
                stop_strings=settings.stop_strings,
                tokenizer=self.tokenizer,
            )
            return replace(answer, seed=one.seed)

        return call(self._body(one, settings), read=read)

    def _settle(self, one: _Asked, settings: GenerationSettings) -> Answer:
        """Find out with one prompt what this server takes, and answer it."""
        while True:
            try:
                answer = self._request(one, settings)
            except Refused as refused:
                if refused.status not in (400, 422) or not self._leave_out(refused, one, settings):
                    error = self.server.refusal(refused)
                    raise ServerError(f"Prompt {one.position}: {error}") from refused
            else:
                self._settled.add(one.in_chat)
                return answer

    def _leave_out(self, refused: Refused, one: _Asked, settings: GenerationSettings) -> bool:
        """Leave out what a refusal speaks of, or else what is next; whether anything was left."""
        said = refused.said.lower()
        if one.in_chat and "max_completion_tokens" in said and "max_tokens" not in self._left_out:
            self._left_out.add("max_tokens")
            return True
        left = [names for names in _GIVEN_UP if names[0] not in self._left_out]
        if one.in_chat or isinstance(one.prompt, str) or self.tokenizer is None:
            left = [names for names in left if names[0] != "token_prompt"]
        if settings.greedy:
            left = [names for names in left if names[0] != "seed"]
        named = [names for names in left if any(word in said for word in _words(names))]
        for names in (named or left)[:1]:
            self._check_left_out(names[0], settings, said)
            self._left_out.add(names[0])
        return bool(left)

    def _check_left_out(self, name: str, settings: GenerationSettings, said: str) -> None:
        if name == "extras" and settings.top_k and not settings.greedy:
            raise ConfigError(
                f"The server {self.server.base_url} does not take `top_k` ({said}). Set top_k to 0,"
                " which samples from all tokens, or ask another server."
            )

    def _compare_tokens(self, asked: Sequence[_Asked]) -> None:
        """Make sure that the server reads token ids as they are meant."""
        by_tokens = any(not one.in_chat and not isinstance(one.prompt, str) for one in asked)
        if self._compared or not by_tokens or self.tokenizer is None:
            return
        from tutelage.data.pieces import token_ids

        theirs = self.server.tokens_of(self.model, _PROBE)
        if theirs is not None and theirs != token_ids([_PROBE], self.tokenizer)[0]:
            raise ModelError(
                f"The model '{self.model}' of the server {self.server.base_url} has another"
                " tokenizer than the one here, so the prompts would be other texts to it. Start the"
                " server with the model that is meant, or name the model that it runs."
            )
        self._compared = True


def _words(names: Sequence[str]) -> tuple[str, ...]:
    """What a refusal may call a thing that is left out."""
    if names[0] == "extras":
        return (*_NEUTRAL, "top_k", "add_special_tokens")
    return ("prompt",) if names[0] == "token_prompt" else tuple(names)


def settled_model(server: Server, model: str) -> str:
    """The name of the model that is asked: the one that is given, or the only one of the server.

    Raises:
        ServerError: the server is away, or lists no model.
        ConfigError: it lists several.
    """
    if model:
        return model
    names = server.models()
    if not names:
        raise ServerError(
            f"The server {server.base_url} lists no model. Name the one to ask as `model`."
        )
    if len(names) > 1:
        shown = ", ".join(map(server.shown, names[:10]))
        raise ConfigError(
            f"The server {server.base_url} lists {len(names)} models: {shown}. Name the one to ask"
            " as `model`."
        )
    return names[0]


def what_decides(options: Mapping[str, Any], *, ask: bool) -> dict[str, Any]:
    """The options that decide answers, for knowing again what was made with them.

    The key, and how long, how often and how many at once is asked, decide nothing.

    Args:
        options: of the engine, as in a recipe.
        ask: find out from the server which model it runs, where the options do not say.

    Raises:
        ConfigError: a bad address.
        ServerError: the server is away.
    """
    silent = ("key_env", "concurrency", "timeout", "retries")
    found = {name: value for name, value in options.items() if name not in silent}
    found["base_url"] = checked_url(found["base_url"])
    if ask and not found.get("model"):
        more = {"key_env": options["key_env"]} if "key_env" in options else {}
        server = Server(found["base_url"], timeout=30.0, retries=2, **more)
        found["model"] = settled_model(server, "")
    return found
