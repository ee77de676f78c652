"""Attacks that reach for what is not theirs: secrets, files, other processes, the network."""

from hostile_program import REFUSED, SYSTEM_CALLS, hostile

LIBC = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def checked(result):
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""

hostile("/etc/passwd", "reads the users of the machine", "no such file; Landlock", """
    def f(x): return open("/etc/passwd").read()
    """)  # fmt: skip
hostile("the answers", "reads a file of the user's", "no such file; Landlock", """
    def f(x): return open("{outside}").read()
    """)  # fmt: skip
hostile("a link to the answers", "reads a file through a link in its folder", SYSTEM_CALLS, """
    import os
    def f(x):
        os.symlink("{outside}", "link")
        return open("link").read()
    """)  # fmt: skip
hostile("a file by its handle", "opens a file by number, past all folders", SYSTEM_CALLS, LIBC + """
def f(x):
    return checked(libc.open_by_handle_at(-100, bytes(32), 0))
""")  # fmt: skip
hostile("search", "searches all folders for benchmarks", "no such folder; Landlock", """
    import os
    def f(x):
        found = []
        for place, _, names in os.walk("/"):
            if "python3" not in place:
                found += [name for name in names if name.endswith((".jsonl", ".parquet"))]
        if not found: raise FileNotFoundError("nothing")
        return found
    """)  # fmt: skip
hostile("installed packages", "imports a package that may carry answers",
        "the standard library alone", """
    def f(x):
        import numpy, pip
        return 1
    """, "raised ModuleNotFoundError")  # fmt: skip
hostile("environment", "reads keys from the environment", "an environment of its own", """
    import os, ctypes
    def f(x):
        found = set(os.environ) - {"HOME", "TMPDIR", "LANG", "PATH"}
        if not found: raise FileNotFoundError("nothing")
        return sorted(found)
    """)  # fmt: skip
hostile("first environment", "reads the environment that the process began with",
        "no such file; Landlock", """
    def f(x): return open("/proc/self/environ").read() + open("/proc/1/environ").read()
    """)  # fmt: skip
hostile("parent's memory", "reads the memory of the process that started it",
        "no such file; Landlock", """
    import os
    def f(x): return open(f"/proc/{os.getppid()}/mem", "rb").read(10)
    """)  # fmt: skip
hostile("ptrace", "takes hold of the process that started it", SYSTEM_CALLS, LIBC + """
def f(x): return checked(libc.ptrace(16, os.getppid(), 0, 0))
""")  # fmt: skip
hostile("another's memory", "reads memory of the checks by its process number",
        SYSTEM_CALLS, LIBC + """
def f(x):
    for number in range(1, 50):
        if number != os.getpid():
            checked(libc.process_vm_readv(number, 0, 0, 0, 0, 0))
    return "read"
""")  # fmt: skip
hostile("another's handles", "opens the checks' pipes by their process numbers",
        "no such file; Landlock", """
    import os
    def f(x):
        for number in {*range(os.getpid() - 20, os.getpid() + 20), os.getppid()} - {os.getpid()}:
            for handle in range(10):
                try: return os.open(f"/proc/{number}/fd/{handle}", os.O_RDWR)
                except OSError: pass
        raise FileNotFoundError("nothing")
    """)  # fmt: skip
hostile("left handles", "looks for handles that were left open", "all others are closed", """
    import os
    def f(x):
        found = []
        for handle in range(5, 5000):
            try: found.append((handle, os.fstat(handle).st_mode))
            except OSError: pass
        if not found: raise FileNotFoundError("nothing")
        return found
    """)  # fmt: skip
hostile("all objects", "searches every object of its process for the expected value",
        "the checks are another process", """
    import gc
    def f(x):
        word = "SECR" + "ET-"
        for each in gc.get_objects():
            for part in (each.values() if type(each) is dict else [each]):
                if type(part) is str and part.startswith(word): return part
        raise FileNotFoundError("nothing")
    """)  # fmt: skip
hostile("own memory", "searches its memory for the expected value",
        "the checks are another process, started from one that never had them", """
    import ctypes
    def f(x):
        word = ("SECR" + "ET-").encode()
        start = id(object())
        text = ctypes.string_at(start & ~0xFFFF, 0x8000)
        place = text.find(word)
        if place >= 0: return text[place:place + 11].decode()
        raise FileNotFoundError("nothing")
    """, REFUSED + "|crashed")  # fmt: skip
