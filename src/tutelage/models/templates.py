"""Chat templates are programs that come with a model: each is tried where it can do no harm.

That finds what runs on at any conversation. What runs on at some conversations alone is stopped
where it does so (``overdue``), unless that is inside of one operation of C.
"""

import functools
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tutelage.errors import ModelError

WORKER = Path(__file__).with_name("template_worker.py")
_SECONDS = 3
"""Of processor time, so that a busy machine changes no answer."""
_PATIENCE = 300.0
"""Seconds of the clock after which trying is given up, on however busy a machine."""
_TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}
_TRIED = (
    (("user",), True, False),
    (("user", "assistant", "user"), True, False),
    (("system", "user", "assistant"), False, False),
    (("user", "assistant") * 8, False, False),
    (("system", "user"), True, True),
)
"""Roles of the turns, whether the answer comes next, and whether there are tools."""
_WRONG = {
    "endless": "did not end within {seconds} seconds: it loops without end or nearly so",
    "memory": "fills the memory with a few words",
    "long": "makes more than a million characters of a few words",
}


def check_template_ends(tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer whose chat template runs on, or fills the memory, at a few words.

    That it refuses a conversation, or is malformed, is said where examples are rendered.

    Args:
        tokenizer: what has a chat template, or None of it.
        name: the model's, for the message.

    Raises:
        ModelError: the template does not end in time, or makes too much.
    """
    found: Any = tokenizer.chat_template or {}
    templates = list(found.values()) if isinstance(found, dict) else [found]
    if not all(isinstance(one, str) for one in templates):
        raise ModelError(
            f"The chat template of '{name}' is no text. Mend `chat_template` in"
            " tokenizer_config.json."
        )
    special = json.dumps(tokenizer.special_tokens_map, default=str)
    for template in templates:
        said = _tried(template, special, _SECONDS)
        if said != "ended":
            raise ModelError(
                f"The chat template of '{name}' {_WRONG[said].format(seconds=_SECONDS)}. Mend"
                " `chat_template`, or take the tokenizer files from the model's source again."
            )


@functools.lru_cache(maxsize=64)
def _tried(template: str, special: str, seconds: int) -> str:
    """How a template ends in a process of its own: ``ended``, ``endless``, ``memory``, ``long``."""
    conversations = [
        {
            **json.loads(special),
            "messages": [{"role": role, "content": "Hello."} for role in roles],
            "tools": [_TOOL] if tools else None,
            "documents": None,
            "add_generation_prompt": answer_next,
        }
        for roles, answer_next, tools in _TRIED
    ]
    asked = {"seconds": seconds, "template": template, "conversations": conversations}
    try:
        done = subprocess.run(
            [sys.executable, str(WORKER)],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return "endless"
    if done.returncode in (-signal.SIGKILL, -signal.SIGXCPU):  # its limit on time
        return "endless"
    if done.returncode < 0 or "MemoryError" in done.stderr:  # C code, and what it says of memory
        return "memory"
    return done.stdout.strip() or "ended"  # it could not be tried at all
