"""A TCP proxy before a real Redis: swallows replies, holds requests back, delays, drops, and cuts without closing."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

CHUNK = 65_536
NO_SCRIPT = b"-NOSCRIPT"


@dataclass(eq=False)
class Swallowing:
    """The replies to so many requests that contain `needle` do not arrive; the requests do.

    Then the connection is dropped or, if `silent`, left as it is until the client gives up.
    """

    needle: bytes
    times: int
    silent: bool
    on_reply: Callable[[], None]
    """Told once Redis has answered, before the client can notice anything."""
    swallowed: int = 0
    begun: int = 0


@dataclass(eq=False)
class Held:
    """The first request that contains `needle` waits here, whatever becomes of its client, until `release`."""

    needle: bytes
    chunks: list[bytes] = field(default_factory=list)
    caught: threading.Event = field(default_factory=threading.Event)
    upstream: socket.socket | None = None
    reply: bytes = b""
    replied: threading.Event = field(default_factory=threading.Event)

    def release(self, timeout: float = 5.0) -> bytes:
        """Let it arrive after all, on its own connection; Redis's raw answer, which nobody hears."""
        assert self.upstream, "no request was held"
        self.upstream.sendall(b"".join(self.chunks))
        assert self.replied.wait(timeout), "Redis did not answer it"
        self.upstream.close()
        return self.reply


class _Connection:
    """One client's connection and the one to Redis behind it."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.upstream = socket.create_connection(("127.0.0.1", proxy.upstream_port), 5.0)
        self.upstream.settimeout(None)
        for each in (self.client, self.upstream):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.swallowing: Swallowing | None = None
        self.losing = False
        self.held: Held | None = None
        for pump in (self._requests, self._replies):
            threading.Thread(target=pump, daemon=True).start()

    def _requests(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.client.recv(CHUNK):
                self.proxy.travel()
                self._look_at_request(data)
                if self.held is not None:
                    self.held.chunks.append(data)
                    self.held.caught.set()
                else:
                    self.upstream.sendall(data)
        self.close()

    def _look_at_request(self, data: bytes) -> None:
        if self.held is None:
            self.held = self.proxy.take_hold(data, self.upstream)
        if self.swallowing is None:
            self.swallowing = self.proxy.take_swallowing(data)
        fate = self.proxy.fate(data)
        if fate == "request":
            raise ConnectionError("this request is lost")
        self.losing = self.losing or fate == "reply"

    def _replies(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.upstream.recv(CHUNK):
                self.proxy.travel()
                if self.held is not None:
                    self.held.reply = data
                    self.held.replied.set()
                    break
                if self.losing:
                    break
                if self.swallowing is None:
                    self.client.sendall(data)
                elif data.startswith(NO_SCRIPT):
                    # The script did not run; the same call follows with its text.
                    self.proxy.give_back(self.swallowing)
                    self.swallowing = None
                    self.client.sendall(data)
                elif self._swallow(self.swallowing):
                    break
        self.close()

    def _swallow(self, rule: Swallowing) -> bool:
        """Whether the connection is to be dropped."""
        if not self.losing:
            rule.swallowed += 1
            rule.on_reply()
        return not rule.silent

    def close(self) -> None:
        """Let the client see that the connection is over."""
        for each in (self.client, self.upstream):
            if each is self.upstream and self.held is not None:
                continue
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.proxy.forget(self)


class Proxy:
    """Listens on a free port of loopback for the Redis on `upstream_port`; use it as a context manager.

    `latency` is in seconds, for each direction; `loss` the share of script calls whose connection is dropped, before
    Redis got them or with its answer on the way.
    """

    def __init__(self, upstream_port: int, *, seed: int = 1) -> None:
        self.upstream_port = upstream_port
        self.latency = 0.0
        self.loss = 0.0
        self.lost = 0
        self._chance = random.Random(seed)
        self._passable = threading.Event()
        self._passable.set()
        self._lock = threading.Lock()
        self._swallowings: list[Swallowing] = []
        self._holds: list[Held] = []
        self._connections: set[_Connection] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, direct: str) -> str:
        """The URL that leads through here, for a server's own URL."""
        return direct.replace(f":{self.upstream_port}/", f":{self.port}/")

    # Faults

    def swallow(
        self,
        needle: bytes,
        *,
        times: int = 1,
        silent: bool = False,
        on_reply: Callable[[], None] = lambda: None,
    ) -> Swallowing:
        """From now on: the replies to so many requests with these bytes do not arrive."""
        rule = Swallowing(needle, times, silent, on_reply)
        with self._lock:
            self._swallowings.append(rule)
        return rule

    def hold(self, needle: bytes) -> Held:
        """From now on: the next request with these bytes does not reach Redis before `Held.release`."""
        rule = Held(needle)
        with self._lock:
            self._holds.append(rule)
        return rule

    def cut(self) -> None:
        """Nothing passes, either way, and no connection ends: what was sent arrives once this is mended."""
        self._passable.clear()

    def mend(self) -> None:
        """What waited in the cut arrives, however late."""
        self._passable.set()

    def drop_all(self) -> None:
        """Every connection ends."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.close()

    def close(self) -> None:
        """No more connections, and none of the present ones."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.mend()
        self.drop_all()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Called by the connections

    def travel(self) -> None:
        """As long as a packet takes in one direction now."""
        if self.latency:
            time.sleep(self.latency)
        self._passable.wait()

    def take_hold(self, data: bytes, upstream: socket.socket) -> Held | None:
        """The hold that this request fulfils."""
        with self._lock:
            for rule in self._holds:
                if rule.needle in data:
                    self._holds.remove(rule)
                    rule.upstream = upstream
                    return rule
        return None

    def take_swallowing(self, data: bytes) -> Swallowing | None:
        """The rule that takes this request's reply."""
        with self._lock:
            for rule in self._swallowings:
                if rule.begun < rule.times and rule.needle in data:
                    rule.begun += 1
                    return rule
        return None

    def give_back(self, rule: Swallowing) -> None:
        """That reply was none of the script's."""
        with self._lock:
            rule.begun -= 1

    def fate(self, data: bytes) -> str:
        """What is lost of this call: its `request`, its `reply`, or ''."""
        if not self.loss or b"\r\nEVAL" not in data[:32]:
            return ""
        with self._lock:
            if self._chance.random() >= self.loss:
                return ""
            self.lost += 1
            return self._chance.choice(("request", "reply"))

    def forget(self, connection: _Connection) -> None:
        """That connection is over."""
        with self._lock:
            self._connections.discard(connection)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                connection = _Connection(self, client)
            except OSError:  # Redis itself is away.
                client.close()
                continue
            with self._lock:
                self._connections.add(connection)
