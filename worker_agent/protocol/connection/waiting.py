"""Wait for tokens: block on some lists at once, and give the wait up early if it is no longer wanted."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker_agent.protocol.connection.cluster import ClusterClient
from worker_agent.protocol.unpatched import time

GIVE_UP_CHECK_S = 0.1
"""How often a wait checks whether to end early."""
MAX_PAUSE_S = 2.0
"""The longest pause before the next wait while Redis is away."""

GiveUp = Callable[[], bool]


class GaveUp(Exception):
    """The wait was no longer wanted."""


def send_together(client: redis.Redis, commands: Sequence[Sequence[Any]], give_up: GiveUp) -> list[Any]:
    """Send some commands in one packet and return the replies. An error that Redis replied with is such a reply.

    While there is no reply, calls `give_up` every `GIVE_UP_CHECK_S` seconds. Drops the connection and raises `GaveUp`
    if that returns true. Raises redis-py's errors; the client's time-out is the longest wait.
    """
    pool: Any = client.connection_pool
    connection = pool.get_connection()
    replies: list[Any] = []
    try:
        connection.send_packed_command(connection.pack_commands(commands))
        ends = time.monotonic() + connection.socket_timeout
        while not connection.can_read(timeout=GIVE_UP_CHECK_S):
            if give_up():
                raise GaveUp
            if time.monotonic() > ends:
                raise RedisTimeoutError
        for _ in commands:
            try:
                replies.append(connection.read_response())
            except ResponseError as error:
                replies.append(error)
    finally:
        if len(replies) < len(commands):
            connection.disconnect()  # A late reply must not be taken for the reply to another command.
        pool.release(connection)
    return replies


class TokenWait:
    """The waits of one thread. Threads may share a client: each wait has a connection for itself."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._failures = 0

    def wait(self, keys: Sequence[str], seconds: float, give_up: GiveUp = lambda: False) -> int | None:
        """Wait for a token at one of the keys, for `seconds` at most. Return which key had one, from 0 on, or None.

        Ends within `GIVE_UP_CHECK_S` after `give_up` returns true. Redis being away counts as waiting.
        """
        try:
            (reply,) = send_together(self._client, [("BLPOP", *keys, f"{seconds:.3f}")], give_up)
            if isinstance(reply, ResponseError):
                # A cluster's client follows a redirection. Any other error is raised again.
                reply = self._client.execute_command("BLPOP", *keys, "0.001")  # type: ignore[no-untyped-call]
            self._failures = 0
            return keys.index(reply[0].decode()) if reply else None
        except GaveUp:
            return None
        except Exception:
            # Redis is away, or this is no Redis. The next call of another kind reports what is wrong.
            if isinstance(self._client, ClusterClient):
                self._client.leave_node(self._client.node)
            self._failures += 1
            pause = min(MAX_PAUSE_S, 0.1 * 2 ** min(self._failures, 8)) * random.uniform(0.5, 1.0)  # noqa: S311
            time.sleep(min(seconds, pause))
            return None
