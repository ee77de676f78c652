"""Calls of an OpenAI-compatible server that may be busy, slow, broken or gone.

A call is tried again after whatever may pass: no connection, no answer in time, a broken answer, a
busy server (408, 409, 429 and 5xx). What will not pass (a wrong key, a wrong name, a setting that
the server does not take) is said at once. Answers are read as bytes, with a limit of time and size,
and as plain JSON: what a server sends is somebody else's, and is looked at before it is used.
"""

import ipaddress
import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tutelage.errors import ConfigError, MissingDependencyError, ServerError
from tutelage.printing import printable

FIRST_WAIT = 0.5
"""Seconds before the second attempt; each further wait is twice as long."""

MOST_WAIT = 30.0
"""Seconds of the longest wait that is not asked for by the server."""

LONGEST_ASKED_WAIT = 300.0
"""A server that asks to wait longer is away."""

LARGEST_ANSWER = 1 << 26
"""Bytes; whatever sends more does not answer what it was asked."""

_PASSES = (408, 409, 425, 429)
_SHOWN = 300  # characters of what a server says


class Refused(Exception):
    """The server will not take this request, however often it is tried.

    Args:
        status: of HTTP.
        said: what the server says of it, ready to be shown.
    """

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"HTTP {status}: {said}")
        self.status = status
        self.said = said


class Passing(Exception):
    """An attempt failed in a way that may pass.

    Args:
        what: happened, as the end of a sentence.
        wait: seconds that the server asks for; None when it says nothing.
    """

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait


