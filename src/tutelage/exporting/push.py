"""Publish a folder on a hub: what would go is shown first, and nothing goes that should stay.

Only what a model needs may go: weights, tokenizer, configuration, card, licence. Everything else
(optimizer states, data, logs, answers to the user's prompts) is refused by name.
"""

import contextlib
import fnmatch
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tutelage.errors import ConfigError, RunFolderError, ServerError, TutelageError, first_line

REPORT = "report.html"
_MAY_GO = (
    "*.safetensors", "*.safetensors.index.json", "*.gguf", "config.json", "generation_config.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "*.model", "chat_template.jinja", "chat_template.json",
    "additional_chat_templates/*.jinja", "adapter_config.json", "README.md", "LICENSE*", "LICENCE*",
    "NOTICE*", "license*", "Notice*", "recipe.yaml", "tutelage.json",
)  # fmt: skip
_WEIGHTS = ("*.safetensors", "*.gguf")
_SHOWN, _LONGEST = 5, 200

_SAYS = {
    401: (
        "The hub does not accept the token. Log in with `hf auth login`, or set HF_TOKEN to a"
        " token that may write"
    ),
    403: (
        "The hub does not let this token write there. Use a token with write access to it, or"
        " another owner"
    ),
    404: "The hub knows no such repository, or hides it from this token. Check owner and name",
    409: "The hub has something of that name already, or somebody else writes there. Try again",
    413: "The hub refuses a file of that size",
    429: "The hub has had too many requests from here. Wait a while and push again",
}


@dataclass(frozen=True)
class Parcel:
    """A folder that may be published.

    Attributes:
        folder: where it is.
        files: names and sizes in bytes.
        warnings: what its owner should know first.
    """

    folder: Path
    files: tuple[tuple[str, int], ...]
    warnings: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(size for _, size in self.files)


@dataclass(frozen=True)
class Pushed:
    """What was published.

    Attributes:
        url: of the commit.
        repository: ``owner/name``.
        private: whether only its owner sees it.
        created: whether it is new.
    """

    url: str
    repository: str
    private: bool
    created: bool


def pack(folder: Path, *, with_report: bool = False) -> Parcel:
    """See what would go.

    Args:
        folder: an exported folder.
        with_report: let ``report.html`` go, which shows prompts and answers.

    Raises:
        RunFolderError: it holds files that should not go, or no weights.
    """
    if not folder.is_dir():
        raise RunFolderError(
            f"There is no folder '{folder}'. Give a run folder or an exported one."
        )
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    may_go = (*_MAY_GO, REPORT) if with_report else _MAY_GO
    others = [name for name in names if not any(fnmatch.fnmatchcase(name, one) for one in may_go)]
    links = [name for name in names if (folder / name).is_symlink()]
    if others or links:
        raise RunFolderError(
            f"'{folder}' holds {len(others or links)} files that should not go to a hub:"
            f" {', '.join((others or links)[:_SHOWN])}. Only weights, tokenizer, configuration,"
            " card and licence do. Push the run folder, of which only these are taken, or remove"
            " them; --with-report lets report.html go, which shows prompts and answers."
        )
    if not any(fnmatch.fnmatchcase(name, one) for name in names for one in _WEIGHTS):
        raise RunFolderError(
            f"'{folder}' holds no weights (*.safetensors). Give a run folder with a finished"
            " student, or a folder that `tutelage export` wrote."
        )
    files = tuple((name, (folder / name).stat().st_size) for name in names)
    return Parcel(folder, files, tuple(_warnings(folder)))


