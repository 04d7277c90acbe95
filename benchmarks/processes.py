"""Starts the adapters and the agents, keeps what they print, and ends them with all their children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.peers.kit import Options, Reading
from benchmarks.systems import Peer

PATIENCE_S = 90.0


class Broken(Exception):
    """A run that came to nothing: a process ended, or what was awaited did not come."""


class Desk:
    """A directory and the processes of one measurement; as a context it ends them and takes the directory away."""

    def __init__(self, options: Options) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="mutitask-bench-")
        self.path = Path(self._directory.name)
        self.options = replace(options, directory=str(self.path))
        self._processes: list[subprocess.Popen[bytes]] = []
        self.reading = Reading(self.path)

    def __enter__(self) -> Desk:
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
        """A process that knows the options; with `pipes` its input and output can be used."""
        pipe = subprocess.PIPE if pipes else subprocess.DEVNULL
        with (self.path / f"log-{log}").open("ab") as out:
            process = subprocess.Popen(
                [*map(str, command)],
                env={**os.environ, **self.options.environment()},
                stdin=pipe, stdout=pipe if pipes else out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def peer(self, peer: Peer, operation: str, *, pipes: bool = False) -> subprocess.Popen[bytes]:
        """An operation of a peer's adapter, in the peer's environment."""
        return self.start([peer.python, peer.adapter, operation], operation, pipes=pipes)

    def told(self, peer: Peer, operation: str) -> dict[str, Any]:
        """What an operation of a peer's adapter tells once it is over."""
        process = self.peer(peer, operation, pipes=True)
        try:
            out, _ = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Broken(f"{peer.label}: {operation} took longer than {PATIENCE_S:g} s") from None
        if process.returncode or not out.strip():
            raise Broken(f"{peer.label}: {operation} ended with {process.returncode}: {self.log()}")
        answer: dict[str, Any] = json.loads(out.splitlines()[-1])
        return answer

    def check(self) -> None:
        """No worker may have ended with an error."""
        for process in self._processes:
            if process.poll():
                raise Broken(f"{process.args} ended with {process.returncode}: {self.log()}")

    def until_run(self, count: int, patience_s: float = PATIENCE_S) -> tuple[float, float]:
        """Wait until so many tasks have run; when the first ended and when the last."""
        until = time.monotonic() + patience_s
        while True:
            ran, first, last = self.reading.now()
            if ran >= count:
                return first, last
            if time.monotonic() > until:
                raise Broken(f"only {ran} of {count} tasks ran in {patience_s:g} s: {self.log()}")
            self.check()
            time.sleep(0.005)

    def log(self) -> str:
        """The last that they printed."""
        logs = sorted(self.path.glob("log-*"))
        return " | ".join(log.read_text(errors="replace")[-600:] for log in logs if log.stat().st_size)


def line(process: subprocess.Popen[bytes], desk: Desk) -> bytes:
    """The next line that a process prints."""
    assert process.stdout is not None
    got = process.stdout.readline()
    if not got:
        process.wait()
        raise Broken(f"{process.args} ended with {process.returncode}: {desk.log()}")
    return got


def say(process: subprocess.Popen[bytes]) -> None:
    """Give a process the line that it waits for."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


@contextlib.contextmanager
def desk(options: Options) -> Iterator[Desk]:
    """A desk as a context."""
    with Desk(options) as here:
        yield here
