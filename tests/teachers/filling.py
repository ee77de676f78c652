"""Two workers that fill the store that is named; see test_teachers_store_workers.

The first stops in the middle of its first shard for good, when it has written its number beside the
store; the second, which this process becomes, begins then.
"""

import os
import sys
import time
from pathlib import Path

from conftest_models import random_rows, tiny_model
from conftest_teachers import spec_of
from tutelage.teachers import fill_store
from tutelage.teachers.store import write

AT_WORK = Path(sys.argv[1] + ".at-work")


def stopped(done, total):
    written = AT_WORK.with_suffix(".new")
    written.write_text(str(os.getpid()))
    written.rename(AT_WORK)
    time.sleep(1000)


if __name__ == "__main__":
    write.SMALLEST_SHARD, write.SHARDS_WANTED = 1, 5
    slow = os.fork() == 0  # before anything is computed: importing takes longest
    while not slow and not AT_WORK.exists():
        time.sleep(0.05)
    model, rows = tiny_model(seed=2, hidden=24, layers=3), random_rows()
    progress = stopped if slow else None
    fill_store(sys.argv[1], spec_of(), model, rows, batch_tokens=24, progress=progress)
