"""A client for the master of a service that Sentinels watch. Each new connection asks them for the present master."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import redis
from redis.connection import DefaultParser
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import MasterNotFoundError, Sentinel

TIMEOUT_S = 1.0
"""How long to wait for one Sentinel. If it is away or hangs, the next one is asked."""


class SentinelRefuses(RedisError):
    """A Sentinel refuses for good. The text continues the sentence `the Sentinels at ADDRESS ...`."""


class Sentinels(Sentinel):
    """redis-py's class, but it asks as Redis's guidelines for clients say: one command, and the first answer counts.

    So the user on the Sentinels needs only the right `sentinel|get-master-addr-by-name`.
    """

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return host and port of the master. Raises `MasterNotFoundError` or `SentinelRefuses`."""
        last_error: Exception | None = None
        for number, sentinel in enumerate(self.sentinels):
            try:
                found = sentinel.sentinel_get_master_addr_by_name(service_name)
            except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
                raise SentinelRefuses(_refusal(error)) from None
            except ResponseError as error:
                if str(error).startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
                    raise SentinelRefuses(_refusal(error)) from None
                raise SentinelRefuses(f"do not answer like Sentinels ({error}); name Sentinels") from None
            except (RedisConnectionError, RedisTimeoutError, OSError) as error:
                last_error = error
                continue
            if found:
                self.sentinels.insert(0, self.sentinels.pop(number))
                host, port = found  # type: ignore[misc]
                return (host.decode() if isinstance(host, bytes) else host), port
        if last_error is None:
            raise SentinelRefuses(f"know no service {service_name!r}; use the name under which they watch it")
        raise MasterNotFoundError(str(last_error)) from last_error.__cause__ or last_error.__context__


def master_client(
    sentinels: Sequence[tuple[str, int]],
    service: str,
    options: Mapping[str, Any],
    *,
    username: str | None,
    password: str | None,
) -> redis.Redis:
    """Return a client for the service's master. Sends nothing yet.

    `options` are those of a connection to Redis, without host and port. `username` and `password` are those of the
    Sentinels.
    """
    master_options = dict(options)
    tls = issubclass(master_options.pop("connection_class", redis.Connection), redis.SSLConnection)
    shared = {
        key: value
        for key, value in master_options.items()
        if key.startswith(("ssl_", "socket_")) or key in ("protocol", "retry", "maint_notifications_config")
    }
    sentinel_options = shared | {
        "ssl": tls,
        "username": username,
        "password": password,
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
    }
    manager = Sentinels(list(sentinels), sentinel_kwargs=sentinel_options)  # type: ignore[no-untyped-call]
    for sentinel in manager.sentinels:
        sentinel.connection_pool.connection_kwargs["parser_class"] = master_options.get(
            "parser_class", DefaultParser
        )
    client: redis.Redis = manager.master_for(  # type: ignore[no-untyped-call]
        service, redis_class=redis.Redis, ssl=tls, **master_options
    )
    return client


def _refusal(error: Exception) -> str:
    if str(error).startswith("NOPERM") or isinstance(error, NoPermissionError):
        return f"deny their user a right that MutiTask needs ({error}); grant it +sentinel|get-master-addr-by-name"
    return "refuse the password; pass their password as sentinel_password=... in the address"
