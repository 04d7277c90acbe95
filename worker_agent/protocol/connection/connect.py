"""From a URL to a client, with every setting that redis-py's major versions set differently said outright."""

from __future__ import annotations

import contextlib
import os
import random
import re
import ssl
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from worker_agent.protocol.connection.address import BadAddress, Several, cluster_of, redact, split_several
from worker_agent.protocol.connection.cluster import ClusterClient
from worker_agent.protocol.connection.guard import GuardedParser
from worker_agent.protocol.connection.sentinel import SentinelRefuses, master_client
from worker_agent.protocol.errors import MutiTaskError, RedisGarbled, RedisRefused, RedisUnavailable
from worker_agent.protocol.pristine import time

CALL_TIMEOUT_S = 5.0
BLOCK_S = 1.0
"""How long a waiter blocks at most: a lost token costs no more than this."""

_SCRIPT_REFUSED = re.compile(r"ACL failure in script: |(?=The user executing the script can't )")
"""How Valkey and Redis 7 say that a command within a script is not allowed."""

_SCRIPT_STUMBLED = re.compile(r"user_script.*attempt to|not an integer|not a valid float|bad argument #")
"""How a script ends that meets a field that no program of ours wrote."""

_NOT_READY = ("LOADING", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS", "UNBLOCKED")
"""What a server says that can do it as soon as something else is over: a start, a failover, a move."""

T = TypeVar("T")


class NoRights(RedisRefused):
    """This user may not do what is needed. On the default address: an embedded Valkey of another namespace."""


def connect(url: str, *, blocking: bool = False) -> redis.Redis:
    """A client for the URL (`redis://`, `unix://`, `redis+sentinel://`, `redis+cluster://`, TLS by `rediss`).

    Nothing is sent yet. A `blocking` client is for a waiter alone: its time-out stands above its block.
    Raises `RedisRefused` for a URL that cannot be read.
    """
    options: dict[str, Any] = {
        "protocol": 3,
        "decode_responses": False,
        "socket_timeout": CALL_TIMEOUT_S + (BLOCK_S if blocking else 0.0),
        "socket_connect_timeout": 3.0,
        # redis-py re-sends by itself after a time-out; here the caller does, with the same number (law 3).
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "max_connections": 64,
        "parser_class": GuardedParser,
    }
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    _without_maintenance_notifications(options)
    try:
        several = split_several(url)
        client = _several_client(several, options) if several else redis.Redis.from_url(url, **options)
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (ValueError, TypeError, RedisError) as error:
        # Behind a login the parser's words may be a piece of the password that it took for a port.
        cause = "" if "@" in url and not isinstance(error, BadAddress) else f" ({error})"
        raise RedisRefused(
            f"{redact(url)} is not an address that can be used{cause}; write redis://[user:password@]host:port/db, "
            "unix:///path, redis+sentinel://host:port,host:port/service/db or redis+cluster://host:port,host:port"
        ) from None
    _clients.add(client)
    return client


_clients: weakref.WeakSet[Any] = weakref.WeakSet()
"""What a forked child must let go of."""


def _close_in_child() -> None:
    """A child that a task forks shares our sockets: it closes its copies, and says nothing on them.

    One that another thread is just making cannot be found; it stays open and is not used.
    """
    with contextlib.suppress(Exception):
        for client in list(_clients):
            pool = client.connection_pool
            for connection in (*pool._available_connections, *pool._in_use_connections):
                if (sock := getattr(connection, "_sock", None)) is not None:
                    connection._sock = None
                    os.close(sock.detach())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def _several_client(address: Several, options: dict[str, Any]) -> redis.Redis:
    """Through Sentinels, or on a cluster. What the URL says stands above `options`."""
    merged = options | parse_url(address.single)  # type: ignore[no-untyped-call]
    del merged["host"], merged["port"]
    if address.kind == "sentinel":
        return master_client(
            address.hosts, address.service, merged,
            username=address.sentinel_username, password=address.sentinel_password,
        )  # fmt: skip
    return ClusterClient(address.hosts, merged)


def _without_maintenance_notifications(options: dict[str, Any]) -> None:
    try:
        from redis.maint_notifications import MaintNotificationsConfig
    except ImportError:
        return
    options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)


