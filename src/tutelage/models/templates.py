"""Chat templates are programs that come with a model: they are given a limited time."""

import ctypes
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from tutelage.errors import ModelError

_SECONDS = 10.0
_TRIED = (
    (("user",), True),
    (("user", "assistant", "user"), True),
    (("system", "user", "assistant"), False),
)
_Result = TypeVar("_Result")


class _TimeIsUpError(BaseException):
    """Raised in the thread that took too long; no ``except Exception`` there may swallow it."""


def render_limited(render: Callable[[], _Result], whose: str) -> _Result:
    """What ``render`` returns or raises, unless it takes too long.

    Args:
        render: runs chat templates; its errors are passed on.
        whose: whose template it is, for the message.

    Raises:
        ModelError: time is up.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(render())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_TimeIsUpError)
        )
        thread.join(1.0)
        raise ModelError(
            f"The chat template of {whose} did not end within {_SECONDS:g} seconds: it loops"
            " without end or nearly so. Mend `chat_template`, or take the tokenizer files from the"
            " model's source again."
        )
    if errors:
        raise errors[0]
    return results[0]


def check_template_ends(tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer whose chat template runs on at a few words.

    That it refuses a conversation, or is malformed, is said where examples are rendered.

    Args:
        tokenizer: what has a chat template, or None of it.
        name: the model's, for the message.

    Raises:
        ModelError: the template does not end in time.
    """
    if not tokenizer.chat_template:
        return

    def try_all() -> None:
        for roles, answer_next in _TRIED:
            turns = [{"role": role, "content": "Hello."} for role in roles]
            try:
                tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=answer_next
                )
            except Exception:  # any error is an end
                continue

    render_limited(try_all, f"'{name}'")
