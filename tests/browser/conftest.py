"""The site as it is built, behind a server on this machine."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from browsing import ROOT, browser

SITE = ROOT / "build" / "site"
SOURCES = ("docs", "src", "studies", "examples", "benchmarks", ".ci/site")


def newest():
    """When a file was last changed that the site is made of."""
    files = [*ROOT.glob("*.md"), ROOT / "mkdocs.yml"]
    for name in SOURCES:
        # Not folders: one is changed too where what is compiled is kept in it.
        files += [
            path
            for path in (ROOT / name).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ]
    return max(path.stat().st_mtime for path in files)


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the site; built, strictly, where it is not of the sources as they are."""
    pytest.importorskip("mkdocstrings_handlers.python", reason="needs pip install -e '.[docs]'")
    pytest.importorskip("material")
    SITE.parent.mkdir(exist_ok=True)
    with FileLock(SITE.parent / "site.lock"):
        made = SITE / ".whole"  # `make site` leaves it too, and a build that fails does not
        if not made.is_file() or made.stat().st_mtime < newest():
            built = subprocess.run(
                # Not --quiet, which takes warnings for none.
                [sys.executable, "-m", "mkdocs", "build", "--strict"],
                cwd=ROOT,
                env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
                capture_output=True,
                text=True,
            )
            assert built.returncode == 0, built.stdout + built.stderr
            made.touch()
    return SITE


class Silent(http.server.SimpleHTTPRequestHandler):
    """Says nothing of each request."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def served(site):
    """The URL of the site on this machine."""
    handler = functools.partial(Silent, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def looking():
    """A browser."""
    with browser() as shown:
        yield shown
