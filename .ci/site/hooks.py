"""What MkDocs does besides building docs/: the pages of the root, links to files, llms.txt."""

from typing import Any

import llms
import sources
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

_seen: dict[str, str] = {}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files that lie outside docs/ and are linked from pages."""
    _seen.clear()
    return sources.with_outside(files, config)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to where the site has what they name in the repository."""
    text = sources.relinked(markdown, page.file, files)
    _seen[page.file.src_uri] = text
    return text


def on_nav(nav: Navigation, **_: Any) -> None:
    """Keep the navigation for llms.txt."""
    llms.remember(nav)


def on_post_build(config: MkDocsConfig) -> None:
    """Write llms.txt, llms-full.txt and each page as Markdown beside it."""
    llms.write(_seen, config)
