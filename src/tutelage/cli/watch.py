"""The command that looks at a run while it goes on."""

import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tutelage.cli.shared import JsonOption, QuietOption, app, say

_EVERY = 15.0
"""Seconds between two lines about one stage."""


@app.command("watch")
def watch_command(
    run_dir: Annotated[
        Path, typer.Argument(help="A run folder, which may come later, or that of a study.")
    ],
    port: Annotated[
        int | None,
        typer.Option(help="Serve the page at 127.0.0.1 and write nothing; 0: any free port."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.")] = 5.0,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Look at a run while it goes on: time left, curves, answers.

    Writes live.html into the run folder again and again until the run is finished; the page
    refreshes itself. It only reads what the run writes, and ends with Ctrl-C, the run does not.
    """
    from tutelage.watch import Watch, follow, give_way, served

    give_way()
    watch = Watch(run_dir, interval)
    if once:
        _print(watch.write(refreshing=False), run_dir, json_=json_)
        return
    stop = threading.Event()
    said: dict[str, Any] = {"about": None, "at": 0.0}

    def tell(run: Any) -> None:
        about, now = (run.state, run.stage), time.monotonic()
        if not quiet and (about != said["about"] or now - said["at"] >= _EVERY):
            said.update(about=about, at=now)
            say(run.line, err=True)

    with _ends(stop):
        if port is None:
            _print(follow(watch, stop, tell), run_dir, json_=json_)
            return
        with served(watch, port) as address:
            say(address)
            sys.stdout.flush()
            while not stop.wait(max(watch.rest, 0.2)):
                tell(watch.look())


def _print(run: Any, run_dir: Path, *, json_: bool) -> None:
    """The state of a run, and where its page is."""
    if json_:
        typer.echo(json.dumps(run.as_dict(), indent=2))
        return
    say(run.line)
    page = run_dir / "live.html"
    if page.is_file():
        say(f"page: {page}")


@contextlib.contextmanager
def _ends(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the watch in peace: it is not the run that is interrupted."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
