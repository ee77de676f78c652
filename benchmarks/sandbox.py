"""What running a program in the sandbox costs, and what becomes of attacks.

``python benchmarks/sandbox.py`` measures a program that does next to nothing, on each backend that
works here: from the request to the verdict with all processes gone, one at a time. Beside it stands
what two forks of Python cost that end at once: less it cannot be. Processor time is that of this
process and of all that it started, for machines that do other things besides.

``python benchmarks/sandbox.py --hostile docs/results/sandbox.md`` runs the attacks of the tests and
writes their table.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import arguments, environment, in_turn, shown, spread, table, write_results

from tutelage.errors import SandboxError
from tutelage.evaluation import sandbox
from tutelage.evaluation.sandbox import BACKENDS, Limits, Task
from tutelage.evaluation.sandbox.backends import Library
from tutelage.evaluation.sandbox.pool import Worker

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "evaluation"))
PROGRAMS = {
    "one call": Task("def f(x):\n    return x + 1\n", "assert f(1) == 2", "f"),
    "a hundred calls": Task(
        "def f(x):\n    return x + 1\n", "for n in range(100):\n    assert f(n) == n + 1", "f"
    ),
}
CONTROL = "two forks of Python that end at once"
FORKS = """
import gc, json, os, sys, time
os.register_at_fork = lambda **_: None
sys.path.insert(0, sys.argv[1])
from inside.zygote import load
load()
gc.collect()
gc.freeze()
clock = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    numbers = []
    for _ in range(2):
        numbers.append(os.fork())
        if not numbers[-1]:
            os._exit(0)
    for number in numbers:
        os.waitpid(number, 0)
    clock.append(time.perf_counter() - start)
print(json.dumps([clock, sum(os.times()[:4])]))
"""
ATTACKED = Limits(cpu_seconds=2, seconds=20, memory=1 << 28)


def busy(group: int) -> float:
    """Seconds of processor time of this process and of a sandbox with all that it has ended."""
    ticks = 0
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:  # pid (name) state parent group session ... utime stime cutime cstime
            words = place.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(words[3]) == group:
            ticks += sum(map(int, words[11:15]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def working() -> list[str]:
    """Backends that can be started here."""
    found = []
    for name in BACKENDS:
        try:
            Worker(name).close()
            found.append(name)
        except SandboxError as error:
            print(error, file=sys.stderr)
    return found


def measure(case: str, repeats: int) -> dict[str, float]:
    """Milliseconds a program: by the clock (median and least) and of processor time (mean)."""
    if case == CONTROL:
        home = str(Path(sandbox.__file__).parent)
        words = [Library().python, "-S", "-c", FORKS, home, str(repeats)]
        done = subprocess.run(words, capture_output=True, check=True, text=True)
        return _milliseconds(*json.loads(done.stdout))
    backend, _, program = case.partition(": ")
    worker = Worker(backend)
    try:
        clock, before = [], busy(worker.group)
        for _ in range(repeats):
            start = time.perf_counter()
            assert worker.run(PROGRAMS[program], Limits()).passed
            clock.append(time.perf_counter() - start)
        used = busy(worker.group) - before
    finally:
        worker.close()
    return _milliseconds(clock, used)


def _milliseconds(clock: list[float], used: float) -> dict[str, float]:
    """Of each program, from all of them."""
    return {
        "clock_ms": 1e3 * statistics.median(clock),
        "least_ms": 1e3 * min(clock),
        "processor_ms": 1e3 * used / len(clock),
    }


def costs(options: argparse.Namespace) -> None:
    """Measure, print and write what a program costs."""
    cases = [f"{backend}: {program}" for backend in working() for program in PROGRAMS]
    cases.append(CONTROL)
    found = in_turn(cases, options.rounds, lambda case: measure(case, options.repeats))
    records = [
        {
            "case": case,
            "repeats": options.repeats,
            **{key: spread(each[key] for each in rounds) for key in rounds[0]},
        }
        for case, rounds in found.items()
    ]
    options.name = options.name or "sandbox"
    write_results("sandbox", options, records)
    head = ["case", "ms by the clock", "the least", "ms of processor time"]
    keys = ("clock_ms", "least_ms", "processor_ms")
    print(table(head, [[r["case"], *(shown(r[key], 1) for key in keys)] for r in records]))


def attack(backend: str, outside: Path, port: int) -> list[str]:
    """What became of every attack, in words."""
    import hostile

    worker = Worker(backend)
    words = []
    for program in hostile.ALL:
        limits = Limits(**{**vars(ATTACKED), **dict(program.limits)})
        task = Task(program.text(outside, port), hostile.CHECKS, "f")
        outcome = worker.run(task, limits)
        right = not outcome.passed and re.match(program.why, outcome.why)
        why = outcome.why.replace(str(outside), "FILE").replace("|", "/").replace("\n", " ")[:90]
        words.append(why if right else f"**ESCAPED**: {why}")
    worker.close()
    return words


def attacks(path: Path, options: argparse.Namespace) -> None:
    """Run all attacks and write their table."""
    import hostile

    backends = working()
    with tempfile.TemporaryDirectory() as folder, socket.socket() as listener:
        outside = Path(folder, "answers.jsonl")
        outside.write_text(hostile.SECRET)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        found = [attack(backend, outside, listener.getsockname()[1]) for backend in backends]
        assert outside.read_text() == hostile.SECRET
    rows = [
        [number, program.name, program.does, program.by, *words]
        for number, (program, *words) in enumerate(zip(hostile.ALL, *found, strict=True), 1)
    ]
    escaped = sum("ESCAPED" in str(row) for row in rows)
    about = environment(options)
    lines = [
        "# Attacks on the sandbox",
        "",
        f"{len(rows)} programs that attack; {len(rows) - escaped} are contained and scored wrong on"
        f" {' and on '.join(backends)}, {escaped} are not. Each is a test"
        " (`tests/evaluation/hostile_*.py`), which also looks that files outside are as they were,"
        " nobody connected, no process is left, and the next program runs. Written by"
        " `python benchmarks/sandbox.py --hostile docs/results/sandbox.md`;"
        f" Python {about['versions']['python']}, {about['processor']['model']}.",
        "",
        "Where two things stand for what contains an attack, the second is what does so without"
        " namespaces.",
        "",
        table(["", "attack", "what it does", "contained by", *backends], rows),
        "",
    ]
    path.write_text("\n".join(lines))
    print(f"{path}: {len(rows)} attacks, {escaped} escaped")


def main() -> None:
    """Read the command line."""
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=100, help="programs in a round")
    parser.add_argument("--hostile", type=Path, help="write the table of attacks to this file")
    options = parser.parse_args()
    attacks(options.hostile, options) if options.hostile else costs(options)


if __name__ == "__main__":
    main()
