"""Who a process is, so that another process can tell for certain that it is gone."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Identity:
    """One start of one process.

    `boot` names the machine's boot and the pid namespace, the scope in which a pid means something; it is
    empty where the system does not tell (no /proc). `start` is when the process began, in clock ticks.
    """

    host: str
    pid: int
    boot: str
    start: int


def this_process() -> Identity:
    """This process, as others may look it up later."""
    return process_of(os.getpid())


def process_of(pid: int) -> Identity:
    """The process that has `pid` now, on this machine."""
    stat = _stat(pid)
    return Identity(socket.gethostname(), pid, _boot(), stat.start if stat else 0)


def is_gone(identity: Identity) -> bool:
    """Whether that process has certainly ended; False where we cannot know (another host, another boot)."""
    if not identity.boot or not identity.start or identity.pid <= 0:
        return False
    if (identity.boot, identity.host) != (_boot(), socket.gethostname()):
        return False
    stat = _stat(identity.pid)
    if stat is None:
        # A /proc mounted with `hidepid` hides other people's processes: only the kernel's own word counts.
        return not _pid_taken(identity.pid)
    return stat.start != identity.start or stat.ended


@dataclass(frozen=True, slots=True)
class _Stat:
    """The fields of /proc/PID/stat that we need."""

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
    # The second field is the program's name, which may hold spaces and brackets: count from the last bracket.
    fields = text[text.rindex(b")") + 1 :].split()
    state, threads, start = fields[0], int(fields[17]), int(fields[19])
    # A zombie leader with other threads is a process that still runs.
    return _Stat(start, ended=state in (b"Z", b"X", b"x") and threads <= 1)


def _pid_taken(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
