"""Make a Redis client from an address.

Every setting that differs between major versions of redis-py is set explicitly.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import weakref
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import RedisError
from redis.retry import Retry

from worker_agent.protocol.connection.address import BadAddress, MultiHostAddress, parse_multi_host, redact
from worker_agent.protocol.connection.cluster import ClusterClient
from worker_agent.protocol.connection.guard import GuardedParser
from worker_agent.protocol.connection.sentinel import master_client
from worker_agent.protocol.errors import RedisRefused

CALL_TIMEOUT_S = 5.0
BLOCK_S = 1.0
"""How long a wait for a token blocks. A lost token delays a task by no more than this."""


def connect(url: str, *, blocking: bool = False, block_s: float = BLOCK_S) -> redis.Redis:
    """Return a client for an address: `redis://`, `unix://`, `redis+sentinel://`, `redis+cluster://`; `rediss` is TLS.

    Sends nothing yet. A `blocking` client is for waits of at most `block_s` seconds: its time-out is longer than them.
    Raises `RedisRefused` for an address that cannot be read.
    """
    options: dict[str, Any] = {
        "protocol": 3,
        "decode_responses": False,
        "socket_timeout": CALL_TIMEOUT_S + (block_s if blocking else 0.0),
        "socket_connect_timeout": 3.0,
        # redis-py would repeat a command after a time-out. Here the caller repeats it, with the same number (law 3).
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "max_connections": 64,
        "parser_class": GuardedParser,
    }
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    _disable_maintenance_notifications(options)
    _send_no_library_name(options)
    try:
        multi_host = parse_multi_host(url)
        client = (
            _multi_host_client(multi_host, options) if multi_host else redis.Redis.from_url(url, **options)
        )
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (ValueError, TypeError, RedisError) as error:
        # If the address has a login, the parser's message may quote a part of the password that it took for a port.
        cause = "" if "@" in url and not isinstance(error, BadAddress) else f" ({error})"
        raise RedisRefused(
            f"{redact(url)} is not an address that can be used{cause}; write redis://[user:password@]host:port/db, "
            "unix:///path, redis+sentinel://host:port,host:port/service/db or redis+cluster://host:port,host:port"
        ) from None
    _clients.add(client)
    return client


_clients: weakref.WeakSet[Any] = weakref.WeakSet()
"""The clients whose sockets a forked child must close."""


def _close_sockets_in_child() -> None:
    """Close a forked child's copies of our sockets without sending anything on them.

    A socket that another thread is just opening cannot be found. It stays open and is not used.
    """
    with contextlib.suppress(Exception):
        for client in list(_clients):
            for pool in client.pools if isinstance(client, ClusterClient) else [client.connection_pool]:
                for connection in (*pool._available_connections, *pool._in_use_connections):
                    if (sock := getattr(connection, "_sock", None)) is not None:
                        connection._sock = None
                        os.close(sock.detach())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_sockets_in_child)


def _multi_host_client(address: MultiHostAddress, options: dict[str, Any]) -> redis.Redis:
    """Return a client for Sentinels or a cluster. Settings in the address override `options`."""
    merged = options | parse_url(address.first_host_url)  # type: ignore[no-untyped-call]
    del merged["host"], merged["port"]
    if address.kind == "sentinel":
        return master_client(
            address.hosts, address.service, merged,
            username=address.sentinel_username, password=address.sentinel_password,
        )  # fmt: skip
    return ClusterClient(address.hosts, merged)


def _disable_maintenance_notifications(options: dict[str, Any]) -> None:
    try:
        from redis.maint_notifications import MaintNotificationsConfig
    except ImportError:
        return
    options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)


def _send_no_library_name(options: dict[str, Any]) -> None:
    """Save two round trips at each new connection. Thousands of agents may connect in the same second."""
    if importlib.util.find_spec("redis.driver_info"):
        options["driver_info"] = None
    else:
        options.update(lib_name=None, lib_version=None)
