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
_LOGIN_REFUSED = ("WRONGPASS", "NOAUTH")


class NoRights(RedisRefused):
    """The Redis user lacks a right. On the default address this may be the Valkey of another namespace."""


def translate(error: Exception, address: str) -> MutiTaskError:
    """Return redis-py's error as an error of MutiTask.

    `address` names Redis in the message and holds no password. The error's own traceback is dropped: frames of
    redis-py hold the password, and Textual's crash report shows local variables.
    """
    translated = (
        _topology_error(error, address)
        or _refusal(error, address)
        or _temporary_refusal(error, address)
        or _connection_error(error, address)
        or _other_error(error, address)
    )
    for each in (error, error.__cause__, error.__context__):
        if each is not None:
            each.__traceback__ = None
    return translated


def foreign_key_message(address: str) -> str:
    """Return the message for a key of this namespace that MutiTask did not write."""
    return (
        f"Redis at {address} holds a key of this namespace that MutiTask did not write; choose another --name"
    )


def advice(error: MutiTaskError) -> str:
    """Return the message for a process that now gives up: the error's text, and what to do if Redis is away.

    A process that waits and tries again reports the text alone.
    """
    if not isinstance(error, RedisUnavailable) or ";" in str(error):
        return str(error)
    return f"{error}; check that it runs and can be reached from here, or name another with --redis"


def _topology_error(error: Exception, address: str) -> MutiTaskError | None:
    """Translate an error that only Sentinels and clusters report."""
    if isinstance(error, SentinelRefuses):
        return RedisRefused(f"the Sentinels at {address} {error}")
    if isinstance(error, MasterNotFoundError):
        return RedisUnavailable(f"no Sentinel at {address} answers with a master: {_cause(error)}")
    if isinstance(error, MovedError | AskError):
        return RedisRefused(
            f"Redis at {address} is a node of a cluster, and another node has this namespace; "
            f"use the address {cluster_address(address)}"
        )
    if isinstance(error, ClusterCrossSlotError):
        return RedisRefused(
            f"Redis at {address} treats the keys of one namespace as keys of several slots (CROSSSLOT); "
            "check that no proxy in front of it changes key names"
        )
    return None


def _refusal(error: Exception, address: str) -> MutiTaskError | None:
    """Translate a reply that is not Redis's, and a refusal of the login or of a command."""
    text = str(error)
    if isinstance(error, InvalidResponse):
        return InvalidRedisReply(
            f"the program at {address} does not answer like Redis ({_cause(error)}); check what listens there"
        )
    if isinstance(error, AuthenticationError | AuthorizationError) or text.startswith(_LOGIN_REFUSED):
        return RedisRefused(f"Redis at {address} refuses the password; pass the right one in --redis")
    if isinstance(error, NoPermissionError) or text.startswith("NOPERM") or _COMMAND_NOT_ALLOWED.match(text):
        refused = _COMMAND_NOT_ALLOWED.sub("", text).partition(" script: ")[0]
        return NoRights(
            f"Redis at {address} denies this user a right that MutiTask needs ({refused}); "
            "grant the rights that docs/security.md lists for its role, or name another user in --redis"
        )
    return None


def _temporary_refusal(error: Exception, address: str) -> MutiTaskError | None:
    """Translate a state in which Redis refuses commands for a while."""
    text = str(error)
    if text.startswith("MISCONF"):
        why = text.removeprefix("MISCONF").partition(" script: ")[0].strip().rstrip(".")
        return RedisUnavailable(
            f"Redis at {address} cannot write to its disk and takes no writes ({why}); make room there"
        )
    if isinstance(error, ReadOnlyError) or text.startswith("READONLY"):
        return RedisUnavailable(
            f"Redis at {address} is a replica and takes no writes; MutiTask continues once it is the primary"
        )
    if text.startswith("BUSY "):
        return RedisUnavailable(
            f"Redis at {address} is busy with a script of another program; `SCRIPT KILL` there ends that script"
        )
    transient = (BusyLoadingError, ClusterDownError, MasterDownError, TryAgainError)
    if isinstance(error, transient) or text.startswith(_NOT_READY):
        return RedisUnavailable(f"Redis at {address} is not ready: {text.partition(' script: ')[0]}")
    return None


def _connection_error(error: Exception, address: str) -> MutiTaskError | None:
    """Translate an error of the network or of TLS."""
    if tls := _tls_error(error, address):
        return RedisUnavailable(tls)
    if isinstance(error, RedisTimeoutError):
        return RedisUnavailable(f"Redis at {address} did not answer in time")
    if isinstance(error, RedisConnectionError):
        return RedisUnavailable(f"Redis at {address} cannot be reached: {_cause(error)}")
    return None


def _tls_error(error: Exception, address: str) -> str:
    """Return what is wrong with TLS, or ''. A retry makes sense: an attacker on the network can cause each of these."""
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
    if isinstance(cause, FileNotFoundError | PermissionError) or "KEY_VALUES_MISMATCH" in str(cause):
        return (
            f"the TLS files of Redis at {address} cannot be read or do not match ({cause}); "
            "correct ssl_... in the address"
        )
    return ""


def _other_error(error: Exception, address: str) -> MutiTaskError:
    """Translate every other error."""
    text = str(error)
    if isinstance(error, OutOfMemoryError) or "OOM" in text:
        return RedisUnavailable(f"Redis at {address} is out of memory (maxmemory); raise it or drain results")
    if "WRONGTYPE" in text or _UNEXPECTED_VALUE.search(text):
        return RedisRefused(foreign_key_message(address))
    if isinstance(error, ResponseError):
        return RedisRefused(
            f"Redis at {address} refuses ({text}); check that it is Redis or Valkey and can run scripts"
        )
    return RedisUnavailable(f"Redis at {address}: {text or type(error).__name__}")


def _cause(error: Exception) -> str:
    """Return the operating system's message, without redis-py's prefix that repeats the address."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(error).rstrip(".") or "connection lost"