def checked_url(base_url: str) -> str:
    """The address of a server as it is called, known again and shown: without a slash at its end.

    Raises:
        ConfigError: it is no address of HTTP, or holds a password or a query, which would be shown.
    """
    example = "Write it as in http://127.0.0.1:8000/v1"
    try:
        parts = urlsplit(base_url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        # Not repeated: what is no address may be a key that was put in the wrong place.
        raise ConfigError(f"`base_url` is no address of a server. {example}.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            "`base_url` holds a name, password or query, and addresses are written into run folders"
            f" and reports. {example}, put the key into an environment variable, and name that one"
            " as `key_env`."
        )
    return urlunsplit((parts.scheme, parts.netloc.lower(), parts.path.rstrip("/"), "", ""))


def on_loopback(base_url: str) -> bool:
    """Whether a server is on this machine."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Server:
    """An OpenAI-compatible server; its calls may come from several threads.

    Args:
        base_url: its address with what stands before ``/completions``, mostly ``/v1``.
        key_env: name of the environment variable that holds the key. It is read now, goes to this
            server alone, and is never shown or stored. A server on loopback needs none.
        timeout: seconds that one answer may take, waiting in the server's queue included.
        retries: further attempts after one that failed in a way that may pass.

    Raises:
        ConfigError: a bad address, or no key.
        MissingDependencyError: the package ``openai`` is not installed.
    """

    def __init__(
        self, base_url: str, *, key_env: str = "OPENAI_API_KEY", timeout: float, retries: int
    ) -> None:
        self.base_url = checked_url(base_url)
        self.key_env = key_env
        self.timeout = timeout
        self.retries = retries
        self.stopped = threading.Event()
        self._openai = _openai()
        self._key = _key(self.base_url, key_env)
        options: dict[str, Any] = {}
        if on_loopback(self.base_url):
            # A proxy of the environment must not get what is meant for this machine, and reading
            # certificates for plain HTTP takes longer than an answer.
            options = {"trust_env": False, "follow_redirects": False}
            options["verify"] = self.base_url.startswith("https")
        self._client = self._openai.OpenAI(
            base_url=self.base_url,
            api_key=self._key or "none",
            max_retries=0,
            timeout=timeout,
            http_client=self._openai.DefaultHttpxClient(**options),
        )
        self._random = random.Random()  # the global one stays as it is
        self._not_before = 0.0

    # ---- what can be asked ------------------------------------------------------------------

    def models(self) -> list[str]:
        """Names of the models that it lists.

        Raises:
            ServerError: it is away, or lists none.
        """
        found = self._said_at_once(lambda: self._client.models.with_streaming_response.list())
        rows = found.get("data")
        rows = rows if isinstance(rows, list) else []
        names = [row.get("id") for row in rows if isinstance(row, dict)]
        return [name for name in names if isinstance(name, str) and name]

    def tokens_of(self, model: str, text: str) -> list[int] | None:
        """Token ids of a text by the server's own tokenizer; None where it has no way to ask.

        vLLM, SGLang and llama.cpp have one, each with its own word for the text.
        """
        root = self.base_url.removesuffix("/v1")
        asked = {"model": model, "prompt": text, "content": text, "add_special_tokens": False}
        brief: Any = {"timeout": min(self.timeout, 10.0)}
        try:
            url = f"{root}/tokenize"
            found: Any = self._client.post(url, cast_to=object, body=asked, options=brief)
        except Exception:  # a server without this way may answer anything
            return None
        tokens = found.get("tokens") if isinstance(found, dict) else None
        fine = isinstance(tokens, list) and all(isinstance(token, int) for token in tokens)
        return tokens if fine else None

    def complete(self, body: Mapping[str, Any], *, read: Callable[[Any], Any]) -> Any:
        """What ``read`` makes of the answer to one request to ``/completions``.

        Args:
            body: of the request: ``model``, ``prompt`` and further settings.
            read: turns the JSON value into an answer; raises ``Passing`` when it is none.

        Raises:
            Refused: the request will never do.
            ServerError: the server is away.
        """
        create = self._client.completions.with_streaming_response.create
        return self._call(lambda: create(**_arguments(body)), read)

    def chat(self, body: Mapping[str, Any], *, read: Callable[[Any], Any]) -> Any:
        """The same of a request to ``/chat/completions``, with ``messages``."""
        create = self._client.chat.completions.with_streaming_response.create
        return self._call(lambda: create(**_arguments(body)), read)

    # ---- one call ---------------------------------------------------------------------------

    def _said_at_once(self, call: Callable[[], AbstractContextManager[Any]]) -> dict[str, Any]:
        try:
            return self._call(call, lambda value: value if isinstance(value, dict) else {})
        except Refused as refused:
            raise self.refusal(refused) from refused

    def _call(
        self, call: Callable[[], AbstractContextManager[Any]], read: Callable[[Any], Any]
    ) -> Any:
        """Try until it succeeds, cannot succeed, or has failed too often."""
        for attempt in range(self.retries + 1):
            self._wait_for_turn()
            try:
                return read(self._attempt(call))
            except Passing as failed:
                wait = self._wait(failed, attempt)
                if attempt == self.retries or wait > LONGEST_ASKED_WAIT or self.stopped.is_set():
                    raise self._away(failed, attempt + 1, wait) from failed
                if failed.wait is not None:
                    self._not_before = max(self._not_before, time.monotonic() + wait)
                self._pause(wait)
        raise AssertionError("the last attempt returns or raises")

    def _wait_for_turn(self) -> None:
        """A server that asks one of several callers to wait means all of them."""
        wait = self._not_before - time.monotonic()
        if wait > 0:
            self._pause(wait)

    def _pause(self, seconds: float) -> None:
        """Wait, unless nobody waits for the answer any more."""
        self.stopped.wait(seconds)

    def _wait(self, failed: Passing, attempt: int) -> float:
        if failed.wait is not None:
            return failed.wait
        return min(MOST_WAIT, FIRST_WAIT * 2**attempt) * (1 + self._random.random() / 4)

    def _attempt(self, call: Callable[[], AbstractContextManager[Any]]) -> Any:
        """The JSON value of one answer.

        Raises:
            Passing: there is none this time.
            Refused: there will be none.
        """
        openai, started = self._openai, time.monotonic()
        try:
            with call() as response:
                content = b""
                for part in response.iter_bytes():
                    content += part
                    if len(content) > LARGEST_ANSWER:
                        raise Passing(f"it sent more than {LARGEST_ANSWER:,} bytes")
                    if time.monotonic() - started > self.timeout:
                        raise self._late()
        except (Passing, Refused):
            raise
        except openai.APITimeoutError as error:
            raise self._late() from error
        except openai.APIStatusError as error:
            raise self._status(error) from error
        except openai.APIConnectionError as error:
            raise Passing(f"no connection: {self.shown(error.__cause__ or error)}") from error
        except Exception as error:
            # While the answer is read, errors are those of whatever library carries the bytes.
            if "timeout" in type(error).__name__.lower():
                raise self._late() from error
            raise Passing(f"the connection broke: {self.shown(error)}") from error
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Passing("what it sent is no JSON") from error

    def _late(self) -> Passing:
        return Passing(f"no answer within {self.timeout:g} seconds")

    def _status(self, error: Any) -> Passing | Refused:
        """What a status other than success means."""
        body = error.body if isinstance(error.body, dict) else {}
        said = self.shown(body.get("message") or error.message)
        if error.status_code not in _PASSES and error.status_code < 500:
            return Refused(error.status_code, said)
        if body.get("code") == "insufficient_quota":  # of 429, and no waiting helps
            return Refused(error.status_code, said)
        return Passing(f"HTTP {error.status_code}: {said}", _retry_after(error.response.headers))

    # ---- in words ---------------------------------------------------------------------------

    def shown(self, said: Any) -> str:
        """What a server or a library says, on one short line.

        It holds neither the key nor a command to a terminal.
        """
        text = " ".join(str(said).split()) or type(said).__name__
        if self._key:
            text = text.replace(self._key, "***")
        return printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...").rstrip(".")

    def refusal(self, refused: Refused) -> ServerError:
        """The error for a request that will never do."""
        return ServerError(
            f"The server {self.base_url} refused a request (HTTP {refused.status}):"
            f" {refused.said}. {self._remedy(refused.status)}"
        )

    def _remedy(self, status: int) -> str:
        if status in (401, 403):
            return f"Look at the key in the environment variable {self.key_env}."
        if status == 404:
            return (
                "Look at the name of the model, and whether `base_url` ends as the server's"
                " addresses do before /completions, mostly in /v1."
            )
        if status == 429:
            return "The account has nothing left to spend; see to it, and give the command again."
        return "Change what it names, or ask another server."

    def _away(self, failed: Passing, attempts: int, wait: float) -> ServerError:
        tries = "once" if attempts == 1 else f"{attempts} times"
        asked = f" It asks to wait {wait:,.0f} seconds." if wait > LONGEST_ASKED_WAIT else ""
        return ServerError(
            f"The server {self.base_url} gave no answer, asked {tries}; at last:"
            f" {self.shown(failed)}.{asked} See that it runs and has room, and give the same"
            " command again."
        )


def _arguments(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body as arguments of the client, which sends what it does not know as it is."""
    named = {key: body[key] for key in ("model", "prompt", "messages") if key in body}
    return {**named, "extra_body": {k: v for k, v in body.items() if k not in named}}


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait; None when it says nothing that can be read."""
    from email.utils import parsedate_to_datetime

    text = headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if seconds == seconds else None


def _openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise MissingDependencyError(
            "A server is asked through the package 'openai', which is not installed. Install it:"
            " pip install 'tutelage[server]'."
        ) from error
    return openai


def _key(base_url: str, key_env: str) -> str:
    """The key; empty when a server on this machine needs none."""
    key = os.environ.get(key_env, "").strip()
    if not key and not on_loopback(base_url):
        raise ConfigError(
            f"The server {base_url} is asked with a key, and the environment variable {key_env} is"
            f" empty. Set it (export {key_env}=...), to any word if the server asks for none; or"
            " name another variable as `key_env`."
        )
    return key
