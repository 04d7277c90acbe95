"""A connection that is kept from call to call, for those who call all the time."""

from __future__ import annotations

import threading
from typing import Any

import hiredis
import redis
from redis.exceptions import RedisError, ResponseError

from worker_agent.protocol.connection.cluster import ClusterClient


class DedicatedConnection:
    """Sends scripts over one connection of a client's; everything else, and what comes meanwhile, by the client itself.

    For each command redis-py takes a connection from its pool, gives it back, and makes ready for retries and metrics:
    35 to 50 us of CPU, where the call itself takes 10 (`docs/performance.md`). Nothing is sent twice, as everywhere.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._mine = threading.Lock()
        self._connection: Any = None

    def execute_command(self, *command: Any) -> Any:
        """The reply. Raises redis-py's errors."""
        if command[0] != "EVALSHA" or not self._mine.acquire(blocking=False):
            return self._client.execute_command(*command)  # type: ignore[no-untyped-call]
        try:
            connection = self._alive()
            connection.send_packed_command([hiredis.pack_command(command)])
            return connection.read_response()
        except ResponseError:
            raise
        except BaseException:
            self._drop()  # A reply may still come, and is nobody's.
            raise
        finally:
            self._mine.release()

    def _alive(self) -> Any:
        """The connection; another one where it was closed from the other end, which shows as something to read."""
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
    """The client, with a kept connection for its scripts; on a cluster as it is, since a node may name another one."""
    return client if isinstance(client, ClusterClient) else DedicatedConnection(client)
