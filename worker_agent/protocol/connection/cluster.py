"""A client for one namespace on a Redis Cluster. It talks to the node that owns the namespace's slot.

All keys of a namespace share one hash tag, so each call goes to one node. A node that does not own the slot names the
one that does (MOVED, ASK). So the client needs no map of slots, and no rights beyond those of the namespace. It reads
the list of nodes only to know which others to try if a node is gone. As with a single Redis, the client never repeats a
call by itself: only a call that a node refused goes to another node. The caller repeats a lost call with the same
number (law 3).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from redis.exceptions import AskError, MovedError, RedisError, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

Node = tuple[str, int]

MAX_REDIRECTIONS = 5
"""The most redirections in a row. After more than these, the nodes do not agree yet."""
UNKNOWN_HOSTS = ("", "?")
"""What a node sends if it does not know a host's name. It then means the host that was asked."""


class ClusterClient(redis.Redis):
    """Send every command to the node that answered the last one, and follow its redirections.

    `seeds` are the nodes in the address. `options` are those of each connection, without host and port. Sends nothing
    yet.
    """

    def __init__(self, seeds: Sequence[Node], options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._pools_lock = threading.Lock()
        self._seeds = list(seeds)
        self._nodes: list[Node] = []
        self._nodes_known = False
        self._pools: dict[Node, redis.ConnectionPool] = {}
        self._node = self._seeds[0]
        super().__init__(connection_pool=self._pool(self._node))

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Return the reply of the node that owns the key. Raises redis-py's errors."""
        self.learn_nodes()
        importing: Node | None = None
        for _ in range(MAX_REDIRECTIONS):
            node = importing or self._node
            try:
                if importing is not None:
                    return self._ask(importing, *args, **options)
                return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
            except MovedError as moved:  # First, because redis-py derives it from AskError.
                importing = None
                self._use(self._redirection(moved, node))
                self._nodes_known = False  # The cluster has changed.
            except AskError as ask:
                importing = self._redirection(ask, node)
            except (RedisConnectionError, RedisTimeoutError, OSError):
                self.leave_node(node)
                raise
        raise TryAgainError("the nodes of the cluster do not agree yet on which node has this namespace")

    @property
    def node(self) -> Node:
        """The node that answered the last call."""
        return self._node

    @property
    def known_nodes(self) -> list[Node]:
        """The nodes of the cluster as far as they are known, and those in the address."""
        return [*self._nodes, *(seed for seed in self._seeds if seed not in self._nodes)]

    @property
    def seeds(self) -> list[Node]:
        """The nodes in the address."""
        return list(self._seeds)

    def pool(self, node: Node) -> redis.ConnectionPool:
        """Return the connections to a node."""
        return self._pool(node)

    @property
    def pools(self) -> list[redis.ConnectionPool]:
        """The connections to all nodes that were used."""
        with self._pools_lock:
            return list(self._pools.values())

    def learn_nodes(self) -> None:
        """Read the list of nodes if it is not known: once at the start, and again after the cluster changed."""
        if not self._nodes_known:
            self._read_nodes()

    def leave_node(self, node: Node) -> None:
        """Use the next node, because this one is gone or silent. The next one names the new owner of the slot."""
        if node != self._node:
            return  # Another thread has already changed the node.
        nodes = self.known_nodes
        place = nodes.index(node) if node in nodes else -1
        self._use(nodes[(place + 1) % len(nodes)])
        self._nodes_known = False

    def close(self) -> None:
        """Close every connection to every node."""
        for pool in self.pools:
            pool.disconnect()

    def _pool(self, node: Node) -> redis.ConnectionPool:
        with self._pools_lock:
            if node not in self._pools:
                self._pools[node] = redis.ConnectionPool(host=node[0], port=node[1], **self._options)
            return self._pools[node]

    def _use(self, node: Node) -> None:
        self._node, self.connection_pool = node, self._pool(node)

    def _read_nodes(self) -> None:
        """Read the list of nodes if this user may."""
        self._nodes_known = True
        node = self._node
        with contextlib.suppress(ResponseError, RedisConnectionError, RedisTimeoutError, OSError):
            slots = super().execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
            nodes = dict.fromkeys(_nodes_in(slots, node))
            self._nodes = list(nodes) or self._nodes

    def _redirection(self, error: MovedError | AskError, node: Node) -> Node:
        host = error.host.strip("[]")
        return (node[0] if host in UNKNOWN_HOSTS else host, error.port)

    def _ask(self, node: Node, *args: Any, **options: Any) -> Any:
        """Send one call to a node that is importing the slot."""
        pool = self._pool(node)
        connection = pool.get_connection()
        try:
            connection.send_command("ASKING")  # type: ignore[no-untyped-call]
            connection.read_response()
            connection.send_command(*args)  # type: ignore[no-untyped-call]
            return self.parse_response(connection, args[0], **options)  # type: ignore[no-untyped-call]
        except ResponseError:
            raise
        except (RedisError, OSError):
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        finally:
            pool.release(connection)


def _nodes_in(slots: Any, asked: Node) -> list[Node]:
    """Return the nodes in a reply to `CLUSTER SLOTS`. Each range is the first slot, the last slot, then its nodes."""
    found: list[Node] = []
    for slot_range in slots if isinstance(slots, list) else ():
        for node in slot_range[2:]:
            host = node[0].decode() if isinstance(node[0], bytes) else str(node[0] or "")
            found.append((asked[0] if host in UNKNOWN_HOSTS else host, int(node[1])))
    return found
