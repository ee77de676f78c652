"""llms.txt: the site for readers that are programs (llmstxt.org), from the navigation itself."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

_nav: list[Navigation] = []
_LONGEST = 300


def remember(nav: Navigation) -> None:
    """Keep the navigation of this build."""
    _nav[:] = [nav]


def write(texts: dict[str, str], config: MkDocsConfig) -> None:
    """Write ``llms.txt``, ``llms-full.txt``, and every page's Markdown beside its HTML.

    Args:
        texts: the Markdown of each page, by its place in docs/.
        config: of the build.
    """
    site = Path(config.site_dir)
    index = [f"# {config.site_name}", "", f"> {config.site_description}"]
    whole: list[str] = []
    for top in _nav[0].items:
        pages = _pages(top)
        index += ["", f"## {top.title}", ""]
        for page in pages:
            uri, text = page.file.src_uri, texts[page.file.src_uri]
            about = first_paragraph(text)
            index.append(f"- [{page.title}]({uri})" + (f": {about}" if about else ""))
            if "\n::: " not in text:  # docstrings stand in the HTML alone
                whole.append(f"<!-- {uri} -->\n\n{text.strip()}\n")
    for uri, text in texts.items():
        path = site / uri
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (site / "llms.txt").write_text("\n".join(index) + "\n")
    (site / "llms-full.txt").write_text("\n".join(whole))


def _pages(item) -> list[Page]:  # noqa: ANN001
    """The pages of a section, in order."""
    if isinstance(item, Page):
        return [item]
    return [page for child in item.children or () for page in _pages(child)]


def first_paragraph(markdown: str) -> str:
    """The first words of a page that are no heading, table, picture, list or code; on one line."""
    for block in re.split(r"\n\s*\n", markdown):
        text = " ".join(block.split())
        if text and not re.match(r"[#|<!`>*:\[-]|\d+\. ", text.removeprefix("**Claim.** ")):
            text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text.replace("**", ""))
            sentences = re.findall(r".+?[.:](?= |$)", text) or [text]
            said = sentences[0]
            for sentence in sentences[1:]:
                if len(said) + len(sentence) > _LONGEST:
                    break
                said += sentence
            return said.strip().rstrip(":")
    return ""
