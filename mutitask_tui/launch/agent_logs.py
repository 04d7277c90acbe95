"""The log files of local agents. A program of its own writes them, so that their size is bounded (`log_writer.py`)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

from mutitask_tui.server.files import make_private
from worker_agent.protocol.unpatched import time

MAX_BYTES = 5_000_000
"""The largest size of a log file. The file before it is kept beside it, with `.1` at the end of its name."""
DRAIN_S = 1.0
"""How long to wait until the last lines of agents that ended are in their files."""
_SPARE_FILES = 256
"""How many open files this process may need beside the pipes."""


class AgentLogs:
    """Pipes for the output of agents, and the program that copies them into files.

    This process keeps both ends of each pipe: the writing end for an agent that is started again, and the reading end
    so that no agent's output breaks if the program dies.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._pipes: list[tuple[int, int]] = []
        self._writer: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the pipes and start the program. Raises `OSError` or `Untrusted`."""
        _allow_open_files(2 * len(self._paths) + _SPARE_FILES)
        self._pipes = [os.pipe() for _ in self._paths]
        self.keep_running()

    def keep_running(self) -> None:
        """Start the program, unless it runs."""
        if not self._pipes or (self._writer is not None and self._writer.poll() is None):
            return
        for folder in {path.parent for path in self._paths}:
            make_private(folder)
        readers = [read for read, _ in self._pipes]
        arguments = [word for pair in zip(readers, self._paths, strict=True) for word in map(str, pair)]
        script = str(Path(__file__).with_name("log_writer.py"))
        self._writer = subprocess.Popen(
            [sys.executable, "-I", "-S", script, str(MAX_BYTES), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=readers, start_new_session=True,
        )  # fmt: skip

    def output(self, number: int) -> int:
        """Return the descriptor to which the agent with this place writes."""
        return self._pipes[number][1]

    def wait_until_written(self, number: int) -> None:
        """Wait until what an agent has printed is in its file, for `DRAIN_S` at most."""
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline and _waiting_bytes(self._pipes[number][0]):
            time.sleep(0.01)
        time.sleep(0.02)  # The program has read the last bytes, and may not have written them yet.

    def stop(self) -> None:
        """Close the pipes, and wait until the program ends, for `DRAIN_S` at most.

        It lives longer if processes that tasks have started still hold a pipe.
        """
        for pipe in self._pipes:
            for end in pipe:
                os.close(end)
        self._pipes = []
        if self._writer is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._writer.wait(DRAIN_S)


def _waiting_bytes(reader: int) -> int:
    """Return how many bytes a pipe holds."""
    return int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)), sys.byteorder)


def _allow_open_files(count: int) -> None:
    """Raise this process's limit of open files, where it is lower and the system allows that."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
