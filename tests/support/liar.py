"""What stands in the place of a Redis and does not answer as one: always, or once for each kind of call."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import hiredis

from worker_agent.protocol.scripts import script

Lie = bytes | Callable[[], Iterator[bytes]]


class Liar:
    """Listens on a free port of loopback; use it as a context manager.

    With `upstream_port` it passes everything on to that Redis, until `lie_to` is called. Without one everything is
    answered by the lie, and `greets` says whether a connection's greeting is answered in truth.
    """

    def __init__(self, lie: Lie, *, upstream_port: int = 0, greets: bool = True) -> None:
        self._lie = lie
        self._upstream_port = upstream_port
        self._left: set[str] = set()
        self._greets = greets
        self.told: set[str] = set()
        self._kinds: dict[str, str] = {}
        self._clients: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Liar:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def lie_to(self, *kinds: str) -> None:
        """Answer the next call of each of these kinds, a command's or a script's name, by the lie."""
        self._kinds = {script(name).sha: name for name in kinds if name.islower()}
        self._left = set(kinds)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                self._clients.append(client)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        upstream = (
            socket.create_connection(("127.0.0.1", self._upstream_port)) if self._upstream_port else None
        )
        requests = hiredis.Reader()
        with client, contextlib.suppress(OSError):
            while data := client.recv(65_536):
                requests.feed(data)
                while (request := requests.gets()) is not False:
                    self._answer(request, client, upstream)
        if upstream:
            upstream.close()

    def _answer(self, request: list[bytes], client: socket.socket, upstream: socket.socket | None) -> None:
        kind = request[0].decode()
        if kind in ("EVALSHA", "EVAL"):
            kind = self._kinds.get(request[1].decode(), kind)
        if upstream is None and self._greets and kind in ("HELLO", "CLIENT", "AUTH"):
            client.sendall(b"%1\r\n+proto\r\n:3\r\n" if kind == "HELLO" else b"+OK\r\n")
        elif upstream is None or kind in self._left:
            self._left.discard(kind)
            self.told.add(kind)
            for piece in [self._lie] if isinstance(self._lie, bytes) else self._lie():
                client.sendall(piece)
        else:
            self._pass_on(request, client, upstream)

    @staticmethod
    def _pass_on(request: list[bytes], client: socket.socket, upstream: socket.socket) -> None:
        upstream.sendall(hiredis.pack_command(tuple(request)))
        replies = hiredis.Reader(replyError=str)
        while replies.gets() is False:
            data = upstream.recv(65_536)
            if not data:
                raise ConnectionError("the Redis behind is gone")
            replies.feed(data)
            client.sendall(data)


def dripping() -> Iterator[bytes]:
    """A reply of which a byte comes now and then."""
    yield b"$1000000\r\n"
    while True:
        time.sleep(0.05)
        yield b"x"


def much(head: bytes, piece: bytes, times: int) -> Callable[[], Iterator[bytes]]:
    """A reply that begins so and goes on with so many pieces."""

    def pieces() -> Iterator[bytes]:
        yield head
        for _ in range(times):
            yield piece

    return pieces
