"""A connection that stays open for the calls of a process, and that its threads share."""

from __future__ import annotations

import threading
from typing import Any

import hiredis
import redis
from redis.exceptions import AskError, RedisError, ResponseError

from worker_agent.protocol.connection.cluster import ClusterClient

SHARE_WAIT_S = 0.05
"""How long a call waits for another call to end. Then it uses a further connection."""


class DedicatedConnection:
    """Send calls over one connection that stays open. A call goes through the client if another one takes long.

    For each command, redis-py takes a connection from its pool, prepares retries and metrics, and returns the
    connection. That takes 35 to 50 us of CPU; the call itself takes 10 (`docs/performance.md`). This class never
    repeats a call.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._in_use = threading.Lock()
        self._connection: Any = None
        self._pool: Any = None
        """The pool from which the connection is."""

    @property
    def plain(self) -> redis.Redis:
        """The client, for commands on keys of any slot."""
        return self._client

    def execute_command(self, *command: Any) -> Any:
        """Send a command on keys of the namespace, and return its reply. Raises redis-py's errors."""
        in_use = self._in_use
        if not in_use.acquire(blocking=False) and not in_use.acquire(timeout=SHARE_WAIT_S):
            return self._client.execute_command(*command)  # type: ignore[no-untyped-call]
        try:
            return self._send(command)
        finally:
            in_use.release()

    def _send(self, command: tuple[Any, ...]) -> Any:
        try:
            connection = self._connected()
            connection.send_packed_command([hiredis.pack_command(command)])
            return connection.read_response()
        except ResponseError:
            raise
        except BaseException:
            self._drop()  # A late reply must not be taken for the reply to the next call.
            raise

    def _connected(self) -> Any:
        """Return the connection, or a new one if Redis closed it: a closed connection has something to read."""
        connection = self._connection
        if connection is not None:
            try:
                if not connection.can_read():
                    return connection
            except (RedisError, OSError):
                pass
            self._drop()
        self._pool = self._client.connection_pool
        self._connection = self._pool.get_connection()
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)


class ClusterConnection(DedicatedConnection):
    """The same on a cluster: the connection goes to the node that has the namespace, also after that has changed."""

    _client: ClusterClient

    def _send(self, command: tuple[Any, ...]) -> Any:
        client = self._client
        client.learn_nodes()
        if self._pool is not client.connection_pool:
            self._drop()  # Another call was told that the namespace has moved.
        node = client.node
        try:
            return super()._send(command)
        except AskError:
            # The node refused the call, so it may be sent again. `MovedError` is an `AskError` too.
            return client.execute_command(*command)
        except (RedisError, OSError) as error:
            if not isinstance(error, ResponseError):
                client.leave_node(node)
            raise


def dedicate(client: redis.Redis) -> DedicatedConnection:
    """Return a dedicated connection for the calls to one namespace."""
    return ClusterConnection(client) if isinstance(client, ClusterClient) else DedicatedConnection(client)


def close_idle_connections(client: Any, *, keep: int = 0) -> None:
    """Close the connections of a client that no call uses now, except `keep` to the node that was used last."""
    plain = getattr(client, "plain", client)
    for pool in plain.pools if isinstance(plain, ClusterClient) else [plain.connection_pool]:
        with pool._lock:
            idle = list(pool._available_connections)
            for connection in idle[: len(idle) - (keep if pool is plain.connection_pool else 0)]:
                connection.disconnect()