def ask_in_turn(
    client: redis.Redis, commands: Sequence[Sequence[Any]], until: Callable[[], bool], look_s: float
) -> Any:
    """The reply to the last of some commands that are sent together; None where one failed or could not be sent.

    While no reply has come, `until` is asked every `look_s` seconds whether to give up; then, as at the client's
    time-out, the connection is dropped.
    """
    pool: Any = client.connection_pool
    connection, reply = None, None
    try:
        connection = pool.get_connection()
        connection.send_packed_command(connection.pack_commands(commands))
        ends = time.monotonic() + connection.socket_timeout
        while not connection.can_read(timeout=look_s):
            if until() or time.monotonic() > ends:
                connection.disconnect()
                return None
        for _ in commands:
            try:
                reply = connection.read_response()
            except ResponseError:
                reply = None
    except (
        Exception
    ):  # Redis is away, or what answers is none: the caller asks again, and learns what is wrong.
        if connection is not None:
            connection.disconnect()
        return None
    finally:
        if connection is not None:
            pool.release(connection)
    return reply


def translate(error: Exception, address: str) -> MutiTaskError:
    """redis-py's error as one of ours, with a sentence. `address` is an address without a password.

    The error's own traceback is dropped: redis-py's frames hold the password, and Textual's crash report shows locals.
    """
    text = str(error)
    tls = _tls_trouble(error, address)
    several = _several_trouble(error, address)
    for each in (error, error.__cause__, error.__context__):
        if each is not None:
            each.__traceback__ = None
    if several:
        return several
    if isinstance(error, InvalidResponse):
        return RedisGarbled(
            f"what answers at {address} does not answer as Redis does ({_cause(error)}); see what listens there"
        )
    if isinstance(error, AuthenticationError | AuthorizationError) or text.startswith(
        ("WRONGPASS", "NOAUTH")
    ):
        return RedisRefused(f"Redis at {address} refuses the password; pass the right one in --redis")
    if isinstance(error, NoPermissionError) or text.startswith("NOPERM") or _SCRIPT_REFUSED.match(text):
        refused = _SCRIPT_REFUSED.sub("", text).partition(" script: ")[0]
        return NoRights(
            f"Redis at {address} does not allow this user what is needed ({refused}); "
            "grant it what docs/security.md lists for its role, or name another user in --redis"
        )
    if text.startswith("MISCONF"):
        why = text.removeprefix("MISCONF").partition(" script: ")[0].strip().rstrip(".")
        return RedisUnavailable(
            f"Redis at {address} cannot write to its disk and takes no writes ({why}); make room there"
        )
    if isinstance(error, ReadOnlyError) or text.startswith("READONLY"):
        return RedisUnavailable(
            f"Redis at {address} is a replica and takes no writes; it goes on once that one is made the primary"
        )
    if text.startswith("BUSY "):
        return RedisUnavailable(
            f"Redis at {address} is busy with somebody's script; `SCRIPT KILL` there ends it"
        )
    transient = (BusyLoadingError, ClusterDownError, MasterDownError, TryAgainError)
    if isinstance(error, transient) or text.startswith(_NOT_READY):
        return RedisUnavailable(f"Redis at {address} is not ready: {text.partition(' script: ')[0]}")
    if tls:
        return RedisUnavailable(tls)
    if isinstance(error, RedisTimeoutError):
        return RedisUnavailable(f"Redis at {address} did not answer in time")
    if isinstance(error, RedisConnectionError):
        return RedisUnavailable(f"Redis at {address} cannot be reached: {_cause(error)}")
    if isinstance(error, OutOfMemoryError) or "OOM" in text:
        return RedisUnavailable(f"Redis at {address} is out of memory (maxmemory); raise it or drain results")
    if "WRONGTYPE" in text or _SCRIPT_STUMBLED.search(text):
        return RedisRefused(not_ours(address))
    if isinstance(error, ResponseError):
        return RedisRefused(
            f"Redis at {address} refuses ({text}); see that it is a Redis or Valkey and runs scripts"
        )
    return RedisUnavailable(f"Redis at {address}: {text or type(error).__name__}")


