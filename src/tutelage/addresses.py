"""Addresses of storage elsewhere (``s3://bucket/folder``): what is one, and what can reach it."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tutelage.errors import ConfigError, MissingDependencyError, did_you_mean, first_line

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+:/")  # a Path makes one slash of two
_OF_THIS_MACHINE = ("file", "local")
_EXAMPLE = "Write it as in s3://bucket/folder"


def is_address(place: str | Path) -> bool:
    """Whether a text names a place elsewhere, and not a folder of this machine."""
    return _ADDRESS.match(str(place)) is not None


def checked_address(address: str) -> str:
    """An address as it is called, known again and shown: without a slash at its end.

    Raises:
        ConfigError: it is no address, or holds a password or a query, which would be shown.
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme in _OF_THIS_MACHINE:
        raise ConfigError(
            f"'{address}' is on this machine. Name the folder itself, without '{parts.scheme}://'."
        )
    if not parts.scheme or not parts.netloc or "::" in address:
        # Not repeated: what is no address may hold a key.
        raise ConfigError(f"A place elsewhere is named by its address. {_EXAMPLE}.")
    if ":" in parts.netloc.rpartition("@")[0] or parts.query or parts.fragment:
        raise ConfigError(
            "The address holds a password or a query, and addresses are written into run folders"
            f" and shown. {_EXAMPLE}, and put keys where its file system looks for them: into the"
            " environment (AWS_SECRET_ACCESS_KEY, FSSPEC_SFTP_PASSWORD...) or its own files."
        )
    return parts.scheme + address[len(parts.scheme) :].rstrip("/")


def file_system_class(address: str) -> Any:
    """The class of fsspec by which an address is reached; nothing is asked of the address.

    Raises:
        ConfigError: nobody knows this kind of address.
        MissingDependencyError: the package for it is not installed.
    """
    import fsspec
    from fsspec.registry import known_implementations

    kind = address.partition("://")[0]
    try:
        return fsspec.get_filesystem_class(kind)
    except ValueError:
        raise ConfigError(
            f"'{address}': '{kind}' is no kind of storage that fsspec knows."
            f"{did_you_mean(kind, fsspec.available_protocols())} {_EXAMPLE}, or install the package"
            " that brings this kind to fsspec."
        ) from None
    except ImportError as error:
        package = known_implementations.get(kind, {}).get("class", "").partition(".")[0]
        named = package if package not in ("", "fsspec") else "what it names"
        raise MissingDependencyError(
            f"'{address}' is reached through a package that is not installed"
            f" ({first_line(error)}). Install it: pip install {named}."
        ) from error