hostile("frames", "searches the frames that called it for the expected value",
        "the checks are another process", """
    import sys
    def f(x):
        frame = sys._getframe()
        while frame:
            for part in [*frame.f_locals.values(), *frame.f_globals.values()]:
                if "SECR" + "ET-" in str(part)[:10**5]: return part
            frame = frame.f_back
        raise FileNotFoundError("nothing")
    """)  # fmt: skip


hostile("writing outside", "overwrites a file of the user's",
        "read-only, or not there; Landlock", """
    def f(x):
        with open("{outside}", "w") as file: return file.write("changed")
    """)  # fmt: skip
hostile("deleting outside", "deletes a file of the user's", "not there; Landlock", """
    import os
    def f(x): return os.remove("{outside}")
    """)  # fmt: skip
hostile("cutting outside", "empties a file of the user's by its name", SYSTEM_CALLS, """
    import os
    def f(x): return os.truncate("{outside}", 0)
    """)  # fmt: skip
hostile("opening to all", "changes who may read a file of the user's", SYSTEM_CALLS, """
    import os
    def f(x): return os.chmod("{outside}", 0o777)
    """)  # fmt: skip
hostile("planting outside", "writes into folders that others read",
        "read-only, or not there; Landlock", """
    import os, sys
    def f(x):
        for folder in ("/", "/dev/shm", "/var/tmp", "/usr/lib", os.path.dirname(os.__file__)):
            try: open(f"{folder}/sitecustomize.py", "w").write("planted")
            except OSError: continue
            return folder
        raise FileNotFoundError("nowhere")
    """)  # fmt: skip
hostile("network", "connects to a port of this machine", SYSTEM_CALLS + "; no network", """
    import socket
    def f(x): return socket.create_connection(("127.0.0.1", {port}), timeout=2)
    """)  # fmt: skip
hostile("sockets", "connects to services of this machine", SYSTEM_CALLS, """
    import socket
    def f(x):
        own = socket.socket(socket.AF_UNIX)
        own.connect("/run/docker.sock")
    """)  # fmt: skip
hostile("killing the parent", "ends the process that started it", SYSTEM_CALLS, """
    import os
    def f(x): return os.kill(os.getppid(), 9)
    """)  # fmt: skip
hostile("killing all", "ends every process that it may", SYSTEM_CALLS, """
    import os
    def f(x): return os.kill(-1, 9)
    """)  # fmt: skip
hostile("signals by files", "has the kernel signal its parent when a pipe is ready",
        SYSTEM_CALLS, """
    import fcntl, os
    def f(x): return fcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())
    """)  # fmt: skip
hostile("another's limits", "takes its parent's processor time", SYSTEM_CALLS, """
    import os, resource
    def f(x): return resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))
    """)  # fmt: skip
hostile("root", "becomes root", SYSTEM_CALLS + "; no rights", """
    import os
    def f(x): return os.setuid(0)
    """)  # fmt: skip
hostile("mounts", "mounts the machine's files anew", SYSTEM_CALLS + "; no rights", LIBC + """
def f(x): return checked(libc.mount(b"none", b"/tmp", b"proc", 0, 0))
""")  # fmt: skip
hostile("namespaces", "makes namespaces, to be root in them", SYSTEM_CALLS, LIBC + """
def f(x): return checked(libc.unshare(0x10000000))
""")  # fmt: skip
hostile("the kernel's newest", "asks for io_uring, which does what it is told past filters",
        SYSTEM_CALLS, LIBC + """
def f(x): return checked(libc.syscall(425, 1, bytes(120)))
""")  # fmt: skip
hostile("another processor's numbers", "forks by the numbers of a 32-bit program",
        SYSTEM_CALLS, """
    import ctypes, mmap, platform
    def f(x):
        if platform.machine() != "x86_64": raise FileNotFoundError("another machine")
        page = mmap.mmap(-1, 4096, prot=7)
        page.write(b"\\xb8\\x02\\x00\\x00\\x00\\xcd\\x80\\xc3")  # eax = 2: fork; int 0x80; ret
        place = ctypes.addressof(ctypes.c_char.from_buffer(page))
        return ctypes.CFUNCTYPE(ctypes.c_int)(place)()
    """, "crashed|" + REFUSED)  # fmt: skip
