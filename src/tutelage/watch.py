"""Watching a run while it goes on: a page that is written again and again, or served on loopback.

A watch only reads. It takes no lock, works at a lower priority than the run, and draws for no more
than a tenth of the time.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tutelage.errors import ConfigError, TutelageError
from tutelage.files import atomic_write_text
from tutelage.report.live import LIVE_NAME, STARTED, LiveReader, LiveRun
from tutelage.report.live_page import LivePage, render_study
from tutelage.report.live_study import STUDY, LiveStudy, StudyReader

HOST = "127.0.0.1"
"""Nobody else on the network sees what is served."""

INTERVAL = 5.0
"""Seconds between two looks, unless told otherwise."""

_DUTY = 9.0
"""After a page was drawn the watch rests for so many times as long as that took."""


class Watch:
    """Looks at a run or a study and draws its page, both no more often than they change.

    Args:
        folder: the run folder, which may come later, or the folder of a study.
        interval: seconds between two looks, above 0.

    Raises:
        ConfigError: the interval is not above 0.
        RunFolderError: there is something else.
    """

    def __init__(self, folder: str | Path, interval: float = INTERVAL) -> None:
        if not 0 < interval <= 86_400:
            raise ConfigError(
                f"--interval is {interval:g}. Give the seconds between two looks, above 0 and at"
                " most a day."
            )
        self.folder = Path(folder)
        self.interval = interval
        self._is_study = (self.folder / STUDY).is_file()
        self._reader = StudyReader(folder) if self._is_study else LiveReader(folder)
        self._drawer = LivePage(self.folder)
        self._lock = threading.Lock()
        self._next = 0.0
        self._run: LiveRun | LiveStudy | None = None
        self._page = ""

    def look(self) -> LiveRun | LiveStudy:
        """The run as it is now, or as it was at the last look where it is too early for another."""
        with self._lock:
            now = time.monotonic()
            if self._run is None or now >= self._next:
                self._run, self._page = self._reader.look(), ""
                self._next = now + self.interval
            return self._run

    def page(self, *, refreshing: bool = True) -> str:
        """The page of the run as it is now; ``refreshing`` where a newer one will come."""
        run, every = self.look(), self.interval if refreshing else 0.0
        with self._lock:
            if not self._page:
                begun = time.monotonic()
                if isinstance(run, LiveStudy):
                    self._page = render_study(run, every=every)
                else:
                    self._page = self._drawer.render(run, every=every)
                now = time.monotonic()
                self._next = max(self._next, now + _DUTY * (now - begun))
            return self._page

    def write(self, *, refreshing: bool = True) -> LiveRun | LiveStudy:
        """Write ``live.html`` into the run folder, wholly or not at all, if there is a run."""
        run, page = self.look(), self.page(refreshing=refreshing)
        # Nothing is put where no run is: a new run takes an empty folder only.
        if self._is_study or (self.folder / STARTED).is_file():
            atomic_write_text(self.folder / LIVE_NAME, page)
        return run

    @property
    def rest(self) -> float:
        """Seconds until the next look."""
        return max(0.0, self._next - time.monotonic())


def give_way() -> None:
    """Let the run and everything else come first."""
    with contextlib.suppress(OSError):
        os.nice(10)


def follow(
    watch: Watch, stop: threading.Event, tell: Callable[[LiveRun | LiveStudy], Any]
) -> LiveRun | LiveStudy:
    """Write the page again and again until the run is finished, or somebody asks to stop.

    Args:
        watch: of the run.
        stop: set to end it.
        tell: called with the run at each look.

    Returns:
        The run as it was last.
    """
    while True:
        run = watch.write()
        tell(run)
        if run.is_over or stop.wait(max(watch.rest, 0.05)):
            return run


@contextlib.contextmanager
def served(watch: Watch, port: int) -> Iterator[str]:
    """Serve the page on loopback for the block; yields its address.

    Args:
        watch: of the run.
        port: from 0 (any that is free) to 65535.

    Raises:
        ConfigError: the port is taken, or no port.
    """
    if not 0 <= port <= 65_535:
        raise ConfigError(f"--port is {port}. Give one from 1024 to 65535, or 0 for any free one.")
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(watch))
    except OSError as error:
        raise ConfigError(
            f"Port {port} cannot be used: {error.strerror}. Another program may have it. Give"
            " another one, or --port 0 for any free one."
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(watch: Watch) -> type[BaseHTTPRequestHandler]:
    """Answers four fixed paths, and nothing that a path could lead to."""

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "tutelage", ""

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            try:
                status, kind, content = self._content()
            except TutelageError as error:
                status, kind, content = HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", str(error)
            data = content.encode("utf-8")
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("X-Frame-Options", "DENY")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                if body:
                    self.wfile.write(data)

        def _content(self) -> tuple[HTTPStatus, str, str]:
            name = self.headers.get("Host", "").rpartition(":")[0]
            if name not in (HOST, "localhost"):
                # A page from elsewhere whose name was made to lead here may not read the run.
                return HTTPStatus.FORBIDDEN, "text/plain", "This page is for 127.0.0.1 alone."
            path = urlsplit(self.path).path
            if path in ("/", f"/{LIVE_NAME}"):
                return HTTPStatus.OK, "text/html", watch.page()
            if path == "/state.json":
                return HTTPStatus.OK, "application/json", json.dumps(watch.look().as_dict())
            for page in ("report.html", "study.html"):
                if path == f"/{page}" and (watch.folder / page).is_file():
                    text = (watch.folder / page).read_text(encoding="utf-8")
                    return HTTPStatus.OK, "text/html", text
            return HTTPStatus.NOT_FOUND, "text/plain", "There is no such page."

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the terminal is for the run's state."""

    return Handler
