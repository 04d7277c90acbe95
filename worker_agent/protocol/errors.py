"""The errors that MutiTask raises on purpose. Each text is one sentence that says what to do."""

from __future__ import annotations


class MutiTaskError(Exception):
    """The base class. `exit_status` is the exit status of a process that ends with this error."""

    exit_status = 1


class JobError(MutiTaskError):
    """The job file, or the job that a program passed, cannot be used."""

    exit_status = 2


class RedisUnavailable(MutiTaskError):
    """Redis cannot serve a call now: it is not reachable, too slow, loading or out of memory. A retry may help."""

    exit_status = 3


class RedisRefused(MutiTaskError):
    """Redis refuses a call for good: a wrong password, missing rights, a key of a wrong type."""

    exit_status = 3


class InvalidRedisReply(RedisUnavailable):
    """The reply is not one of Redis: it comes from another service, a broken proxy or an attacker."""


class LeaseLost(MutiTaskError):
    """The actor is fenced. Its call changed nothing."""


class WritesLost(LeaseLost):
    """Redis lost acknowledged writes of this actor. Its claims in Redis differ from its tasks in flight."""


class Superseded(MutiTaskError):
    """Another server holds the namespace now."""

    exit_status = 4


class NamespaceGone(MutiTaskError):
    """Another program deleted the keys of a namespace that a server holds."""

    exit_status = 8

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the keys of namespace {name!r} are gone from Redis (FLUSHALL, or another program deleted them), and its "
            "tasks with them: give MutiTask a Redis that no other program empties, and start the run again"
        )


class AlreadyHeld(MutiTaskError):
    """Another live process holds the device or the namespace."""

    exit_status = 4


class NamespaceHoldsWork(MutiTaskError):
    """The namespace holds work, and the caller did not choose what to do with it."""

    exit_status = 5


class VersionMismatch(MutiTaskError):
    """The namespace was written by another minor version of the protocol."""

    exit_status = 6


class Unpackable(MutiTaskError):
    """A value cannot be packed: msgpack and its extension types do not support it, or it is too large."""


class NoNamespace(MutiTaskError):
    """No server has opened this namespace yet."""


class ConcurrentChange(MutiTaskError):
    """Another process changed the data that the call depends on. Read it again and repeat the call."""


class CountMoved(ConcurrentChange):
    """A count differs from the one that the caller passed. `count` is the present one."""

    def __init__(self, count: int) -> None:
        super().__init__(f"the count is {count} now")
        self.count = count
