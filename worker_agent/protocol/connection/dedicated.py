"""A connection of its own for a thread that calls scripts all the time."""

from __future__ import annotations

import threading
from typing import Any

import hiredis
import redis
from redis.exceptions import RedisError, ResponseError

from worker_agent.protocol.connection.cluster import ClusterClient


class DedicatedConnection:
    """Send scripts over one connection that stays open. Other commands, and calls meanwhile, go through the client.

    For each command, redis-py takes a connection from its pool, prepares retries and metrics, and returns the
    connection. That takes 35 to 50 us of CPU; the call itself takes 10 (`docs/performance.md`). This class never
    repeats a call.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._in_use = threading.Lock()
        self._connection: Any = None

    @property
    def plain(self) -> redis.Redis:
        """The client that sends all but scripts."""
        return self._client

    def execute_command(self, *command: Any) -> Any:
        """Send a command and return its reply. Raises redis-py's errors."""
        if command[0] != "EVALSHA" or not self._in_use.acquire(blocking=False):
            return self._client.execute_command(*command)  # type: ignore[no-untyped-call]
        try:
            connection = self._connected()
            connection.send_packed_command([hiredis.pack_command(command)])
            return connection.read_response()
        except ResponseError:
            raise
        except BaseException:
            self._drop()  # A late reply must not be taken for the reply to the next call.
            raise
        finally:
            self._in_use.release()

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
        self._connection = self._client.connection_pool.get_connection()
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            self._client.connection_pool.release(connection)


def dedicate(client: redis.Redis) -> Any:
    """Return the client with a dedicated connection for scripts. A cluster's client is returned unchanged.

    The node of a cluster that owns the namespace can change.
    """
    return client if isinstance(client, ClusterClient) else DedicatedConnection(client)
