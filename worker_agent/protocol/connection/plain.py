"""Send plain commands on one key each, all in one packet. On a cluster, each goes to the node that has its key.

The keys of a namespace share one slot, and `ClusterClient` stays with its node. Bodies have keys in all slots.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import redis
from redis.crc import key_slot
from redis.exceptions import AskError, InvalidResponse, MovedError, RedisError, ResponseError, TryAgainError

from worker_agent.protocol.connection.cluster import MAX_REDIRECTIONS, UNKNOWN_HOSTS, ClusterClient, Node

Argument = str | bytes | memoryview | int
Command = tuple[Argument, ...]
Receive = Callable[[int, Any], None]
"""Receives a command's index and its reply. An error that Redis replied with is passed as the reply."""
SLOTS = 16384
_OWN_CHUNK_BYTES = 32 * 1024
"""An argument from this size on is sent as it is, without being copied into the packet."""


class NodeFailed(Exception):
    """A node of a cluster could not be used. `node` is its host and port, `error` what redis-py raised."""

    def __init__(self, node: Node, error: Exception) -> None:
        super().__init__(str(error))
        self.node = node
        self.error = error


class PlainCommands:
    """Sends plain commands of one client. `client` may have a dedicated connection for scripts.

    Never repeats a command by itself, except one that a node of a cluster passed on to another node.
    """

    def __init__(self, client: Any) -> None:
        plain = getattr(client, "plain", client)
        self._client: redis.Redis = plain
        self._slots = _Slots(plain) if isinstance(plain, ClusterClient) else None

    @property
    def one_node(self) -> bool:
        """Whether one node has all keys, so that one command may name many of them."""
        return self._slots is None

    def send(self, commands: Sequence[Command], receive: Receive) -> None:
        """Send the commands, and pass each reply to `receive` as soon as it is read.

        Raises redis-py's errors, or `NodeFailed` with them on a cluster. Some replies may have been received by then.
        """
        if self._slots is None:
            with _Pipeline(self._client.connection_pool, commands) as replies:
                for index, reply in enumerate(replies):
                    receive(index, reply)
        elif commands:
            self._slots.send(commands, receive)

    def scan(self, pattern: bytes, count: int) -> Iterator[list[bytes]]:
        """Yield the keys that match, in pages, of every master. A key may come twice."""
        pools = [self._client.connection_pool] if self._slots is None else self._slots.masters()
        for pool in pools:
            cursor: Any = b"0"
            while True:
                with _Pipeline(pool, [("SCAN", cursor, "MATCH", pattern, "COUNT", count)]) as replies:
                    reply = next(replies)
                if isinstance(reply, Exception):
                    raise reply
                cursor, keys = reply
                yield [key for key in keys if isinstance(key, bytes)]
                if int(cursor) == 0:
                    break


class _Pipeline:
    """Some commands on one connection of a pool, which is dropped unless every reply was read."""

    def __init__(self, pool: Any, commands: Sequence[Command], *, asking: bool = False) -> None:
        self._pool = pool
        self._count = len(commands)
        self._asking = asking
        self._unread = self._count
        self._connection = pool.get_connection()
        try:
            sent = [part for command in commands for part in (("ASKING",), command)] if asking else commands
            self._connection.send_packed_command(_packed(sent))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Iterator[Any]:
        return self._replies()

    def _replies(self) -> Iterator[Any]:
        for _ in range(self._count):
            if self._asking:
                self._connection.read_response()
            try:
                reply = self._connection.read_response()
            except ResponseError as error:
                reply = error
            self._unread -= 1
            yield reply

    def __exit__(self, *_error: object) -> None:
        if self._unread:
            self._connection.disconnect()  # A late reply must not be taken for the reply to another command.
        self._pool.release(self._connection)


def _packed(commands: Iterable[Command]) -> list[bytes | memoryview]:
    """Return commands as Redis reads them, in pieces. redis-py would copy large arguments twice."""
    pieces: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for command in commands:
        small.append(b"*%d\r\n" % len(command))
        for argument in command:
            data = argument if isinstance(argument, bytes | memoryview) else str(argument).encode()
            size = len(data)
            if size < _OWN_CHUNK_BYTES:
                small += (b"$%d\r\n" % size, data, b"\r\n")
            else:
                small.append(b"$%d\r\n" % size)
                pieces += (b"".join(small), data)
                small = [b"\r\n"]
    pieces.append(b"".join(small))
    return pieces