def _warnings(folder: Path) -> Iterator[str]:
    """What the card lacks, and what it and the recipe tell of this machine."""
    home = str(Path.home())
    telling = [
        name
        for name in ("README.md", "recipe.yaml", "adapter_config.json")
        if (folder / name).is_file()
        and len(home) > 1
        and home in (folder / name).read_text(encoding="utf-8", errors="replace")
    ]
    if telling:
        yield f"{' and '.join(telling)} name folders below '{home}'"
    card = folder / "README.md"
    if not card.is_file():
        yield "there is no model card (README.md)"
        return
    parts = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    try:
        front = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None
    except yaml.YAMLError:
        front = None
    if not isinstance(front, dict) or not front.get("license"):
        yield (
            "the model card names no licence (`license:` in the first lines of README.md); that of"
            " the student's start, of the teacher and of the data say which one can be given"
        )


def check_name(repository: str) -> None:
    """Refuse a name that no hub would take.

    Raises:
        ConfigError: it is not ``owner/name``.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ConfigError(
            f"'{repository[:80]}' is no name of a repository: {first_line(error)}"
        ) from error
    if repository.count("/") != 1:
        raise ConfigError(f"'{repository}' has no owner. Write owner/name, as in me/my-student.")


def send(
    parcel: Parcel,
    repository: str,
    *,
    public: bool = False,
    revision: str | None = None,
    message: str,
    tell: Callable[[str], Any] = lambda line: None,
) -> Pushed:
    """Publish; what is there already is not sent again, and a second push is a new commit.

    Args:
        parcel: what :func:`pack` gave.
        repository: ``owner/name``; made when it is not there.
        public: let everybody see it.
        revision: a branch, made when it is not there; None for the main one.
        message: of the commit.
        tell: prints a line.

    Raises:
        ConfigError: nobody is logged in, or the repository is public and that was not asked for.
        ServerError: the hub refuses or is away.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.utils import disable_progress_bars

    token = get_token()
    if not token:
        raise ConfigError(
            "Nobody is logged in to the hub. Run `hf auth login`, or set HF_TOKEN to a token that"
            " may write."
        )
    disable_progress_bars()
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)
    with _one_message(api.endpoint, token):
        tell(f"as {api.whoami().get('name')} at {api.endpoint}")
        created, private = _repository(api, repository, public)
        if not private and not public:
            raise ConfigError(
                f"'{repository}' is there already and everybody sees it. Add --public to push"
                " there, or choose another name."
            )
        if private and public:
            tell(f"'{repository}' is there already and is private; it stays so")
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository,
            folder_path=parcel.folder,
            revision=revision,
            commit_message=message,
            allow_patterns=[name for name, _ in parcel.files],
        )
    return Pushed(str(done.commit_url), repository, private, created)


def _repository(api: Any, repository: str, public: bool) -> tuple[bool, bool]:
    """Make it if need be: whether it is new, and whether it is private."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.create_repo(repository, private=not public, exist_ok=False)
    except HfHubHTTPError as error:
        if _status(error) != 409:
            raise
        return False, bool(api.model_info(repository).private)
    return True, not public


@contextlib.contextmanager
def _one_message(endpoint: str, token: str) -> Iterator[None]:
    """Turn what the hub's client raises into one message, without the token."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except TutelageError:
        raise
    except HfHubHTTPError as error:
        status = _status(error)
        says = _SAYS.get(status or 0, "The hub failed. Push again later; nothing is lost")
        said = (getattr(error, "server_message", None) or first_line(error)).strip()
        said = said.replace(token, "***")[:_LONGEST]
        raise ServerError(f"{says} ({endpoint}: {status or 'no status'}, {said}).") from None
    except OfflineModeIsEnabled:
        raise ConfigError(
            "HF_HUB_OFFLINE is set, so nothing can be pushed. Unset it first."
        ) from None
    except Exception as error:  # what carries its requests differs with the client's version
        said = (first_line(error) or type(error).__name__).replace(token, "***")[:_LONGEST]
        raise ServerError(
            f"The hub at {endpoint} cannot be reached, or does not answer as a hub does: {said}."
            " Check the connection and HF_ENDPOINT, and push again; what has arrived is not sent"
            " twice."
        ) from None


def _status(error: Any) -> int | None:
    """The status that a hub answered with."""
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)
