"""A fake Redis that sends faulty answers: always, or once for each kind of call."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import hiredis

from worker_agent.protocol.scripts import script

Answer = bytes | Callable[[], Iterator[bytes]]


class FaultyRedis:
    """Listens on a free port of loopback; use it as a context manager.

    With `upstream_port`, it forwards everything to that Redis until `answer_wrongly` is called. Without it, every
    answer is faulty; `greets` says whether the greeting of a connection gets a correct answer.
    """

    def __init__(self, faulty_answer: Answer, *, upstream_port: int = 0, greets: bool = True) -> None:
        self._faulty_answer = faulty_answer
        self._upstream_port = upstream_port
        self._left: set[str] = set()
        self._greets = greets
        self.answered: set[str] = set()
        self._kinds: dict[str, str] = {}
        self._clients: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> FaultyRedis:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def answer_wrongly(self, *kinds: str) -> None:
        """Send the faulty answer to the next call of each kind. A kind is the name of a command or a script."""
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
            self.answered.add(kind)
            for piece in (
                [self._faulty_answer] if isinstance(self._faulty_answer, bytes) else self._faulty_answer()
            ):
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
                raise ConnectionError("the real Redis is gone")
            replies.feed(data)
            client.sendall(data)


def slow_reply() -> Iterator[bytes]:
    """Yield a reply one byte at a time, with pauses."""
    yield b"$1000000\r\n"
    while True:
        time.sleep(0.05)
        yield b"x"


def large_reply(head: bytes, piece: bytes, times: int) -> Callable[[], Iterator[bytes]]:
    """Return a reply that starts with `head` and continues with `piece`, `times` times."""

    def pieces() -> Iterator[bytes]:
        yield head
        for _ in range(times):
            yield piece

    return pieces
