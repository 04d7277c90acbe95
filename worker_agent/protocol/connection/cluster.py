"""A client for one namespace on a Redis Cluster: it talks to the node that owns the namespace's slot.

All keys of a namespace share one hash tag, so each of its calls goes to one node. A node that is asked in vain names
the right one (MOVED, ASK), so this needs no map of slots and no rights beyond the namespace's own: the list of nodes is
asked for only to know whom else to ask when one is gone. As on a single Redis nothing is sent twice by itself: only a
call that a node refused goes to another one; the caller repeats what got lost, with the same number (law 3).
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

REDIRECTIONS = 5
"""More in a row mean that the nodes do not agree yet."""
FORGOTTEN_HOSTS = ("", "?")
"""What a node says that does not know a host's name; it is then the one that was asked."""


class ClusterClient(redis.Redis):
    """Every command goes to the node that answered the last one, and follows it when it names another.

    `seeds` are the nodes that a person named, `options` each connection's, without host and port. Nothing is sent yet.
    """

    def __init__(self, seeds: Sequence[Node], options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._changing = threading.Lock()
        self._seeds = list(seeds)
        self._nodes: list[Node] = []
        self._known = False
        self._pools: dict[Node, redis.ConnectionPool] = {}
        self._node = self._seeds[0]
        super().__init__(connection_pool=self._pool(self._node))

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """The reply of the node that owns the key. Raises redis-py's errors."""
        if not self._known:
            self._learn()
        asked: Node | None = None
        for _ in range(REDIRECTIONS):
            node = asked or self._node
            try:
                if asked is not None:
                    return self._ask(asked, *args, **options)
                return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
            except MovedError as moved:  # Before the other: to redis-py it is a kind of it.
                asked = None
                self._go_to(self._named(moved, node))
                self._known = False  # The cluster is another than it was.
            except AskError as ask:
                asked = self._named(ask, node)
            except (RedisConnectionError, RedisTimeoutError, OSError):
                self._leave(node)
                raise
        raise TryAgainError("the nodes of the cluster do not agree yet about who has this namespace")

    def close(self) -> None:
        """Close every connection to every node."""
        with self._changing:
            pools = list(self._pools.values())
        for pool in pools:
            pool.disconnect()

    # -- which node ----------------------------------------------------------------------------------

    def _pool(self, node: Node) -> redis.ConnectionPool:
        with self._changing:
            if node not in self._pools:
                self._pools[node] = redis.ConnectionPool(host=node[0], port=node[1], **self._options)
            return self._pools[node]

    def _go_to(self, node: Node) -> None:
        self._node, self.connection_pool = node, self._pool(node)

    def _leave(self, node: Node) -> None:
        """The node is gone or silent: ask the next one, which names whoever took its slots over."""
        if node != self._node:
            return  # Another thread has already left it.
        others = [*self._nodes, *(seed for seed in self._seeds if seed not in self._nodes)]
        place = others.index(node) if node in others else -1
        self._go_to(others[(place + 1) % len(others)])
        self._known = False

    def _learn(self) -> None:
        """Ask for the nodes, where this user may; once at the beginning, and again when the cluster changed."""
        self._known = True
        node = self._node
        with contextlib.suppress(ResponseError, RedisConnectionError, RedisTimeoutError, OSError):
            slots = super().execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
            nodes = dict.fromkeys(_places(slots, node))
            self._nodes = list(nodes) or self._nodes

    def _named(self, error: MovedError | AskError, node: Node) -> Node:
        host = error.host.strip("[]")
        return (node[0] if host in FORGOTTEN_HOSTS else host, error.port)

    def _ask(self, node: Node, *args: Any, **options: Any) -> Any:
        """One call to a node that is still taking the slot over."""
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


def _places(slots: Any, asked: Node) -> list[Node]:
    """The nodes in a `CLUSTER SLOTS` reply: ranges of first slot, last slot, and a node after the other."""
    found: list[Node] = []
    for places in slots if isinstance(slots, list) else ():
        for place in places[2:]:
            host = place[0].decode() if isinstance(place[0], bytes) else str(place[0] or "")
            found.append((asked[0] if host in FORGOTTEN_HOSTS else host, int(place[1])))
    return found
