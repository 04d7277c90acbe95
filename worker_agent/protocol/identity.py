"""Identify a process so that another process can tell for certain that it has ended."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Identity:
    """One start of one process.

    `boot` names the boot of the machine and the pid namespace: a pid is unique only within both. It is empty if the
    system does not know it (no /proc). `start` is the start time of the process in clock ticks.
    """

    host: str
    pid: int
    boot: str
    start: int


def this_process() -> Identity:
    """Return the identity of this process."""
    return process_of(os.getpid())


def process_of(pid: int) -> Identity:
    """Return the identity of the process that has `pid` now on this machine."""
    stat = _stat(pid)
    return Identity(socket.gethostname(), pid, _boot(), stat.start if stat else 0)


def is_gone(identity: Identity) -> bool:
    """Return whether the process has certainly ended. False if that is unknown (another host, another boot)."""
    if not identity.boot or not identity.start or identity.pid <= 0:
        return False
    if (identity.boot, identity.host) != (_boot(), socket.gethostname()):
        return False
    stat = _stat(identity.pid)
    if stat is None:
        # A /proc that is mounted with `hidepid` hides other users' processes, so ask the kernel.
        return not _pid_taken(identity.pid)
    return stat.start != identity.start or stat.ended


@dataclass(frozen=True, slots=True)
class _Stat:
    """The fields of /proc/PID/stat that `is_gone` needs."""

    start: int
    ended: bool


def _boot() -> str:
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(PROC / 'self/ns/pid')}"  # noqa: PTH115 (the link's text, not a path)
    except OSError:
        return ""


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name. It may hold spaces and brackets, so count from the last bracket.
    fields = text[text.rindex(b")") + 1 :].split()
    state, threads, start = fields[0], int(fields[17]), int(fields[19])
    # If the first thread is a zombie and others live, the process still runs.
    return _Stat(start, ended=state in (b"Z", b"X", b"x") and threads <= 1)


def _pid_taken(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
