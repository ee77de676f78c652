"""The command line in one of two processes, of which the second works in another folder.

``one_elsewhere.py FOLDER KILL_AFTER ...``: the second one's folder, as on another host, and after
how many checkpoints the first one is killed (0: never).
"""

import os
import signal
import sys

from tutelage import cli
from tutelage.training import resume

folder, kill_after, *command = sys.argv[1:]
if os.environ["RANK"] == "1":
    os.chdir(folder)
sys.argv = ["tutelage", *command]
forget, saved = resume.forget_rollouts, []


def counted(trainer):
    forget(trainer)
    saved.append(trainer.state.global_step)
    if len(saved) == int(kill_after) and os.environ["RANK"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)


resume.forget_rollouts = counted
cli.main()
