"""Which process works on a run, seen without touching its lock."""

import contextlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_LOCKS = Path("/proc/locks")


@dataclass(frozen=True)
class Process:
    """A process that holds a run folder.

    Attributes:
        pid: its number.
        memory: bytes that it has in memory now, and had at most; empty when it is not known.
        gpu_memory: bytes that it holds on NVIDIA GPUs; None when there are none.
    """

    pid: int
    memory: tuple[int, ...] = ()
    gpu_memory: int | None = None


def process_of(folder: Path) -> Process | None:
    """The process that holds a run folder; None where none is seen on this machine.

    Asking for the lock would keep a run out that begins at that moment, so the system's own list of
    locks is read. Systems without one (macOS) say nothing: then the records alone speak.

    Args:
        folder: the run folder.
    """
    try:
        node = (folder / ".lock").stat().st_ino
        listed = _LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in listed:
        # 1: FLOCK  ADVISORY  WRITE 4711 fd:01:1234567 0 EOF; who waits has "->" after the number.
        words = line.split()
        if len(words) >= 6 and "->" not in words and words[5].rpartition(":")[2] == str(node):
            pid = int(words[4]) if words[4].isdecimal() else 0
            return Process(pid, _memory(pid), _gpu_memory(pid))
    return None


def _memory(pid: int) -> tuple[int, ...]:
    """Bytes in memory now, and at most."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                found[name] = 1024 * int(value.split()[0])
    return (found["VmRSS"], found["VmHWM"]) if len(found) == 2 else ()


def _gpu_memory(pid: int) -> int | None:
    """Bytes on NVIDIA GPUs; None when there are none, or the driver does not say."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = ["--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        listed = subprocess.run(
            [program, *query], capture_output=True, text=True, timeout=5, check=True
        ).stdout
        rows = (line.split(",") for line in listed.splitlines())
        held = [int(row[1]) << 20 for row in rows if len(row) == 2 and int(row[0]) == pid]
        return sum(held) if held else None
    return None
