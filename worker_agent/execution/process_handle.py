"""Starts child processes for the agent, tells when they have ended and how, and signals their process groups."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from worker_agent.protocol.unpatched import time


class ProcessHandle(Protocol):
    """A process that leads a process group of its own. One thread uses it, and calls `close` at last."""

    pid: int
    pidfd: int | None
    """A descriptor that is readable once the process has ended. None where the system has none."""

    def has_ended(self, seconds: float = 0) -> bool:
        """Return whether the process has ended, after waiting up to `seconds` for it."""

    def reap(self) -> int | None:
        """Wait for the end of the process, and return its status as `subprocess` does. None if nobody knows it."""

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and all others of its group. Only before `reap` has returned."""

    def close(self) -> None:
        """Release what belongs to the handle."""


def python_command(module: str) -> list[str]:
    """Return the command that runs a module of this package, whatever is in the current directory."""
    unsafe = {"", str(Path.cwd())} & set(sys.path)
    return [sys.executable, *([] if unsafe else ["-P"]), "-m", module]


class SpawnedProcess:
    """A child process of the agent that starts as a new program."""

    def __init__(self, command: Sequence[str], inherited: Sequence[int]) -> None:
        # No stdin: a terminal would stop a background process that reads from it.
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=inherited, process_group=0
        )
        self.pid = self._process.pid
        self.pidfd: int | None = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None

    def has_ended(self, seconds: float = 0) -> bool:
        """Return whether the process has ended, after waiting up to `seconds` for it."""
        if self.pidfd is not None:
            return is_readable(self.pidfd, seconds)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def reap(self) -> int:
        """Wait for the end of the process, and return its status."""
        return self._process.wait()

    def signal_group(self, number: int) -> None:
        """Send a signal to the process group."""
        # Until the process is reaped, no other process can get its id.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def close(self) -> None:
        """Close the descriptor of the process."""
        if self.pidfd is not None:
            os.close(self.pidfd)


def is_readable(descriptor: int, seconds: float | None) -> bool:
    """Return whether the descriptor is readable or at its end, after waiting up to `seconds`. None for no limit."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def describe_exit(status: int | None) -> str:
    """Return how a process ended, for people."""
    if status is None:
        return "an unknown status, because its fork server had died"
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def join_unless(threads: Sequence[threading.Thread], seconds: float, hurry: threading.Event | None) -> None:
    """Wait up to `seconds` until these threads have ended, but not once `hurry` is set."""
    deadline = time.monotonic() + seconds
    for thread in threads:
        while thread.is_alive() and time.monotonic() < deadline and not (hurry and hurry.is_set()):
            thread.join(0.02)
