"""The embedded Valkey of a namespace, which is used when no Redis address is given: find it, or start it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import redis

from mutitask_tui.embedded.directory import Fsync, check_ownership, last_port
from mutitask_tui.embedded.errors import EmbeddedError
from mutitask_tui.embedded.locks import lock_file
from mutitask_tui.embedded.ports import LOOPBACK, bind_addresses, candidates, is_loopback
from mutitask_tui.embedded.process import EmbeddedServer, ServerState, admin_client, server_state
from mutitask_tui.embedded.start import start, wait_until_loaded
from mutitask_tui.server.files import make_private
from worker_agent.protocol.connection.address import (
    DEFAULT_PORT,
    DEFAULT_URL,
    check_name,
    load_server_file,
    server_file,
)
from worker_agent.protocol.identity import is_gone

_STARTING_SECONDS = 60.0
"""How long to wait while another MutiTask process starts the same embedded Valkey."""


def ensure(
    name: str,
    *,
    port: int | None = None,
    listen: str = LOOPBACK,
    fsync: Fsync = "everysec",
    throwaway: bool = False,
    directory: Path | None = None,
    usual_port: bool = False,
) -> EmbeddedServer:
    """Find or start the embedded Valkey of namespace `name`, and return when it has loaded its data.

    port: the only port to use. None: the port of the last start, else a free one.
    usual_port: try 6379 before a free port, for programs that connect to the default address.
    listen: an address other than loopback lets other machines connect. They need the password.
    fsync: when a write is safe on the disk: before it is answered, once a second, or when the system decides.
    throwaway: start a new one on a free port, in a temporary directory. It ends with this process.
    directory: keep all files here instead of in the state directory.

    Raises `EmbeddedError`, or `Untrusted` for a directory that other users could change.
    """
    check_name(name)
    if port is not None and not 0 < port < 65536:
        raise EmbeddedError(f"{port} is not a port: use a number from 1 to 65535.")
    try:
        if throwaway:
            server = _start_throwaway(name, directory, port, listen, fsync)
        else:
            directory = directory or server_file(name).parent
            server = _find_or_start(name, directory, port, listen, fsync, usual_port)
    except OSError as error:
        raise EmbeddedError(
            f"Cannot store the embedded Valkey's data in {error.filename or 'the state directory'} "
            f"({error.strerror}): fix that, set another directory in MUTITASK_STATE_DIR, or pass --redis."
        ) from error
    wait_until_loaded(server)
    return server


def find(name: str, *, directory: Path | None = None) -> EmbeddedServer | None:
    """Return the embedded Valkey of namespace `name` if it runs and answers, else None."""
    return _find_running(directory or server_file(name).parent)


def is_sleeping(name: str) -> bool:
    """Return whether namespace `name` has data of an embedded Valkey that is not running now."""
    directory = server_file(name).parent
    return (directory / "data" / "appendonlydir").is_dir() and _find_running(directory) is None


def default_redis_listens() -> bool:
    """Return whether a server listens on localhost:6379 that is not an embedded Valkey of another namespace."""
    with admin_client(DEFAULT_URL) as client:
        try:
            client.exists("mutitask")
        except redis.exceptions.NoPermissionError:
            return False  # An embedded Valkey allows its `default` user only PING.
        except redis.ConnectionError as error:
            if isinstance(error, redis.BusyLoadingError | redis.AuthenticationError):
                return True
            return not _is_refused(error)
        except redis.RedisError:
            return True
    return True


def _is_refused(error: redis.ConnectionError) -> bool:
    """Return whether no program listens, as opposed to a program that does not speak Redis."""
    cause = error.__cause__ or error.__context__
    return isinstance(cause, ConnectionRefusedError) or "refused" in str(error).lower()


def _start_throwaway(
    name: str, parent: Path | None, port: int | None, listen: str, fsync: Fsync
) -> EmbeddedServer:
    directory = Path(tempfile.mkdtemp(prefix="mutitask-", dir=parent))
    try:
        return start(name, directory, candidates(port, []), listen, fsync, throwaway=True)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _find_or_start(
    name: str, directory: Path, port: int | None, listen: str, fsync: Fsync, usual_port: bool
) -> EmbeddedServer:
    make_private(directory)
    check_ownership(directory)
    with lock_file(directory / "starting.lock", _STARTING_SECONDS) as lock:
        if lock is None:
            raise EmbeddedError(
                f"Another MutiTask process has been starting the embedded Valkey of {name!r} for a minute: "
                "stop that process, or use another --name."
            )
        last = last_port(directory)
        preferred = [last, DEFAULT_PORT] if usual_port else [None if last == DEFAULT_PORT else last]
        server = _find_running(directory) or start(
            name, directory, candidates(port, preferred), listen, fsync
        )
    if not server.started:
        _reconfigure(server, name, port, listen, fsync)
    return server


def _find_running(directory: Path) -> EmbeddedServer | None:
    record = load_server_file(directory / "server.json")
    if record is None or is_gone(record.process):
        return None
    if server_state(record.url, record.process.pid) not in (ServerState.LOADING, ServerState.READY):
        return None
    return EmbeddedServer(
        url=record.url,
        port=record.port,
        pid=record.process.pid,
        started=False,
        directory=directory,
        listen=_outward_binding(record.url),
    )


def _outward_binding(url: str) -> str:
    """Return the address that a running server binds besides loopback, or loopback."""
    with contextlib.suppress(redis.RedisError), admin_client(url) as client:
        bound = str(client.config_get("bind").get("bind", "")).split()
        return next((address for address in bound if not is_loopback(address)), LOOPBACK)
    return LOOPBACK


def _reconfigure(server: EmbeddedServer, name: str, port: int | None, listen: str, fsync: Fsync) -> None:
    """Apply the requested options to a server that runs already. Raises `EmbeddedError` if that is impossible."""
    if port is not None and port != server.port:
        raise EmbeddedError(
            f"The embedded Valkey of {name!r} already runs on port {server.port}: omit the port, or stop it first."
        )
    addresses = bind_addresses(listen)
    try:
        with admin_client(server.url) as client:
            client.config_set("appendfsync", fsync)
            if not all(map(is_loopback, addresses)) and listen != server.listen:
                client.config_set("protected-mode", "no")
                client.config_set("bind", " ".join(addresses))
                server.listen = listen
    except redis.BusyLoadingError:
        pass
    except redis.RedisError as error:
        raise EmbeddedError(
            f"The embedded Valkey of {name!r} (process {server.pid}) cannot listen on {listen} ({error}): "
            "stop it first."
        ) from error