def not_ours(address: str) -> str:
    """What to say of a key of this namespace that no program of ours wrote."""
    return f"Redis at {address} holds a key of this namespace that is not ours; choose another --name"


def _several_trouble(error: Exception, address: str) -> MutiTaskError | None:
    """What only Sentinels and clusters say."""
    if isinstance(error, SentinelRefuses):
        return RedisRefused(f"the Sentinels at {address} {error}")
    if isinstance(error, MasterNotFoundError):
        return RedisUnavailable(f"no Sentinel at {address} that answers knows the master: {_cause(error)}")
    if isinstance(error, MovedError | AskError):
        return RedisRefused(
            f"Redis at {address} is a node of a cluster, and another one has this namespace; "
            f"write {cluster_of(address)} in the place of the address"
        )
    if isinstance(error, ClusterCrossSlotError):
        return RedisRefused(
            f"Redis at {address} takes the keys of one namespace for keys of several slots (CROSSSLOT); "
            "see that no proxy before it changes key names"
        )
    return None


def _tls_trouble(error: Exception, address: str) -> str:
    """What is wrong with `rediss://`, or ''. Worth trying again: whoever is on the way could cause it too."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"the certificate of Redis at {address} is not trusted ({cause.verify_message}); "
            "name its CA in the address, ?ssl_ca_certs=FILE, or renew it"
        )
    if not address.startswith(("rediss://", "rediss+")):
        return ""
    if isinstance(error, RedisTimeoutError):
        return (
            f"Redis at {address} did not answer in time, or does not speak TLS at that port; try redis:// there"
        )
    local = isinstance(cause, FileNotFoundError | PermissionError) or "KEY_VALUES_MISMATCH" in str(cause)
    if local:
        return f"the TLS files of Redis at {address} cannot be read or do not fit ({cause}); mend ssl_... in the address"
    return ""


def advice(error: MutiTaskError) -> str:
    """The error's sentence for whoever gives up now, with what to do where Redis is away.

    Those who wait and try again say the bare text.
    """
    if not isinstance(error, RedisUnavailable) or ";" in str(error):
        return str(error)
    return f"{error}; see that it runs and can be reached from here, or name another with --redis"


def _cause(error: Exception) -> str:
    """The operating system's own words, without redis-py's preamble that repeats the address."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(error).rstrip(".") or "connection lost"


class Patience:
    """How long a caller goes on trying while Redis is away: a back-off with jitter, from 0.05 s to `longest_s`.

    Once `give_up` is set, three more tries follow before what was caught is raised; `tries` bounds them all.
    `on_wait(error)` is told when the waiting begins, and once of each other cause; `on_back()` when it ends.
    """

    def __init__(
        self,
        *,
        give_up: threading.Event | None = None,
        tries: int | None = None,
        longest_s: float = 2.0,
        on_wait: Callable[[RedisUnavailable], None] | None = None,
        on_back: Callable[[], None] | None = None,
    ) -> None:
        self._give_up = give_up or threading.Event()
        self._tries = tries
        self._longest_s = longest_s
        self._on_wait = on_wait
        self._on_back = on_back
        self.why = ""
        """Why a caller waits now, or ''."""
        self.since = 0.0
        """Since when it does, in seconds of this machine's clock."""

    def __call__(self, call: Callable[[], T]) -> T:
        """What `call` returns, as soon as it no longer raises `RedisUnavailable`."""
        tried = hurried = 0
        said: set[str] = set()
        while True:
            try:
                value = call()
            except RedisUnavailable as error:
                tried += 1
                hurried += self._give_up.is_set()
                if hurried > 3 or (self._tries is not None and tried >= self._tries):
                    self.why = ""
                    raise
                if not self.why:
                    self.since = time.time()
                self.why = str(error)
                if str(error) not in said:
                    said.add(str(error))
                    if self._on_wait is not None:
                        self._on_wait(error)
                pause = min(self._longest_s, 0.05 * 2 ** min(tried, 8)) * random.uniform(0.5, 1.0)  # noqa: S311
                if hurried:
                    time.sleep(0.2)
                else:
                    self._give_up.wait(pause)
            else:
                if tried:
                    self.why = ""
                    if self._on_back is not None:
                        self._on_back()
                return value


IMPATIENT = Patience(tries=1)
