"""Pages and files outside docs/, and links that lead to them, so that both read well anywhere.

In the repository a page links to ``../README.md`` or ``../studies/methods.yaml``, which is what
GitHub shows. The site has these too: the pages of the root under names of their own, text files
that are linked as pages that show them, everything else as it is, and folders as lists.
"""

import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "index.md",
    "docs/README.md": "contents.md",
    "benchmarks/README.md": "benchmarks.md",
    "PAPERS.md": "PAPERS.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
}
"""Files of the repository that are pages of the site under another name."""

SHOWN = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".txt": "text"}
"""Kinds of files that get a page which shows them, with the language of each."""

_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[#)])")
_NAMED = re.compile(r"\[((?:[\w-]+/)*[\w-]+\.md)\]\(([^)\s#]+)")
_FENCED = re.compile(r"(^ *(`{3,}|~{3,}).*?^ *\2 *$)", re.MULTILINE | re.DOTALL)


def place_of(file: File) -> str:
    """Where in the repository a file of the site comes from; "" for one from elsewhere."""
    path = Path(file.abs_src_path or "/").resolve()
    inside = path.is_relative_to(ROOT) and "site-packages" not in path.parts
    return path.relative_to(ROOT).as_posix() if inside else ""


def with_outside(files: Files, config: MkDocsConfig) -> Files:
    """The files of docs/ with all that their links name, however far that leads."""
    if (index := files.get_file_from_path("README.md")) is not None:
        files.remove(index)
    for place, uri in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / place)))
    known = {place_of(file) for file in files}
    todo = [file for file in files if file.is_documentation_page()]
    while todo:
        file = todo.pop()
        for place in sorted(_targets(file.content_string, place_of(file)) - known):
            known.add(place)
            made = _outside(place, config)
            files.append(made)
            if made.is_documentation_page():
                todo.append(made)
    return files


def relinked(markdown: str, file: File, files: Files) -> str:
    """A page's text with its links to files of the repository turned into links of the site.

    A link that is called by the name of its file, as in ``[plans.md](plans.md)``, is called by the
    title of the page instead.
    """
    base = place_of(file)
    if not base:
        return markdown
    here = PurePosixPath(file.src_uri).parent
    uris = {place_of(one): one.src_uri for one in files if one.abs_src_path is not None}

    def site_link(match: re.Match[str]) -> str:
        place = _place(match[1], base)
        uri = None if place is None else uris.get(place, _shown_at(place))
        return match[1] if uri is None else _relative(PurePosixPath(uri), here)

    def title(match: re.Match[str]) -> str:
        place = _place(match[2], base)
        if place is None or PurePosixPath(match[1]).name != PurePosixPath(place).name:
            return match[0]
        return f"[{_title(ROOT / place)}]({match[2]}"

    return _outside_fences(markdown, lambda text: _LINK.sub(site_link, _NAMED.sub(title, text)))


def _targets(markdown: str, base: str) -> set[str]:
    """The places in the repository that a page links to, where they exist."""
    if not base:
        return set()
    found: set[str] = set()
    _outside_fences(
        markdown,
        lambda text: (
            found.update(
                place for link in _LINK.findall(text) if (place := _place(link, base)) is not None
            )
            or text
        ),
    )
    return found


def _place(link: str, base: str) -> str | None:
    """What a link of the file ``base`` names, from the root; None for what is no file there."""
    if re.match(r"[a-z]+:|/", link):
        return None
    path = (ROOT / base).parent.joinpath(link).resolve()
    if not path.exists() or not path.is_relative_to(ROOT):
        return None  # left as it is: the build is strict and names it
    return path.relative_to(ROOT).as_posix()


def _shown_at(place: str) -> str:
    """Where the site has a file of the repository that is in no other place of it."""
    path = ROOT / place
    if path.is_dir() or path.suffix in SHOWN:
        return f"source/{place}.md"
    return f"source/{place}"


def _outside(place: str, config: MkDocsConfig) -> File:
    """A file or folder of the repository as a file of the site."""
    path, uri = ROOT / place, _shown_at(place)
    if path.is_dir():
        return File.generated(config, uri, content=_listing(place))
    if path.suffix in SHOWN:
        return File.generated(config, uri, content=_shown(path, place))
    if path.suffix == ".md":
        raise PluginError(f"{place} is linked and is no page: name it in PAGES of {__file__}")
    return File.generated(config, uri, abs_src_path=str(path))


def _shown(path: Path, place: str) -> str:
    """A page that shows a text file."""
    text = path.read_text()
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text) or [""]))
    return f"# {path.name}\n\n`{place}`\n\n{fence}{SHOWN[path.suffix]}\n{text}\n{fence}\n"


def _listing(place: str) -> str:
    """A page that lists the pages and text files in a folder."""
    rows = [f"# {place}\n"]
    back = "../" * (1 + place.count("/"))
    for path in sorted((ROOT / place).rglob("*")):
        inside = path.relative_to(ROOT).as_posix()
        title = _title(path) if path.suffix in (".md", ".yaml") else ""
        if path.suffix == ".md" and inside.startswith("docs/"):
            rows.append(f"- [{title}]({back}{inside.removeprefix('docs/')})")
        elif path.suffix == ".yaml":
            rows.append(f"- `{path.relative_to(ROOT / place)}`: {title}")
    return "\n".join(rows) + "\n"


def _title(path: Path) -> str:
    """The heading of a page, or what a study or recipe calls itself."""
    found = re.search(r"^(?:# |title: )(.+)$", path.read_text(), re.MULTILINE)
    return path.stem if found is None else found[1].strip("\"'")


def _relative(uri: PurePosixPath, here: PurePosixPath) -> str:
    """The way from one folder of the site to a file."""
    shared = 0
    for a, b in zip(uri.parts[:-1], here.parts, strict=False):
        if a != b:
            break
        shared += 1
    return "/".join([".."] * (len(here.parts) - shared) + list(uri.parts[shared:]))


def _outside_fences(markdown: str, change) -> str:  # noqa: ANN001
    """Apply a function to all text that is in no block of code."""
    parts, end = [], 0
    for match in _FENCED.finditer(markdown):
        parts += [change(markdown[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(markdown[end:])])
