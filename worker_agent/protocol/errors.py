"""Errors that reach a person: each text is one sentence that says what to do."""

from __future__ import annotations


class MutiTaskError(Exception):
    """Base of all errors that MutiTask raises on purpose. `exit_status` is the process's exit status."""

    exit_status = 1


class JobError(MutiTaskError):
    """The job file, or what a program passed as its job, cannot be used."""

    exit_status = 2


class RedisUnavailable(MutiTaskError):
    """Redis does not answer: not reachable, loading, or out of time. Worth trying again."""

    exit_status = 3


class RedisRefused(MutiTaskError):
    """Redis answers and refuses: a wrong password, missing rights, out of memory, a wrong kind of key."""

    exit_status = 3


class InvalidRedisReply(RedisUnavailable):
    """What answers there does not answer as Redis does: another service, a broken proxy, or one that lies."""


class LeaseLost(MutiTaskError):
    """The actor was declared dead: whatever it asked for changed nothing."""


class WritesLost(LeaseLost):
    """Redis lost writes of this actor that it had acknowledged: its claims there are not what it has in hand."""


class Superseded(MutiTaskError):
    """Another server holds the namespace now."""

    exit_status = 4


class NamespaceGone(MutiTaskError):
    """Somebody deleted the keys of a namespace that a server holds."""

    exit_status = 8

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the keys of namespace {name!r} are gone from Redis (FLUSHALL, or another program deleted them), and its "
            "tasks with them: give MutiTask a Redis that nobody empties, and start the run again"
        )


class AlreadyHeld(MutiTaskError):
    """A live holder has the device or the namespace."""

    exit_status = 4


class NamespaceHoldsWork(MutiTaskError):
    """The namespace holds work, and nobody said what should become of it."""

    exit_status = 5


class VersionMismatch(MutiTaskError):
    """The namespace was written by another minor version of the protocol."""

    exit_status = 6


class Unpackable(MutiTaskError):
    """A value that cannot travel: msgpack and its extension types do not carry it, or it is too large."""


class NoNamespace(MutiTaskError):
    """No server has opened this namespace yet."""


class ConcurrentChange(MutiTaskError):
    """Somebody changed what the call was built on; read again and repeat."""


class CountMoved(ConcurrentChange):
    """A count is another by now than the one from which the call would have gone on."""

    def __init__(self, count: int) -> None:
        super().__init__(f"the count is {count} now")
        self.count = count
