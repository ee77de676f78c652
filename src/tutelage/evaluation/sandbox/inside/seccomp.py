"""System calls that a program may make, as a filter that the kernel holds it to.

Everything is refused that is not listed: no process or thread, no other program, no socket, no
signal to anybody, no other process's memory, no mount, no change of owner or mode. The filter is
made by libseccomp (the library behind systemd and container runtimes), which knows the numbers of
every processor and refuses calls that come by another one's numbers.
"""

import ctypes
import os

# What Python needs to compute, to read its library and to write into its own folder.
_ALLOWED = """
    read write readv writev pread64 pwrite64 preadv pwritev lseek close close_range
    open openat creat stat lstat fstat newfstatat statx statfs fstatfs access faccessat faccessat2
    readlink readlinkat getdents getdents64 getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat
    rename renameat renameat2 ftruncate fsync fdatasync flock umask fadvise64
    dup dup2 dup3 pipe pipe2 poll ppoll select pselect6 socketpair eventfd2
    epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    mmap mprotect munmap mremap madvise brk msync mincore membarrier
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack
    alarm pause setitimer getitimer nanosleep clock_nanosleep clock_gettime clock_getres
    gettimeofday time times getrusage getrlimit setrlimit sysinfo uname
    getpid gettid getppid getpgrp getpgid getsid getuid geteuid getgid getegid getgroups getresuid
    getresgid getpriority sched_yield sched_getaffinity getcpu getrandom
    futex set_robust_list set_tid_address rseq arch_prctl restart_syscall exit exit_group
"""

# Calls that may be made with one of some values alone: position of the argument, values.
_ALLOWED_WITH = {
    # Duplicates, flags and locks of a file; nothing that makes signals for another process.
    "fcntl": (1, (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032)),
    # Closed or kept over exec, whether it is a terminal, how much there is to read.
    "ioctl": (1, (0x5450, 0x5451, 0x5401, 0x541B)),
    # One's own limits, which cannot be raised.
    "prlimit64": (0, (0,)),
}

LIBC = ctypes.CDLL(None, use_errno=True)
"""The C library, opened once: processes that are forked have it."""

_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # refused with EPERM
_EQUAL = 4


class _Compared(ctypes.Structure):
    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("other", ctypes.c_uint64),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def build_filter() -> bytes:
    """The filter, as the kernel's instructions.

    Raises:
        OSError: libseccomp is not there, or refuses.
    """
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_REFUSE)))
    if not context:
        raise OSError("libseccomp does not start")

    def allow(name: str, compared: tuple[int, int] | None) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:  # this processor has no such call
            return
        condition = _Compared(compared[0], _EQUAL, compared[1], 0) if compared else None
        failed = library.seccomp_rule_add_array(
            context,
            ctypes.c_uint32(_ALLOW),
            number,
            ctypes.c_uint(condition is not None),
            ctypes.byref(condition) if condition else None,
        )
        if failed:
            raise OSError(-failed, f"libseccomp refuses a rule for {name}")

    for name in _ALLOWED.split():
        allow(name, None)
    for name, (argument, values) in _ALLOWED_WITH.items():
        for value in values:
            allow(name, (argument, value))
    read_end, write_end = os.pipe()
    try:
        if failed := library.seccomp_export_bpf(context, write_end):
            raise OSError(-failed, "libseccomp cannot write the filter")
        os.close(write_end)
        with os.fdopen(read_end, "rb") as file:
            return file.read()
    finally:
        library.seccomp_release(context)


def load_filter(instructions: bytes) -> None:
    """Hold this process to the filter for good.

    Raises:
        OSError: the kernel has no such filters.
    """
    program = _Program(len(instructions) // 8, instructions)
    set_no_new_privileges()
    if LIBC.prctl(22, 2, ctypes.byref(program), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "seccomp filters are not allowed")


def set_no_new_privileges() -> None:
    """Nothing that this process does gives it more rights than it has."""
    if LIBC.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "no_new_privs is not allowed")
