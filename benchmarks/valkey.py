"""Starts a fresh Valkey for each measurement and reads its CPU and memory."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from mutitask_tui.embedded.start import find_binary

PERSISTENCE = ("off", "everysec", "always")
"""The modes of the append-only file: no file, synced every second, synced before each answer."""


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Valkey:
    """A running server. `pid` is its process id."""

    url: str
    port: int
    pid: int

    def client(self) -> redis.Redis:
        """Return a new client."""
        return redis.Redis(port=self.port)

    def cpu_s(self) -> float:
        """Return the CPU time that the server has used so far, in seconds."""
        with self.client() as client:
            info: Any = client.info("cpu")
        return float(info["used_cpu_sys"]) + float(info["used_cpu_user"])

    def memory(self) -> int:
        """Return the memory that the data takes, in bytes."""
        with self.client() as client:
            info: Any = client.info("memory")
        return int(info["used_memory"])


@contextlib.contextmanager
def valkey(persistence: str = "off") -> Iterator[Valkey]:
    """Start a server on a free port of the loopback interface. The end of the context removes it and its data."""
    with tempfile.TemporaryDirectory(prefix="mutitask-bench-valkey-") as directory:
        port = free_port()
        append_only = (
            ["--appendonly", "no"]
            if persistence == "off"
            else ["--appendonly", "yes", "--appendfsync", persistence]
        )
        process = subprocess.Popen(
            [
                str(find_binary()), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                "--dir", directory, "--loglevel", "warning", "--auto-aof-rewrite-percentage", "0", *append_only,
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            until = time.monotonic() + 20
            with redis.Redis(port=port) as client:
                while True:
                    with contextlib.suppress(redis.ConnectionError):
                        if client.ping():
                            break
                    if time.monotonic() > until or process.poll() is not None:
                        raise SystemExit("broken run: Valkey does not start")
                    time.sleep(0.02)
            yield Valkey(f"redis://127.0.0.1:{port}/0", port, process.pid)
        finally:
            process.kill()
            process.wait()
