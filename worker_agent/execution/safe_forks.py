"""Tells whether a process that has loaded the job may be forked, so that the copies work as fresh processes would."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import stat
import sys
import threading
from pathlib import Path

from worker_agent.protocol.unpatched import time

HARMLESS_DEVICES = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
OWN_FORK_LIBRARIES = ("gevent", "eventlet")
"""Libraries that replace parts of Python, and keep a hidden event loop that copies must not share."""
THREAD_END_S = 0.02
"""How long a thread that Python has joined may take to leave the system's list of threads."""
LIBRARY_END_S = 1.0
"""The same for threads that a library ends before a fork."""
TRIAL_S = 5.0
"""How long a trial copy may take to end."""


def open_descriptors() -> set[int]:
    """Return the descriptors that this process has open."""
    return {int(path.name) for path in Path("/proc/self/fd").iterdir()}


def why_unsafe(open_before: set[int]) -> str:
    """Return why this process must not be forked, or ''. `open_before` are its descriptors before it loaded the job."""
    for name in OWN_FORK_LIBRARIES:
        if name in sys.modules:
            return f"it imports {name}"
    if threading.active_count() > 1:
        names = ", ".join(t.name for t in threading.enumerate() if t is not threading.main_thread())
        return f"it starts a thread while it is loaded ({names[:100]})"
    if _native_threads_stay():
        return "a library that it imports starts threads"
    for number in sorted(open_descriptors() - open_before):
        if shared := _what_copies_would_share(number):
            return f"it opens {shared} while it is loaded"
    return ""


def _native_threads_stay() -> bool:
    """Return whether libraries have threads of their own that they do not end before a fork, as OpenBLAS does."""
    if _is_single_threaded(THREAD_END_S):
        return False
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    if not select.select([pidfd], [], [], TRIAL_S)[0]:
        os.kill(pid, signal.SIGKILL)
    os.close(pidfd)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return not _is_single_threaded(LIBRARY_END_S)


def _is_single_threaded(seconds: float) -> bool:
    """Return whether only one thread is left, after waiting up to `seconds` for others to end."""
    deadline = time.monotonic() + seconds
    while _thread_count() > 1:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.001)
    return True


def _thread_count() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def _what_copies_would_share(number: int) -> str:
    """Return what a descriptor is if copies of this process would disturb each other there, or ''.

    All copies have one position in a file and one end of a connection.
    """
    try:
        mode = os.fstat(number).st_mode
        name = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115 (the link's text, not a path)
        appends = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_APPEND
    except OSError:
        return ""  # It was the descriptor of the listing itself.
    if stat.S_ISSOCK(mode):
        return "a connection"
    if stat.S_ISDIR(mode) or name in HARMLESS_DEVICES or (stat.S_ISREG(mode) and appends):
        return ""
    return Path(name).name if stat.S_ISREG(mode) or stat.S_ISCHR(mode) else "a pipe or an event loop"
