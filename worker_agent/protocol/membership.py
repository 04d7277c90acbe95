"""Who is here: agents and servers come, report, and leave, and dead ones are recovered (laws 2, 7 and 8)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from worker_agent.protocol import PROTOCOL, wire
from worker_agent.protocol.actor import channel_of
from worker_agent.protocol.calls import Calls, successor_text
from worker_agent.protocol.connection.redis_errors import foreign_key_message
from worker_agent.protocol.errors import (
    ConcurrentChange,
    LeaseLost,
    MutiTaskError,
    NamespaceGone,
    NoNamespace,
    RedisRefused,
    Superseded,
    VersionMismatch,
)
from worker_agent.protocol.identity import Identity
from worker_agent.protocol.scripts import Argument

MAX_TASKS_PER_CALL = 1000
"""The most tasks that one call moves."""
OPERATOR_TTL_MS = 3_600_000
SAMPLE_MS = 5_000
MAX_SAMPLES = 720
"""An hour of samples."""
MAX_LOG_LINES = 100
MAX_EVENTS = 1_000
"""How many events of a namespace are kept."""
LOG_TTL_MS = 86_400_000


class LeaseHeld(MutiTaskError):
    """A holder whose lease still runs. `left_ms` of `lease_ms` remain; it may be silent or gone."""

    def __init__(self, actor: str, identity: Identity, since_ms: int, left_ms: int) -> None:
        super().__init__(f"{identity.host} pid {identity.pid}")
        self.actor = actor
        self.identity = identity
        self.since_ms = since_ms
        self.left_ms = left_ms


class HoldsWork(MutiTaskError):
    """The namespace holds work: how many tasks where, and how many channels are not exhausted."""

    def __init__(self, counts: Sequence[int]) -> None:
        names = ("waiting", "claimed", "delayed", "failed", "results", "unexhausted")
        self.counts = dict(zip(names, counts, strict=True))
        super().__init__(str(self.counts))


class ChannelCountDiffers(MutiTaskError):
    """The run that should be resumed has another number of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__(str(channels))
        self.channels = channels


@dataclass(frozen=True, slots=True)
class RunPlan:
    """How a server wants its run. None keeps what the namespace has (for a new run: no devices, 50)."""

    channels: int
    devices: int | None
    capacity: int | None
    retries: int = 3
    retry_delay_ms: int = 0
    lease_ms: int = 10_000
    results_max: int = 1_000_000
    autostart: bool = False
    mode: Literal["", "resume", "fresh"] = ""
    anyway: bool = False
    """Whether a resumed run goes on though its generator yields other items than before."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that a server holds."""

    id: str
    resumed: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """What a report brings back: whether a sweep is due, and the run's terms."""

    sweep_due: bool
    lease_ms: int
    retries: int
    retry_delay_ms: int


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What people want of an agent now; `detect` is the detect to answer, or ''.

    `stop` counts how often it was asked to stop: from the second time on it does not wait for what runs.
    """

    paused: bool
    stop: int
    detect: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found: dead actors to recover, channels with delayed tasks whose time has come."""

    dead: list[str]
    due: list[int]


