"""Attacks that use more than they may, or end where they should go on."""

from hostile_program import SYSTEM_CALLS, hostile

hostile("fork bomb", "starts processes that start processes", SYSTEM_CALLS, """
    import os
    def f(x):
        while True: os.fork()
    """)  # fmt: skip
hostile("daemon", "starts a sleeping child, to outlive it", SYSTEM_CALLS, """
    import os, time
    def f(x):
        if os.fork() == 0:
            os.setsid()
            time.sleep(1e6)
    """)  # fmt: skip
hostile("shell", "starts a shell", SYSTEM_CALLS, """
    import subprocess
    def f(x): return subprocess.run(["/bin/sh", "-c", "id"], capture_output=True).stdout
    """)  # fmt: skip
hostile("another program", "becomes another program, free of what this one was told",
        SYSTEM_CALLS, """
    import os, sys
    def f(x): os.execv(sys.executable, [sys.executable, "-c", "print(1)"])
    """)  # fmt: skip
hostile("threads", "starts a thousand threads", SYSTEM_CALLS, """
    import threading, time
    def f(x):
        for _ in range(1000): threading.Thread(target=time.sleep, args=(1e6,)).start()
    """, "raised RuntimeError: can't start new thread")  # fmt: skip
hostile("memory hog", "asks for 100 GB at once", "limit on memory", """
    def f(x): return len(bytearray(10**11))
    """, "memory")  # fmt: skip
hostile("growing list", "holds more and more", "limit on memory", """
    def f(x):
        held = []
        while True: held.append(bytearray(1 << 24))
    """, "memory")  # fmt: skip
hostile("endless loop", "computes for ever", "time by the clock", """
    def f(x):
        while True: pass
    """, "time limit", seconds=0.3)  # fmt: skip
hostile("endless loop in C", "computes for ever where no Python signal handler runs",
        "processor time", """
    def f(x): return 9 ** 9 ** 9
    """, "time limit|memory", slow=True, cpu_seconds=1)  # fmt: skip
hostile("deaf loop", "ignores every signal and computes for ever", "processor time", """
    import signal
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    def f(x):
        while True: pass
    """, "time limit", slow=True, cpu_seconds=1)  # fmt: skip
hostile("sleep", "waits for ever", "time by the clock", """
    import time
    def f(x): time.sleep(1e6)
    """, "time limit", seconds=0.3)  # fmt: skip
hostile("endless import", "never ends defining its function", "time by the clock", """
    while True: pass
    """, "time limit", seconds=0.3)  # fmt: skip
hostile("waiting for input", "reads from the keyboard", "input is empty", """
    def f(x): return input()
    """, "raised EOFError")  # fmt: skip
hostile("deep recursion", "calls itself for ever, with the limit on that lifted",
        "limit on memory; a process of its own", """
    import sys
    def f(x):
        sys.setrecursionlimit(10**9)
        return f(x)
    """, "memory|crashed|time limit|raised RecursionError", slow=True, cpu_seconds=2)  # fmt: skip
hostile("deep recursion in C", "overflows the stack", "a process of its own", """
    import sys
    def f(x):
        sys.setrecursionlimit(10**9)
        held = []
        for _ in range(2 * 10**5): held = [held]
        return len(repr(held))
    """, "memory|crashed|raised RecursionError", slow=True)  # fmt: skip
hostile("huge output", "prints 100 MB", "output goes nowhere", """
    import sys
    def f(x):
        for _ in range(50): print("x" * 10**6); sys.stderr.write("x" * 10**6)
    """, "wrong value")  # fmt: skip
hostile("huge answer", "returns 20 MB", "limit on a message", """
    def f(x): return "x" * 2 * 10**7
    """, "gave too large")  # fmt: skip
hostile("huge file", "fills the disk with one file", "limit on files", """
    def f(x):
        with open("big", "wb") as file:
            for _ in range(1000): file.write(bytes(1 << 20))
        return "written"
    """, "raised OSError")  # fmt: skip
hostile("many files", "fills the disk with many files",
        "size of its folder; without namespaces, a look every 20 ms", """
    def f(x):
        for number in range(10**5):
            with open(f"file-{number}", "wb") as file: file.write(bytes(1 << 20))
        return "written"
    """, "raised OSError|too much written")  # fmt: skip
hostile("all handles", "opens files without end", "limit on handles", """
    def f(x):
        held = []
        while True: held.append(open("/dev/null"))
    """, "raised OSError")  # fmt: skip
hostile("more for itself", "raises its own limits", "limits are hard, and it has no rights", """
    import resource
    def f(x): return resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))
    """, "raised (ValueError|PermissionError)")  # fmt: skip


hostile("crash", "reads from address zero", "a process of its own", """
    import ctypes
    def f(x): return ctypes.string_at(0)
    """, "crashed .SIGSEGV")  # fmt: skip
hostile("abort", "aborts", "a process of its own", """
    import os
    def f(x): os.abort()
    """, "crashed")  # fmt: skip
hostile("os._exit(0)", "ends with the exit code of success", "exit codes prove nothing", """
    import os
    def f(x): os._exit(0)
    """, r"ended by itself .exit code 0")  # fmt: skip
hostile("os._exit(0) at once", "ends with success before it is called", "exit codes prove nothing",
        """
    import os
    os._exit(0)
    """, r"ended by itself .exit code 0")  # fmt: skip
hostile("sys.exit", "raises SystemExit when it is loaded", "exit codes prove nothing", """
    import sys
    def f(x): return 0
    sys.exit(0)
    """, "raised SystemExit")  # fmt: skip
hostile("sys.exit in __del__", "ends when an object of its is thrown away",
        "exit codes prove nothing", """
    import sys
    class Bomb:
        def __del__(self): sys.exit(0)
    def f(x):
        Bomb()
        return 0
    """, "wrong value")  # fmt: skip
hostile("silence", "closes the pipe for replies", "no reply is no value", """
    import os
    def f(x):
        os.close(4)
        return 0
    """, "stopped answering|ended by itself")  # fmt: skip
