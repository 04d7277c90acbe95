"""Starts the processes of a measurement, keeps their output, and ends them with all their children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.peers.kit import Options, TallyReader
from benchmarks.systems import Peer

TIMEOUT_S = 90.0


class BrokenRun(Exception):
    """A measurement failed: a process ended, or an expected event did not happen in time."""


class Workspace:
    """The directory and the processes of one measurement. Leaving its context ends and removes them all."""

    def __init__(self, options: Options) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="mutitask-bench-")
        self.path = Path(self._directory.name)
        self.options = replace(options, directory=str(self.path))
        self.agent_counters = TallyReader(self.path)
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        until = time.monotonic() + 1.0
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._directory.cleanup()

    def start(
        self, command: Sequence[str | Path], log: str, *, pipes: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a process that gets the options in its environment.

        Its stderr goes to a log file named after `log`, and so does its stdout. With `pipes` stdin and stdout are
        pipes instead.
        """
        pipe = subprocess.PIPE if pipes else subprocess.DEVNULL
        with (self.path / f"log-{log}").open("ab") as out:
            process = subprocess.Popen(
                [*map(str, command)],
                env={**os.environ, **self.options.environment()},
                stdin=pipe, stdout=pipe if pipes else out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def start_peer(self, peer: Peer, operation: str, *, pipes: bool = False) -> subprocess.Popen[bytes]:
        """Start an operation of a peer's adapter in the environment of the peer."""
        return self.start([peer.python, peer.adapter, operation], operation, pipes=pipes)

    def run_peer(self, peer: Peer, operation: str) -> dict[str, Any]:
        """Run an operation of a peer's adapter to its end. Return the JSON object of its last line.

        Raises `BrokenRun` if the operation fails or takes longer than `TIMEOUT_S`.
        """
        process = self.start_peer(peer, operation, pipes=True)
        try:
            out, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise BrokenRun(f"{peer.label}: {operation} took longer than {TIMEOUT_S:g} s") from None
        if process.returncode or not out.strip():
            raise BrokenRun(f"{peer.label}: {operation} ended with {process.returncode}: {self.log_tail()}")
        answer: dict[str, Any] = json.loads(out.splitlines()[-1])
        return answer

    def check_processes(self) -> None:
        """Raise `BrokenRun` if a process has ended with an error."""
        for process in self._processes:
            if process.poll():
                raise BrokenRun(f"{process.args} ended with {process.returncode}: {self.log_tail()}")

    def wait_until_run(self, count: int, timeout_s: float = TIMEOUT_S) -> tuple[float, float]:
        """Wait until `count` tasks have run. Return when the first and the last ended (monotonic, in seconds)."""
        until = time.monotonic() + timeout_s
        while True:
            ran, first, last = self.agent_counters.read()
            if ran >= count:
                return first, last
            if time.monotonic() > until:
                raise BrokenRun(f"only {ran} of {count} tasks ran in {timeout_s:g} s: {self.log_tail()}")
            self.check_processes()
            time.sleep(0.005)

    def log_tail(self) -> str:
        """Return the last output of all processes."""
        logs = sorted(self.path.glob("log-*"))
        return " | ".join(log.read_text(errors="replace")[-600:] for log in logs if log.stat().st_size)


def read_line(process: subprocess.Popen[bytes], workspace: Workspace) -> bytes:
    """Return the next line that a process prints. Raises `BrokenRun` if the process ends instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
        raise BrokenRun(f"{process.args} ended with {process.returncode}: {workspace.log_tail()}")
    return line


def send_line(process: subprocess.Popen[bytes]) -> None:
    """Send an empty line to a process that waits for one."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
