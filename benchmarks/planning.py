"""How long planning takes, and how much memory: ``python benchmarks/planning.py``.

Planning is what lies between a difficulty file and a plan folder: ``load_profile``,
``compile_plan``, ``describe_plan`` and ``save_plan``. Every case runs in a process of its own; its
peak memory is what the system says, interpreter and libraries included. Seconds of processor time
(over all threads) stand beside those of the clock, for machines that do other things besides. Ids
are 16 hexadecimal digits in no order, as ids made from content are. Prints Markdown.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BATCH = 64
CASES = {
    "calibrated, 5 stages": {"kind": "calibrated", "stages": 5},
    "calibrated, 20 stages": {"kind": "calibrated", "stages": 20},
    "baby_steps, 4 stages": {"kind": "baby_steps", "stages": 4},
    "linear_growth, 20 stages": {"kind": "linear_growth", "stages": 20},
    "bands, 3 stages": {"kind": "bands", "stages": 3},
    "shrinking, 10 stages": {"kind": "shrinking", "stages": 10},
    "calibrated, 5 stages, scores in eighths": {"kind": "calibrated", "stages": 5},
    "calibrated, 20 stages, 20 epochs": {"kind": "calibrated", "stages": 20, "epochs": 20},
}
"""Curricula, with as many visits in all as there are examples unless ``epochs`` says otherwise."""

STEPS = ("load_profile", "compile_plan", "describe_plan", "save_plan")
AFTER = ("load_plan", "plan_fingerprint")


def make_profile(path: Path, size: int, ties: bool) -> None:
    """A difficulty file with ``size`` examples; with ``ties``, of scores that often repeat."""
    rng = np.random.default_rng(size)
    scores = rng.gamma(4.0, 0.5, size)
    if ties:
        scores = np.round(np.minimum(scores, 4.0) * 2) / 8
    digits = np.frombuffer(rng.bytes(8 * size).hex().encode(), dtype="S16")
    assert len(np.unique(digits)) == size
    table = pa.table(
        {"id": pa.array(digits.astype(str)) if size < 10**7 else _texts(digits), "score": scores},
        metadata={"measure": "student_loss"},
    )
    pq.write_table(table, path)


def _texts(digits: np.ndarray) -> pa.Array:
    """Strings of 16 characters each, without a Python object for any of them."""
    offsets = np.arange(0, 16 * len(digits) + 1, 16, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.string(), len(digits), [None, pa.py_buffer(offsets), pa.py_buffer(digits.tobytes())]
    )


def measure(path: Path, case: str) -> dict:
    """Plan once, in this process."""
    from tutelage.curriculum import (
        CurriculumOptions,
        PlanSettings,
        compile_plan,
        describe_plan,
        load_plan,
        plan_fingerprint,
        save_plan,
    )
    from tutelage.difficulty.files import load_profile

    seconds: dict[str, float] = {}
    started = time.process_time()

    def timed(name, function, *arguments, **options):
        start = time.perf_counter()
        result = function(*arguments, **options)
        seconds[name] = time.perf_counter() - start
        return result

    options = CurriculumOptions(**{"epochs": 1, **CASES[case]}, iteration_ratio=1.0)
    before = peak()
    profile = timed("load_profile", load_profile, path)
    settings = PlanSettings(
        options, batch_size=BATCH, student_share={"kind": "shifted"}, ce_weight=0.3
    )
    plan = timed("compile_plan", compile_plan, profile, settings)
    description = timed("describe_plan", describe_plan, plan, profile, case)
    with tempfile.TemporaryDirectory() as folder:
        timed("save_plan", save_plan, folder, plan, description)
        memory, visits = peak(), len(plan.visits)
        busy = time.process_time() - started
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        del plan, profile
        again = timed("load_plan", load_plan, folder)
    fingerprint = timed("plan_fingerprint", plan_fingerprint, again)
    assert fingerprint == description["fingerprint"]
    return {
        "seconds": seconds,
        "memory": memory,
        "busy": busy,
        "libraries": before,
        "visits": visits,
        "bytes": size,
        "fingerprint": fingerprint[:16],
    }


def peak() -> float:
    """Peak resident memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def run(case: str, size: int, path: Path) -> dict:
    """Measure in a fresh process."""
    # The system counts a child's peak from that of its parent: this process stays small.
    command = [sys.executable, __file__, "--child", case, "--profile", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e5, 1e6, 1e7])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--child", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--profile", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        return make_profile(given.profile, int(given.make[0]), given.make[1] == "ties")
    if given.child:
        return print(json.dumps(measure(given.profile, given.child)))
    print(f"`{' '.join(['python', *sys.argv])}`, batches of {BATCH}; {machine()}\n")
    heads = [
        "examples",
        "case",
        "visits",
        "**planning, s**",
        "processor, s",
        *STEPS,
        "**peak GB**",
        *AFTER,
    ]
    heads += ["MB on disk", "fingerprint"]
    print("|", " | ".join(heads), "|")
    print("|" + "---|" * len(heads))
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, given.sizes):
            for ties in (False, True):
                chosen = [case for case in given.cases if ("eighths" in case) == ties]
                path = Path(folder) / f"{size}-{ties}.parquet"
                if chosen:
                    make = [str(size), "ties" if ties else "distinct"]
                    command = [sys.executable, __file__, "--make", *make, "--profile", str(path)]
                    subprocess.run(command, check=True)
                for case in chosen:
                    print(row(size, case, run(case, size, path)), flush=True)


def row(size: int, case: str, found: dict) -> str:
    """One line of the table."""
    seconds = found["seconds"]
    total = sum(seconds[name] for name in STEPS)
    cells = [f"{size:,}", case, f"{found['visits']:,}", f"**{total:.2f}**", f"{found['busy']:.2f}"]
    cells += [f"{seconds[name]:.2f}" for name in STEPS]
    cells += [f"**{found['memory']:.2f}**", *(f"{seconds[name]:.2f}" for name in AFTER)]
    cells += [f"{found['bytes'] / 1e6:.0f}", f"`{found['fingerprint']}`"]
    return "| " + " | ".join(cells) + " |"


def machine() -> str:
    """Processor and versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cores = f"{len(names)} x {names[0]}" if names else platform.processor()
    versions = (
        f"Python {platform.python_version()}, numpy {np.__version__}, pyarrow {pa.__version__}"
    )
    return f"{cores}, {platform.system()}, {versions}."


if __name__ == "__main__":
    main()
