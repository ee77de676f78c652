"""Pages as a browser shows them: the system's Chromium, driven by playwright, judged by axe-core.

``TUTELAGE_CHROMIUM`` names another browser and ``TUTELAGE_AXE`` another ``axe.min.js`` than the one
that `make browser` puts into build/browser. Where one of the three is not there, tests skip.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NARROW, WIDE = 390, 1280
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
AXE = ROOT / "build" / "browser" / "node_modules" / "axe-core" / "axe.min.js"

BAD = ("serious", "critical")
COLOURS = ["color-contrast", "link-in-text-block"]
"""Rules of axe whose outcome another colour scheme changes; all others are of the document."""

_LOOKED_AT = """() => {
  const seen = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (e !== element && style.overflowX !== 'visible') return false;
      if (style.visibility === 'hidden' || style.position === 'fixed') return false;
    }
    return true;
  };
  const pictures = [...document.images];
  return {
    title: document.title.trim(),
    language: document.documentElement.lang,
    headings: document.querySelectorAll('h1').length,
    unseen: pictures.filter(i => !i.naturalWidth).map(i => i.src),
    unnamed: pictures.filter(i => !i.hasAttribute('alt')).map(i => i.src),
    scrolls: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    wider: [...document.querySelectorAll('body *')].map(e => [e, e.getBoundingClientRect()])
      .filter(([e, box]) => box.width > 0 && box.right > innerWidth + 1 && seen(e))
      .map(([e, _]) => e.tagName.toLowerCase() + '.' + e.className).slice(0, 5),
  };
}"""
_ALL_THERE = """() => {
  for (const picture of document.images) picture.loading = 'eager';
  for (const folded of document.querySelectorAll('details')) folded.open = true;
}"""
_NOTHING_FOUND = {
    "config": {"lang": ["en"], "separator": r"[\s\-]+", "pipeline": [], "fields": {}},
    "docs": [],
}
_FOCUS = """() => {
  const e = document.activeElement;
  return [e.tagName.toLowerCase(), e.className, e.getAttribute('aria-label') || e.textContent]
    .join(' ').replace(/\\s+/g, ' ').trim();
}"""


def chromium() -> str | None:
    """The path of a browser, or None."""
    named = os.environ.get("TUTELAGE_CHROMIUM")
    return named or next(filter(None, map(shutil.which, BROWSERS)), None)


def axe() -> Path | None:
    """The file of axe-core, or None."""
    path = Path(os.environ.get("TUTELAGE_AXE", AXE))
    return path if path.is_file() else None


@contextmanager
def browser() -> Iterator["Looking"]:
    """A browser for some pages; the test that asks is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    path, script = chromium(), axe()
    if path is None or script is None:
        missing = "a Chromium (TUTELAGE_CHROMIUM)" if path is None else "axe-core (TUTELAGE_AXE)"
        pytest.skip(f"there is no {missing}: `make browser` installs it")
    with playwright.sync_playwright() as driver:
        # Without a sandbox it runs as root too, which machines of a gate do; pages are our own.
        shown = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield Looking(shown, script.read_text())
        finally:
            shown.close()


class Looking:
    """A browser that looks at pages and says what is wrong with them.

    Args:
        shown: playwright's browser.
        script: the text of axe-core.
    """

    def __init__(self, shown, script):
        self._script = script
        self._context = shown.new_context(
            reduced_motion="reduce", viewport={"width": WIDE, "height": 900}
        )
        self._page = self._context.new_page()
        self._asked = []
        self._page.on("request", lambda request: self._asked.append(request.url))
        self._errors = []
        # The site's index takes longer to read than most pages take to show.
        self._page.route("**/search_index.json", lambda route: route.fulfill(json=_NOTHING_FOUND))
        self._page.on("pageerror", lambda error: self._errors.append(f"script: {error}"))

    def faults(self, page: str | Path, *, axe: bool = True) -> list[str]:
        """What is wrong with a page, in words; empty for nothing.

        It has a title, a language and one first heading; its pictures are there and named; nothing
        is asked of another place; it does not scroll sideways on a telephone, where what is wide
        scrolls in itself.

        Args:
            page: a URL, or the path of an HTML file.
            axe: ask axe-core too, in light and in dark colours.
        """
        url = page if isinstance(page, str) else page.resolve().as_uri()
        self._asked.clear()
        self._errors.clear()
        self._page.set_viewport_size({"width": NARROW, "height": 800})
        self._page.emulate_media(color_scheme="light")
        self._page.goto(url, wait_until="load")
        self._page.evaluate(_ALL_THERE)
        self._page.wait_for_function("() => [...document.images].every(i => i.complete)")
        found = [*self._errors, *_said(self._page.evaluate(_LOOKED_AT))]
        own = url.split("/", 3)[:3]
        found += [
            f"asks {other}" for other in self._asked
            if other.split("/", 3)[:3] != own and not other.startswith(("data:", "blob:"))
        ]  # fmt: skip
        return found + (self._violations() if axe else [])

    def _violations(self) -> list[str]:
        """What axe-core finds in both colour schemes on a wide window."""
        self._page.set_viewport_size({"width": WIDE, "height": 900})
        self._page.evaluate(self._script)
        found = [f"light: {fault}" for fault in self._axe({})]
        self._page.emulate_media(color_scheme="dark")
        rules = {"runOnly": {"type": "rule", "values": COLOURS}}
        return found + [f"dark: {fault}" for fault in self._axe(rules)]

    def _axe(self, options: dict) -> list[str]:
        result = self._page.evaluate(
            "options => axe.run(document, options)", {"resultTypes": ["violations"], **options}
        )
        return [
            f"{one['id']}: {node['html'][:200]}: {node['failureSummary']}"
            for one in result["violations"]
            if one["impact"] in BAD
            for node in one["nodes"][:3]
        ]

    def stops(self, url: str, number: int) -> list[str]:
        """Where the first presses of Tab lead: tag, classes and name of each element."""
        self._page.set_viewport_size({"width": WIDE, "height": 900})
        self._page.goto(url, wait_until="load")
        found = []
        for _ in range(number):
            self._page.keyboard.press("Tab")
            found.append(self._page.evaluate(_FOCUS))
        return found

    def search(self, url: str, words: str) -> list[str]:
        """The titles of the pages that a page's search finds."""
        self._page.unroute("**/search_index.json")
        self._page.set_viewport_size({"width": WIDE, "height": 900})
        self._page.goto(url, wait_until="load")
        self._page.fill(".md-search__input", words)
        self._page.wait_for_selector(".md-search-result__item")
        return self._page.locator(
            ".md-search-result__item h1, .md-search-result__item h2"
        ).all_inner_texts()


def _said(seen: dict) -> list[str]:
    found = [] if seen["title"] else ["has no title"]
    found += [] if seen["language"] else ["says no language"]
    if seen["headings"] != 1:
        found.append(f"has {seen['headings']} first headings")
    found += [f"does not show {picture}" for picture in seen["unseen"]]
    found += [f"says nothing of the picture {picture}" for picture in seen["unnamed"]]
    if seen["scrolls"] > 0:
        found.append(f"is {seen['scrolls']} px too wide at {NARROW}: {', '.join(seen['wider'])}")
    return found