class Membership(Calls):
    """The transitions of actors."""

    def register_operator(self) -> None:
        """Register a passing actor. Raises `NoNamespace` or `VersionMismatch`."""
        keys = [self.keys.actor(self.actor.id), self.keys.meta]
        reply = self._call("register_operator", keys, OPERATOR_TTL_MS, PROTOCOL)
        _check_namespace(reply, self.keys.name)

    def join(
        self, device: int, channel: int, identity: Identity, *, holder: str = "", gone: bool = False
    ) -> str:
        """Take a device for an agent; the run's id.

        `holder` is the actor that was seen there, `gone` that its process certainly ended. Raises
        `LeaseHeld`, `ConcurrentChange`, `NoNamespace`, `VersionMismatch`, or `LookupError` with the number of channels.
        """
        keys = [
            self.keys.actor(self.actor.id), self.keys.meta, self.keys.leases, self.keys.agents,
            self.keys.actor(holder or self.actor.id), self.keys.fleet,
        ]  # fmt: skip
        record = {**asdict(identity), "device": device, "channel": channel, "since_ms": self.now_ms()}
        fields = [part for pair in record.items() for part in pair]
        reply = self._call("join", keys, self.actor.id, device, channel, PROTOCOL, holder, int(gone), *fields)
        _check_namespace(reply, self.keys.name)
        status = reply[0]
        if status == b"channel":
            raise LookupError(int(reply[1]))
        if status == b"changed":
            raise ConcurrentChange(f"another agent came to Device{device}")
        if status == b"held":
            raise self._occupied(holder, int(reply[1]))
        if status == b"lost":
            raise LeaseLost(f"actor {self.actor.id} was declared dead")
        run: bytes = reply[1]
        return run.decode("utf-8", "replace")

    def _occupied(self, holder: str, left_ms: int) -> LeaseHeld:
        record = self.actor_record(holder)
        return LeaseHeld(holder, identity_of(record), _counted(record.get(b"since_ms")), left_ms)

    def leave(self, device: int | None = None, channel: int | None = None) -> None:
        """End this actor in order; what it still holds is recovered."""
        own = self.keys.actor(self.actor.id)
        has_channel = channel is not None
        at = self.keys.channel(channel or 0)
        leases = self.keys.leases if has_channel else self.keys.server_lease
        keys = [
            own, leases, self.keys.agents, self.keys.meta,
            at.agents if has_channel else leases,
            at.claims(self.actor.id) if has_channel else own,
        ]  # fmt: skip
        self._call("leave", keys, self.actor.id, "" if device is None else device, int(has_channel))

    def heartbeat(
        self, device: int, channel: int, state: Literal["running", "paused"], report: bytes
    ) -> Terms:
        """An agent's sign of life. Raises `LeaseLost`."""
        keys = [
            self.keys.actor(self.actor.id), self.keys.leases, self.keys.devices,
            self.keys.channel(channel).agents, self.keys.meta, self.keys.agents, self.keys.fleet,
        ]  # fmt: skip
        reply = self._call("heartbeat", keys, self.actor.id, device, state, report)
        if reply[0] != b"ok":
            raise LeaseLost(f"actor {self.actor.id} was declared dead")
        return Terms(reply[1] == b"1", *(int(value) for value in reply[2:5]))

    def read_desired(self, device: int) -> DesiredState:
        """The wishes that concern an agent; changes nothing (law 4)."""
        keys = [self.keys.desired_devices, self.keys.desired_stop, self.keys.desired_detect]
        desired, stop, detect = self._call("read_desired", keys, device, self.actor.id)
        return DesiredState(
            desired != b"running", int(stop) if stop.isdigit() else 0, detect.decode("utf-8", "replace")
        )

    def renew_server_lease(self) -> bool:
        """The server's sign of life; whether a sweep is due. Raises `Superseded` or `LeaseLost`."""
        keys = [self.keys.actor(self.actor.id), self.keys.server_lease, self.keys.meta, self.keys.fleet]
        reply = self._call("renew_server_lease", keys, self.actor.id)
        if reply[0] == b"gone":
            raise NamespaceGone(self.keys.name)
        if reply[0] == b"superseded":
            raise Superseded(successor_text(reply[1]))
        if reply[0] != b"ok":
            raise LeaseLost(f"actor {self.actor.id} was declared dead")
        return bool(reply[1] == b"1")

    def sweep(self, channels: int) -> Sweep:
        """Find what to recover and promote; empty where another actor swept within the last second."""
        keys = [self.keys.meta, self.keys.leases, self.keys.fleet]
        for number in range(channels):
            channel = self.keys.channel(number)
            keys += [channel.delayed, channel.claim_counts]
        dead, due = self._call("sweep", keys)
        return Sweep([actor.decode("utf-8", "replace") for actor in dead], [int(channel) for channel in due])

    def recover(self, dead: str, reason: bytes) -> int:
        """Bring a dead actor's tasks back, however many; how many came back or failed.

        `reason` (msgpack) is kept for a task that thereby crashed a third time. An actor that lives is
        left alone: 0.
        """
        channel = channel_of(dead)
        at = self.keys.channel(channel or 0)
        keys = [
            self.keys.actor(dead), self.keys.leases, self.keys.agents, at.agents, at.waiting, at.failed,
            at.failed_at, at.reasons, at.claim_counts, at.claims(dead), at.token, at.retry_reasons,
        ]  # fmt: skip
        moved = 0
        while True:
            reply = self._call("recover", keys, dead, MAX_TASKS_PER_CALL, reason)
            if reply[0] == b"alive":
                return moved
            moved += int(reply[1]) + int(reply[2])
            if int(reply[3]) == 0:
                return moved

    def fence(self, actor: str) -> None:
        """Mark an actor dead whose process has certainly ended, so that its tasks are recovered at once."""
        self._call("fence", [self.keys.actor(actor), self.keys.leases], actor)

    def sample_counters(self, channels: int) -> None:
        """Add a line to each channel's history, if one is due, and drop the oldest events. A server does so."""
        keys = [self.keys.events]
        for number in range(channels):
            at = self.keys.channel(number)
            keys += [at.counters, at.waiting, at.claim_counts, at.failed, at.history, at.agent_counters]
        self._call("sample_counters", keys, SAMPLE_MS, MAX_SAMPLES, MAX_EVENTS)

    def append_device_log(self, device: int, lines: Sequence[str]) -> None:
        """Add lines to a device's log."""
        self._call("append_device_log", [self.keys.device_log(device)], MAX_LOG_LINES, LOG_TTL_MS, *lines)

    def promote(self, channel: int) -> int:
        """Bring delayed tasks whose time has come back to waiting; how many."""
        at = self.keys.channel(channel)
        return int(self._call("promote", [at.delayed, at.waiting, at.token], MAX_TASKS_PER_CALL)[1])

    def open_run(self, plan: RunPlan, identity: Identity, *, gone: str = "") -> Run:
        """Take the namespace for a server. `gone` is a holder whose process certainly ended.

        Raises `LeaseHeld`, `HoldsWork`, `ChannelCountDiffers` or `VersionMismatch`.
        """
        for _ in range(50):
            reply = self._open_run_once(plan, identity, gone)
            if reply[0] != b"changed":
                break
        else:
            raise ConcurrentChange("the namespace does not stand still; try again")
        _check_namespace(reply, self.keys.name)
        if reply[0] == b"held":
            raise self._server_there(reply[1], int(reply[2]))
        if reply[0] == b"work":
            raise HoldsWork([int(count) for count in reply[1:]])
        if reply[0] == b"channels":
            raise ChannelCountDiffers(int(reply[1]))
        if reply[0] == b"lost":
            raise LeaseLost(f"actor {self.actor.id} was declared dead")
        return Run(reply[1].decode("utf-8", "replace"), reply[2] == b"1")

    def _server_there(self, packed: bytes, left_ms: int) -> Exception:
        try:
            record = wire.unpack(packed)
            since = int(record.pop("since_ms"))
            return LeaseHeld(record.pop("actor"), Identity(**record), since, left_ms)
        except (wire.Undecodable, LookupError, TypeError, ValueError, AttributeError):
            return RedisRefused(foreign_key_message(self.address))

    def _open_run_once(self, plan: RunPlan, identity: Identity, gone: str) -> list[Any]:
        holder = (self.query("HGET", self.keys.meta, "server") or b"").decode("utf-8", "replace")
        old = self.channels()
        keys = [
            self.keys.actor(self.actor.id), self.keys.meta, self.keys.server_lease,
            self.keys.actor(holder or self.actor.id), self.keys.desired_server, self.keys.desired_devices,
            self.keys.desired_channels, self.keys.server_token, self.keys.fleet,
        ]  # fmt: skip
        claims: list[str | bytes] = []
        holders: list[Argument] = []
        for number in range(max(old, plan.channels)):
            at = self.keys.channel(number)
            keys += [
                at.counters, at.waiting, at.delayed, at.failed, at.failed_at, at.reasons, at.results,
                at.claim_counts, at.token, at.agent_counters, at.retry_reasons, at.marks,
            ]  # fmt: skip
            for actor in self.query("HKEYS", at.claim_counts):
                # Every agent may write here: an actor's name need not be text.
                own = at.claims("").encode() + actor
                claims.append(own.decode() if own.isascii() else own)
                holders += [number, actor]
        record = wire.pack({**asdict(identity), "since_ms": self.now_ms(), "actor": self.actor.id})
        return self._call(
            "open_run", [*keys, *claims], self.actor.id, PROTOCOL, holder, int(bool(gone) and gone == holder),
            plan.mode, secrets.token_hex(4), record, old, plan.channels,
            "" if plan.devices is None else plan.devices, "" if plan.capacity is None else plan.capacity,
            plan.retries, plan.retry_delay_ms, plan.lease_ms, plan.results_max,
            "running" if plan.autostart else "paused", *holders,
        )  # fmt: skip


def _check_namespace(reply: list[Any], name: str) -> None:
    if reply[0] == b"none":
        raise NoNamespace(f"no server has opened namespace {name!r} yet")
    if reply[0] == b"version":
        theirs = reply[1].decode("utf-8", "replace")
        raise VersionMismatch(
            f"namespace {name!r} speaks protocol {theirs} and this program {PROTOCOL}; "
            "install the same minor version of MutiTask on both sides"
        )


def identity_of(record: dict[bytes, bytes]) -> Identity:
    """The process in an actor's record."""
    return Identity(
        record.get(b"host", b"?").decode("utf-8", "replace"),
        _counted(record.get(b"pid")),
        record.get(b"boot", b"").decode("utf-8", "replace"),
        _counted(record.get(b"start")),
    )


def _counted(value: bytes | None) -> int:
    """A number that an agent wrote; 0 where it is none."""
    return int(value) if value and value.isdigit() and len(value) <= 16 else 0
