"""A client for the master of a service that Sentinels watch: each new connection asks them who that is now."""

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
"""For a Sentinel that is away or hangs: there are others to ask."""


class SentinelRefuses(RedisError):
    """A Sentinel answers, and trying again changes nothing. Its text goes behind `the Sentinels at ADDRESS`."""


class Sentinels(Sentinel):
    """redis-py's, asking as the protocol for clients has it: one command, and the first that knows an answer counts.

    So a user on the Sentinels needs no right but `sentinel|get-master-addr-by-name`.
    """

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Host and port of the master. Raises `MasterNotFoundError` or `SentinelRefuses`."""
        trouble: Exception | None = None
        for number, sentinel in enumerate(self.sentinels):
            try:
                found = sentinel.sentinel_get_master_addr_by_name(service_name)
            except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
                raise SentinelRefuses(_refusal(error)) from None
            except ResponseError as error:
                if str(error).startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
                    raise SentinelRefuses(_refusal(error)) from None
                raise SentinelRefuses(f"do not answer as Sentinels do ({error}); name Sentinels") from None
            except (RedisConnectionError, RedisTimeoutError, OSError) as error:
                trouble = error
                continue
            if found:
                self.sentinels.insert(0, self.sentinels.pop(number))
                host, port = found  # type: ignore[misc]
                return (host.decode() if isinstance(host, bytes) else host), port
        if trouble is None:
            raise SentinelRefuses(f"know no service {service_name!r}; write the name that they watch it by")
        raise MasterNotFoundError(str(trouble)) from trouble.__cause__ or trouble.__context__


def master_client(
    sentinels: Sequence[tuple[str, int]],
    service: str,
    options: Mapping[str, Any],
    *,
    username: str | None,
    password: str | None,
) -> redis.Redis:
    """A client for the service's master. Nothing is sent yet.

    `options` are those of a connection to Redis, without host and port; `username` and `password` the Sentinels'.
    """
    own = dict(options)
    tls = issubclass(own.pop("connection_class", redis.Connection), redis.SSLConnection)
    shared = {
        key: value
        for key, value in own.items()
        if key.startswith(("ssl_", "socket_")) or key in ("protocol", "retry", "maint_notifications_config")
    }
    asking = shared | {
        "ssl": tls,
        "username": username,
        "password": password,
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
    }
    manager = Sentinels(list(sentinels), sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    for sentinel in manager.sentinels:
        sentinel.connection_pool.connection_kwargs["parser_class"] = own.get("parser_class", DefaultParser)
    client: redis.Redis = manager.master_for(  # type: ignore[no-untyped-call]
        service, redis_class=redis.Redis, ssl=tls, **own
    )
    return client


def _refusal(error: Exception) -> str:
    if str(error).startswith("NOPERM") or isinstance(error, NoPermissionError):
        return f"do not allow their user what is needed ({error}); grant it +sentinel|get-master-addr-by-name"
    return "refuse the password; pass theirs as sentinel_password=... in the address"
