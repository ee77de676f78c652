"""One base error, and one child for each kind of mistake that a user can make.

Each child also inherits the standard type that fits, so that callers who never heard of Tutelage
can catch it. To add one: subclass ``TutelageError`` and the standard type, say in the docstring
what the user did, and raise it with a message of three parts: what is wrong, why, and what to do.
The command line prints the message alone and exits with code 2.
"""

import difflib
from collections.abc import Iterable


class TutelageError(Exception):
    """Base of every error that the user can cause and mend."""


class ConfigError(TutelageError, ValueError):
    """A recipe or an argument holds an unknown key, an unknown name or a bad value."""


class DataError(TutelageError, ValueError):
    """A data file is missing, malformed, or leaves nothing to learn from."""


class ModelError(TutelageError, ValueError):
    """A model or tokenizer is missing, broken, or does not fit the other one."""


class MissingDependencyError(TutelageError, ImportError):
    """An optional package is needed for what was asked and is not installed."""


class NonFiniteLossError(TutelageError, ArithmeticError):
    """The loss became NaN or infinite during training."""


class RunFolderError(TutelageError, OSError):
    """A run folder is in use, was made by another recipe, or cannot be written."""


class ServerError(TutelageError, ConnectionError):
    """A server that answers prompts is away, busy for too long, or refuses what it is asked."""


class SpendingLimitError(TutelageError, RuntimeError):
    """What is asked of a paid server would cost more than the user allows."""


class StoreError(TutelageError, ValueError):
    """A teacher store is missing, out of reach, damaged, or was made from another teacher."""


class SandboxError(TutelageError, RuntimeError):
    """Programs that a model wrote were to be run, and nothing here can shut them in."""


def first_line(error: BaseException) -> str:
    """What an error of somebody else says, on one line without its full stop; or its kind."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known name, or an empty string when none is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not in a table of components.

    Args:
        kind: what the name names, for example ``"divergence"``.
        name: what the user wrote.
        known: the names that exist.

    Returns:
        An error that suggests the nearest name and lists them all.
    """
    known = sorted(known)
    return ConfigError(
        f"Unknown {kind} '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}."
    )
