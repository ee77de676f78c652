"""The command line in one of several processes, of which the first alone may look for work.

Afterwards each process says what ``Processes.by_first`` gave it, and how it ended where that fails.
"""

import json
import os
import sys

from tutelage import cli
from tutelage.errors import ConfigError
from tutelage.pipeline.context import processes, session
from tutelage.pipeline.context.folder import PartsFolder
from tutelage.pipeline.stages import job, signal, store


def looked(*arguments, **named):
    raise AssertionError("a process that is not the first looked for work")


def fails():
    raise ConfigError("this cannot be")


FIRST = os.environ["RANK"] == "0"
if not FIRST:
    PartsFolder.fresh = session.Session.ready = looked
    session.held = store.store_need = signal.decide_signals = job.last_checkpoint = looked
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
several = processes.Processes()
first = several.by_first(os.getpid)
try:
    how = several.by_first(fails)
except ConfigError as error:
    how = str(error)
except SystemExit:
    how = "quietly"
print("\n" + json.dumps({"first": first == os.getpid(), "pid": first, "how": how}), file=sys.stderr)
