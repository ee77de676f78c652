"""The command line. Heavy imports happen inside the commands, so that ``--help`` answers at once.

Standard output is for results; progress and messages go to standard error. Exit codes: 0 done, 2
a mistake that the user can mend (one message, no traceback), 130 interrupted (143 by SIGTERM), 1
anything else.
"""

import os
import signal
import sys

import typer

from tutelage.cli import after, distil, evaluation, look, prepare, studies, watch
from tutelage.cli.shared import app, say
from tutelage.errors import TutelageError
from tutelage.interrupts import Interrupted, interruptible

__all__ = ["after", "app", "distil", "evaluation", "look", "main", "prepare", "studies", "watch"]

GOES_ON = ("run", "plan", "profile", "cache", "eval", "study", "tune")
"""Commands that keep what they have done, and of which the same one goes on from there."""


def main() -> None:
    """Entry point: run a command and turn a user's mistakes into one message and exit code 2."""
    try:
        with interruptible():
            app()
    except TutelageError as error:
        say(f"error: {error}", err=True)
        sys.exit(2)
    except (Interrupted, KeyboardInterrupt) as error:
        if int(os.environ.get("RANK", "0")) == 0:
            kept = "finished parts and checkpoints are kept; the same command goes on from there"
            goes_on = any(word in GOES_ON for word in sys.argv[1:2])
            typer.echo(f"interrupted: {kept}" if goes_on else "interrupted", err=True)
        sys.exit(128 + getattr(error, "number", signal.SIGINT))
    except BrokenPipeError:
        # The reader of a pipe has gone (`tutelage ls | head`); there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
