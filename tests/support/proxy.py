"""A TCP proxy in front of a real Redis: it drops replies, holds requests, delays, closes and cuts connections."""

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
class SwallowRule:
    """Drop the replies to the next `times` requests that contain `needle`. The requests arrive.

    Then close the connection, or, if `silent`, leave it open until the client gives up.
    """

    needle: bytes
    times: int
    silent: bool
    on_reply: Callable[[], None]
    """Called after Redis has answered and before the client can notice."""
    swallowed: int = 0
    begun: int = 0


@dataclass(eq=False)
class HeldRequest:
    """The first request that contains `needle`. It waits here until `release`, even if its client goes away."""

    needle: bytes
    chunks: list[bytes] = field(default_factory=list)
    caught: threading.Event = field(default_factory=threading.Event)
    upstream: socket.socket | None = None
    reply: bytes = b""
    replied: threading.Event = field(default_factory=threading.Event)

    def release(self, timeout: float = 5.0) -> bytes:
        """Send the request to Redis on its own connection. Return the raw answer, which the client does not get."""
        assert self.upstream, "no request was held"
        self.upstream.sendall(b"".join(self.chunks))
        assert self.replied.wait(timeout), "Redis did not answer it"
        self.upstream.close()
        return self.reply


class _Connection:
    """One client's connection and its connection to Redis."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.upstream = socket.create_connection(("127.0.0.1", proxy.upstream_port), 5.0)
        self.upstream.settimeout(None)
        for each in (self.client, self.upstream):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.swallowing: SwallowRule | None = None
        self.losing = False
        self.held: HeldRequest | None = None
        for pump in (self._requests, self._replies):
            threading.Thread(target=pump, daemon=True).start()

    def _requests(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.client.recv(CHUNK):
                self.proxy.delay()
                self._apply_rules(data)
                if self.held is not None:
                    self.held.chunks.append(data)
                    self.held.caught.set()
                else:
                    self.upstream.sendall(data)
        self.close()

    def _apply_rules(self, data: bytes) -> None:
        if self.held is None:
            self.held = self.proxy.take_hold(data, self.upstream)
        if self.swallowing is None:
            self.swallowing = self.proxy.take_swallowing(data)
        lost_part = self.proxy.choose_loss(data)
        if lost_part == "request":
            raise ConnectionError("the request is lost")
        self.losing = self.losing or lost_part == "reply"

    def _replies(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.upstream.recv(CHUNK):
                self.proxy.delay()
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
                    self.proxy.put_back(self.swallowing)
                    self.swallowing = None
                    self.client.sendall(data)
                elif self._swallow(self.swallowing):
                    break
        self.close()

    def _swallow(self, rule: SwallowRule) -> bool:
        """Drop a reply. Return whether to close the connection."""
        if not self.losing:
            rule.swallowed += 1
            rule.on_reply()
        return not rule.silent

    def close(self) -> None:
        """Close the connection to the client and to Redis."""
        for each in (self.client, self.upstream):
            if each is self.upstream and self.held is not None:
                continue
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.proxy.remove(self)


class Proxy:
    """Listens on a free port of loopback for the Redis on `upstream_port`; use it as a context manager.

    `latency` is in seconds, for each direction. `loss` is the share of script calls whose connection is closed, either
    before the request arrives or before the reply arrives.
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
        self._swallowings: list[SwallowRule] = []
        self._holds: list[HeldRequest] = []
        self._connections: set[_Connection] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, direct: str) -> str:
        """Return the URL through this proxy for a server's own URL."""
        return direct.replace(f":{self.upstream_port}/", f":{self.port}/")

    # Faults

    def swallow(
        self,
        needle: bytes,
        *,
        times: int = 1,
        silent: bool = False,
        on_reply: Callable[[], None] = lambda: None,
    ) -> SwallowRule:
        """Drop the replies to the next `times` requests that contain `needle`."""
        rule = SwallowRule(needle, times, silent, on_reply)
        with self._lock:
            self._swallowings.append(rule)
        return rule

    def hold(self, needle: bytes) -> HeldRequest:
        """Hold the next request that contains `needle` until `HeldRequest.release`."""
        rule = HeldRequest(needle)
        with self._lock:
            self._holds.append(rule)
        return rule

    def cut(self) -> None:
        """Let nothing pass in either direction. No connection ends; data that was sent arrives after `restore`."""
        self._passable.clear()

    def restore(self) -> None:
        """Let everything pass again, including the data that was sent during the cut."""
        self._passable.set()

    def drop_all(self) -> None:
        """Close every connection."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.close()

    def close(self) -> None:
        """Close every connection and accept no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.restore()
        self.drop_all()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Called by the connections

    def delay(self) -> None:
        """Wait as long as a packet takes in one direction now."""
        if self.latency:
            time.sleep(self.latency)
        self._passable.wait()

    def take_hold(self, data: bytes, upstream: socket.socket) -> HeldRequest | None:
        """Return the rule that holds this request, or None."""
        with self._lock:
            for rule in self._holds:
                if rule.needle in data:
                    self._holds.remove(rule)
                    rule.upstream = upstream
                    return rule
        return None

    def take_swallowing(self, data: bytes) -> SwallowRule | None:
        """Return the rule that drops the reply to this request, or None."""
        with self._lock:
            for rule in self._swallowings:
                if rule.begun < rule.times and rule.needle in data:
                    rule.begun += 1
                    return rule
        return None

    def put_back(self, rule: SwallowRule) -> None:
        """Undo `take_swallowing`: the reply was not from the script."""
        with self._lock:
            rule.begun -= 1

    def choose_loss(self, data: bytes) -> str:
        """Choose which part of this call is lost: `request`, `reply`, or '' for none."""
        if not self.loss or b"\r\nEVAL" not in data[:32]:
            return ""
        with self._lock:
            if self._chance.random() >= self.loss:
                return ""
            self.lost += 1
            return self._chance.choice(("request", "reply"))

    def remove(self, connection: _Connection) -> None:
        """Remove a connection that has ended."""
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
