"""Translate redis-py's errors into MutiTask's errors, each with one sentence for a person."""

from __future__ import annotations

import re
import ssl

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
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import MasterNotFoundError

from worker_agent.protocol.connection.address import cluster_address
from worker_agent.protocol.connection.sentinel import SentinelRefuses
from worker_agent.protocol.errors import InvalidRedisReply, MutiTaskError, RedisRefused, RedisUnavailable

_COMMAND_NOT_ALLOWED = re.compile(r"ACL failure in script: |(?=The user executing the script can't )")
"""How Valkey and Redis 7 report that a script called a command that the user may not use."""

_UNEXPECTED_VALUE = re.compile(r"user_script.*attempt to|not an integer|not a valid float|bad argument #")
"""How a script fails when it reads a field that MutiTask did not write."""

_NOT_READY = ("LOADING", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS", "UNBLOCKED")
"""Errors that pass by themselves: during a start, a failover or a move of slots."""


class NoRights(RedisRefused):
    """The Redis user lacks a right. On the default address this may be the Valkey of another namespace."""


def translate(error: Exception, address: str) -> MutiTaskError:
    """Return redis-py's error as an error of MutiTask.

    `address` names Redis in the message and holds no password. The error's own traceback is dropped: frames of
    redis-py hold the password, and Textual's crash report shows local variables.
    """
    text = str(error)
    tls = _tls_error(error, address)
    several = _topology_error(error, address)
    for each in (error, error.__cause__, error.__context__):
        if each is not None:
            each.__traceback__ = None
    if several:
        return several
    if isinstance(error, InvalidResponse):
        return InvalidRedisReply(
            f"what answers at {address} does not answer as Redis does ({_cause(error)}); see what listens there"
        )
    if isinstance(error, AuthenticationError | AuthorizationError) or text.startswith(
        ("WRONGPASS", "NOAUTH")
    ):
        return RedisRefused(f"Redis at {address} refuses the password; pass the right one in --redis")
    if isinstance(error, NoPermissionError) or text.startswith("NOPERM") or _COMMAND_NOT_ALLOWED.match(text):
        refused = _COMMAND_NOT_ALLOWED.sub("", text).partition(" script: ")[0]
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
    if "WRONGTYPE" in text or _UNEXPECTED_VALUE.search(text):
        return RedisRefused(foreign_key_message(address))
    if isinstance(error, ResponseError):
        return RedisRefused(
            f"Redis at {address} refuses ({text}); see that it is a Redis or Valkey and runs scripts"
        )
    return RedisUnavailable(f"Redis at {address}: {text or type(error).__name__}")


def foreign_key_message(address: str) -> str:
    """What to say of a key of this namespace that no program of ours wrote."""
    return f"Redis at {address} holds a key of this namespace that is not ours; choose another --name"


def _topology_error(error: Exception, address: str) -> MutiTaskError | None:
    """What only Sentinels and clusters say."""
    if isinstance(error, SentinelRefuses):
        return RedisRefused(f"the Sentinels at {address} {error}")
    if isinstance(error, MasterNotFoundError):
        return RedisUnavailable(f"no Sentinel at {address} that answers knows the master: {_cause(error)}")
    if isinstance(error, MovedError | AskError):
        return RedisRefused(
            f"Redis at {address} is a node of a cluster, and another one has this namespace; "
            f"write {cluster_address(address)} in the place of the address"
        )
    if isinstance(error, ClusterCrossSlotError):
        return RedisRefused(
            f"Redis at {address} takes the keys of one namespace for keys of several slots (CROSSSLOT); "
            "see that no proxy before it changes key names"
        )
    return None


def _tls_error(error: Exception, address: str) -> str:
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
        return f"Redis at {address} did not answer in time, or does not speak TLS at that port; try redis:// there"
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
