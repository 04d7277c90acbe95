"""A running embedded Valkey: its address, its state, and how it is stopped.

It is a process of its own, which outlives the server that started it. `directory.py` lists its files.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mutitask_tui.embedded.directory import write_private
from mutitask_tui.embedded.errors import EmbeddedError
from mutitask_tui.embedded.locks import is_locked, remove_lock_outside
from mutitask_tui.embedded.ports import LOOPBACK, outward_address
from mutitask_tui.server.files import make_private
from worker_agent.protocol.connection.address import (
    ServerFile,
    bracketed,
    check_name,
    dump_server_file,
    load_server_file,
    server_file,
)
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.identity import is_gone, process_of
from worker_agent.protocol.unpatched import time

_STOP_SECONDS = 30.0
"""How long a stop may take: Valkey writes its data to the disk first."""
_POLL_SECONDS = 0.02


@dataclass(slots=True)
class EmbeddedServer:
    """A running embedded Valkey.

    A throwaway server ends with the process that holds this object. Every other one runs until `stop()`.
    """

    url: str = field(repr=False)
    """For programs on this machine, with user and password."""
    port: int
    pid: int
    started: bool
    """Whether this call started it. False: it was running before."""
    directory: Path
    listen: str = LOOPBACK
    """The address at which other machines reach it; loopback if they cannot."""
    throwaway: bool = False
    watcher: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    """The shell that ends a throwaway server and deletes its directory."""
    _announced: Path | None = field(default=None, repr=False)

    @property
    def join_url(self) -> str:
        """The URL for programs on other machines, with user and password."""
        host = self.listen
        if host in ("*", "0.0.0.0", "::"):  # noqa: S104
            host = outward_address()
        return self.url.replace(f"@{LOOPBACK}:", f"@{bracketed(host)}:")

    @property
    def has_data(self) -> bool:
        """Whether its data directory still exists on the disk.

        False if somebody removed it while Valkey runs, even if a new directory was created since: the running Valkey
        does not use that one and does not hold its lock.
        """
        return (self.directory / "data").exists() and is_locked(self.directory / "data.lock")

    def announce(self, name: str) -> None:
        """Let this user's programs on this machine find a throwaway server by its namespace, until it ends."""
        check_name(name)
        self._announced = server_file(name)
        make_private(self._announced.parent)
        write_private(self._announced, dump_server_file(self._record()))

    def restore_server_file(self) -> bool:
        """Write the server file and the password again if the server file is missing. Return whether it was missing.

        Raises `OSError` if it cannot be written.
        """
        path = self.directory / "server.json"
        if path.exists():
            return False
        record = self._record()
        make_private(self.directory)
        write_private(self.directory / "password", f"{record.password}\n".encode())
        write_private(path, dump_server_file(record))
        return True

    def stop(self) -> None:
        """Stop it and wait until it ended. Its data stays on the disk, unless it is a throwaway server.

        Raises `EmbeddedError` if it does not end within 30 seconds.
        """
        if self._announced:
            self._announced.unlink(missing_ok=True)
        if self.watcher:
            self._stop_throwaway(self.watcher)
            return
        with contextlib.suppress(redis.RedisError), admin_client(self.url) as client:
            client.shutdown()
        end = time.monotonic() + _STOP_SECONDS
        while is_alive(self.pid):
            if time.monotonic() > end:
                raise EmbeddedError(
                    f"The embedded Valkey (process {self.pid}) does not stop: see "
                    f"{self.directory / 'valkey.log'}, then end it with `kill {self.pid}`."
                )
            time.sleep(_POLL_SECONDS)
        remove_lock_outside(self.directory)
        path = self.directory / "server.json"
        with contextlib.suppress(OSError, MutiTaskError):
            record = load_server_file(path)
            if record and record.process.pid == self.pid:
                path.unlink()

    def _stop_throwaway(self, watcher: subprocess.Popen[bytes]) -> None:
        if watcher.stdin and not watcher.stdin.closed:
            watcher.stdin.close()
        try:
            watcher.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            watcher.wait()

    def _record(self) -> ServerFile:
        _, _, login = self.url.partition("://")
        username, _, password = login.partition("@")[0].partition(":")
        return ServerFile(
            self.url, LOOPBACK, self.port, unquote(username), unquote(password), process_of(self.pid)
        )

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class ServerState(Enum):
    """What answers at the address of an embedded Valkey."""

    NO_ANSWER = "nothing answers"
    OTHER_SERVER = "another server answers"
    LOADING = "it loads its data"
    READY = "it answers"


def server_state(url: str, pid: int) -> ServerState:
    """Return the state of the embedded Valkey with this process id."""
    with admin_client(url) as client:
        try:
            info = client.info()
        except redis.BusyLoadingError:
            return ServerState.LOADING
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
            return ServerState.OTHER_SERVER
        except (redis.ConnectionError, redis.TimeoutError):
            return ServerState.NO_ANSWER
        except redis.RedisError:
            return ServerState.OTHER_SERVER
    if info.get("process_id") != pid:
        return ServerState.OTHER_SERVER
    return ServerState.LOADING if info.get("loading") else ServerState.READY


def admin_client(url: str) -> redis.Redis:
    """Return a client with time-outs of 2 seconds and no retries."""
    return redis.Redis.from_url(
        url,
        protocol=2,
        decode_responses=True,
        socket_timeout=2.0,
        socket_connect_timeout=2.0,
        retry=Retry(NoBackoff(), 0),
    )


def is_alive(pid: int) -> bool:
    """Return whether the process runs. A zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not is_gone(process_of(pid))