class _Slots:
    """Which node of a cluster has which slot, and the commands that go there.

    The map is read with `CLUSTER SLOTS` if this user may. Otherwise redirections tell it, slot by slot.
    """

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._owners: list[Node | None] = []
        """The owner of each slot, None while it is unknown. Empty before the first use and after a change."""

    def send(self, commands: Sequence[Command], receive: Receive) -> None:
        """Send the commands to the nodes of their keys, to all nodes at once, and follow redirections."""
        left: dict[int, Node | None] = dict.fromkeys(range(len(commands)))  # None: the owner of the slot.
        for _ in range(MAX_REDIRECTIONS):
            left = self._send_once(commands, left, receive)
            if not left:
                return
        raise TryAgainError("the nodes of the cluster do not agree yet on which node has a body")

    def masters(self) -> list[redis.ConnectionPool]:
        """Return a pool for each master, or for each node in the address if the masters are unknown."""
        self._owners = []
        nodes = dict.fromkeys(owner for owner in self._read_owners() if owner is not None)
        nodes = nodes or dict.fromkeys(self._client.seeds)
        return [self._client.pool(node) for node in nodes]

    def _send_once(
        self, commands: Sequence[Command], indexes: Mapping[int, Node | None], receive: Receive
    ) -> dict[int, Node | None]:
        """Send these commands once. Return those that were redirected, with the node that a single call may ask."""
        owners = self._read_owners()
        groups: dict[tuple[Node, bool], list[int]] = {}
        for index, importing in indexes.items():
            node = importing or owners[_slot(commands[index])] or self._client.node
            groups.setdefault((node, importing is not None), []).append(index)
        redirected: dict[int, Node | None] = {}
        failures: list[NodeFailed] = []
        with contextlib.ExitStack() as open_pipelines:
            started: list[tuple[Node, list[int], Iterator[Any]]] = []
            for (node, asking), group in groups.items():
                with _noting(node, failures):
                    pipeline = _Pipeline(self._client.pool(node), [commands[i] for i in group], asking=asking)
                    started.append((node, group, open_pipelines.enter_context(pipeline)))
            for node, group, replies in started:
                with _noting(node, failures):
                    for index, reply in zip(group, replies, strict=True):
                        if isinstance(reply, MovedError):  # First, because redis-py derives it from AskError.
                            owners[_slot(commands[index])] = _redirection(reply, node)
                            redirected[index] = None
                        elif isinstance(reply, AskError):
                            redirected[index] = _redirection(reply, node)
                        else:
                            receive(index, reply)
        if failures:
            self._owners = []  # The slots of a node that failed may have another owner by now.
            for failed in failures:
                if not isinstance(failed.error, ResponseError | InvalidResponse):
                    self._client.leave_node(failed.node)
            raise failures[0]
        return redirected

    def _read_owners(self) -> list[Node | None]:
        """Return the owner of each slot. Read the map if it is not known, from the first node that answers."""
        if owners := self._owners:
            return owners
        owners = [None] * SLOTS
        for node in dict.fromkeys((self._client.node, *self._client.known_nodes)):
            try:
                with _Pipeline(self._client.pool(node), [("CLUSTER", "SLOTS")]) as replies:
                    reply = next(replies)
            except (RedisError, OSError):
                continue
            for first, last, owner in _ranges(reply, node):
                owners[first : last + 1] = [owner] * (last + 1 - first)
            break
        self._owners = owners
        return owners


@contextlib.contextmanager
def _noting(node: Node, failures: list[NodeFailed]) -> Iterator[None]:
    """Note the failure of a node, so that the other nodes still get their commands."""
    try:
        yield
    except (RedisError, OSError) as error:
        failures.append(NodeFailed(node, error))


def _slot(command: Command) -> int:
    key = command[1]
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


def _redirection(error: AskError, node: Node) -> Node:
    host = error.host.strip("[]")
    return (node[0] if host in UNKNOWN_HOSTS else host, error.port)


def _ranges(reply: Any, asked: Node) -> Iterable[tuple[int, int, Node]]:
    """Yield first slot, last slot and master of each range in a reply to `CLUSTER SLOTS`. An error yields nothing."""
    for entry in reply if isinstance(reply, list) else ():
        with contextlib.suppress(TypeError, ValueError, LookupError, AttributeError):
            first, last, (host, port, *_), *_replicas = entry
            if 0 <= first <= last < SLOTS:
                name = host.decode() if isinstance(host, bytes) else str(host or "")
                yield first, last, (asked[0] if name in UNKNOWN_HOSTS else name, int(port))
