"""The transitions of actors: they register, renew their leases, follow desired state, and leave (laws 2, 4, 7)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, Literal

from worker_agent.protocol import PROTOCOL, wire
from worker_agent.protocol.actor import is_agent
from worker_agent.protocol.calls import successor_text
from worker_agent.protocol.cancels import KEEP_MS, CancelRequest, parse_requests
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
from worker_agent.protocol.recovery import Recovery
from worker_agent.protocol.scripts import Argument
from worker_agent.protocol.served_channels import Served, served_text

OPERATOR_TTL_MS = 3_600_000
"""How long the record of an operator lives after it registered."""
SAMPLE_MS = 5_000
"""The time between two samples of the counters."""
MAX_SAMPLES = 720
"""How many samples are kept for each channel: one hour."""
MAX_LOG_LINES = 100
"""How many lines of a device's log are kept."""
MAX_TASK_LINES = 500
"""How many lines of a device's tasks are kept."""
MAX_EVENTS = 1_000
"""How many events of a namespace are kept."""
LOG_TTL_MS = 86_400_000
RESTARTS = {b"r": 1, b"rr": 2}
"""The values of `wish:stop` that ask for a restart."""


class LeaseHeld(MutiTaskError):
    """Another actor's lease has not ended. That actor may be silent or gone. The lease ends in `left_ms`."""

    def __init__(self, actor: str, identity: Identity, since_ms: int, left_ms: int) -> None:
        super().__init__(f"{identity.host} pid {identity.pid}")
        self.actor = actor
        self.identity = identity
        self.since_ms = since_ms
        self.left_ms = left_ms


class HoldsWork(MutiTaskError):
    """The namespace holds work: `counts` has the tasks in each state and the channels that are not exhausted."""

    def __init__(self, counts: Sequence[int]) -> None:
        names = ("waiting", "claimed", "delayed", "failed", "results", "unexhausted")
        self.counts = dict(zip(names, counts, strict=True))
        super().__init__(str(self.counts))


class ChannelCountDiffers(MutiTaskError):
    """The run to resume has another number of channels than the server."""

    def __init__(self, channels: int) -> None:
        super().__init__(str(channels))
        self.channels = channels


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The settings of a run. None keeps the value of the namespace (for a new run: 0 devices, a capacity of 50)."""

    channels: int
    devices: int | None
    capacity: int | None
    policies: Mapping[str, str] = field(default_factory=dict)
    """`retry` for all channels, `retry:C` for one -> its retry policy as text (see `open_run.lua`)."""
    rates: Mapping[str, str] = field(default_factory=dict)
    """`rate:C` -> how many tasks of the channel may start, and per how many ms, such as `10 1000`."""
    lease_ms: int = 10_000
    results_max: int = 1_000_000
    autostart: bool = False
    mode: Literal["", "resume", "fresh"] = ""
    anyway: bool = False
    """Whether a resumed run continues although its generator yields other items than before."""
    job: str = ""
    """The version of the server's job file (see `job_version.py`), or '' for a program of its own."""


@dataclass(frozen=True, slots=True)
class Run:
    """The run of a server."""

    id: str
    resumed: bool


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What people want an agent to do now."""

    paused: bool
    stop: int
    """0, 1 for a stop that lets running tasks finish, or 2 for a force stop."""
    detect: str
    """The detect to answer, or ''."""
    channels: str = ""
    """The channels that the device was assigned (see `served_channels.py`), or '' for those that the agent names."""
    cancels: tuple[CancelRequest, ...] = ()
    """The running tasks to cancel, with those that it was asked for before."""
    restart: int = 0
    """0, 1 for a restart that lets running tasks finish, or 2 for one that hands them back."""


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """The result of a heartbeat: whether a sweep is due, the settings of the run, and the agent's desired state."""

    sweep_due: bool
    lease_ms: int
    channels: int
    """How many channels the namespace has."""
    desired: DesiredState


class Membership(Recovery):
    """The transitions of actors."""

    def register_operator(self) -> None:
        """Register an operator. Raises `NoNamespace` or `VersionMismatch`."""
        keys = [self.keys.actor(self.actor.id), self.keys.meta]
        reply = self._call("register_operator", keys, OPERATOR_TTL_MS, PROTOCOL)
        _check_namespace(reply, self.keys.name)

    def join(
        self, device: int, served: Served, identity: Identity, *, holder: str = "", gone: bool = False
    ) -> int:
        """Register an agent on a device. Return how many channels the namespace has.

        `holder` is the actor that the caller found on the device. `gone` says that its process has certainly ended.
        Raises `LeaseHeld`, `ConcurrentChange`, `NoNamespace`, `VersionMismatch` or `LeaseLost`, or `LookupError` with
        the number of channels if a served channel does not exist.
        """
        keys = [
            self.keys.actor(self.actor.id), self.keys.meta, self.keys.leases, self.keys.agents,
            self.keys.actor(holder or self.actor.id), self.keys.fleet,
        ]  # fmt: skip
        record = {
            **asdict(identity),
            "device": device,
            "channels": served_text(served),
            "since_ms": self.now_ms(),
        }
        fields = [part for pair in record.items() for part in pair]
        highest = max(served, default=-1) if served is not None else -1
        reply = self._call("join", keys, self.actor.id, device, highest, PROTOCOL, holder, int(gone), *fields)
        _check_namespace(reply, self.keys.name)
        status = reply[0]
        if status == b"channel":
            raise LookupError(int(reply[1]))
        if status == b"changed":
            raise ConcurrentChange(f"another agent took Device{device}")
        if status == b"held":
            raise self._held_by_agent(holder, int(reply[1]))
        if status == b"lost":
            raise LeaseLost(f"actor {self.actor.id} was fenced")
        return int(reply[1])

    def _held_by_agent(self, holder: str, left_ms: int) -> LeaseHeld:
        record = self.actor_record(holder)
        return LeaseHeld(holder, identity_of(record), _number(record.get(b"since_ms")), left_ms)

    def leave(self, device: int | None = None, channels: int = 0) -> None:
        """End this actor. A sweep recovers the tasks that it has still claimed.

        An agent passes its device, and how many channels the namespace has.
        """
        leases = self.keys.leases if is_agent(self.actor.id) else self.keys.server_lease
        keys = [self.keys.actor(self.actor.id), leases, self.keys.agents, self.keys.meta]
        for number in range(channels):
            at = self.keys.channel(number)
            keys += [at.agents, at.claims(self.actor.id)]
        self._call("leave", keys, self.actor.id, "" if device is None else device)

    def heartbeat(
        self, device: int, report: bytes, *, claims_from: Iterable[int] = (), not_from: Iterable[int] = (),
        renew_record: bool = True,
    ) -> HeartbeatReply:  # fmt: skip
        """Renew an agent's lease, store its report, and return its desired state. Raises `LeaseLost`.

        `claims_from` are channels that the agent claims from, `not_from` channels that it does not claim from any
        more. Redis keeps both, so most heartbeats may leave them out. An agent that names them now and then restores
        what Redis lost. `renew_record` renews the actor's record too, which lives for a day.
        """
        claims_from = list(claims_from)
        keys = [
            self.keys.actor(self.actor.id), self.keys.leases, self.keys.devices, self.keys.meta, self.keys.agents,
            self.keys.fleet, self.keys.heard, *self._desired_keys(),
            *(self.keys.channel(number).agents for number in [*claims_from, *not_from]),
        ]  # fmt: skip
        renew = int(renew_record)
        reply = self._call("heartbeat", keys, self.actor.id, device, report, len(claims_from), renew)
        if reply[0] != b"ok":
            raise LeaseLost(f"actor {self.actor.id} was fenced")
        return HeartbeatReply(reply[1] == b"1", int(reply[2]), int(reply[3]), _desired_state(reply[4:]))

    def read_desired(self, device: int) -> DesiredState:
        """Return the desired state of an agent. Changes nothing (law 4)."""
        return _desired_state(self._call("read_desired", self._desired_keys(), device, self.actor.id))

    def _desired_keys(self) -> list[str]:
        keys = self.keys
        return [
            keys.desired_devices, keys.desired_stop, keys.desired_detect, keys.desired_assignments,
            keys.desired_cancels,
        ]  # fmt: skip

    def request_cancel(self, request: CancelRequest, agents: Mapping[int, str]) -> None:
        """Ask these agents (device to actor) to cancel a task that they run, and wake them."""
        keys = [self.keys.actor(self.actor.id), self.keys.desired_cancels]
        keys += [self.keys.device_token(device) for device in agents]
        self._numbered("request_cancel", keys, [], request.line(), KEEP_MS, *agents.values())

    def renew_server_lease(self) -> bool:
        """Renew the server's lease. Return whether a sweep is due.

        Raises `Superseded`, `NamespaceGone` or `LeaseLost`.
        """
        keys = [self.keys.actor(self.actor.id), self.keys.server_lease, self.keys.meta, self.keys.fleet]
        reply = self._call("renew_server_lease", keys, self.actor.id)
        if reply[0] == b"gone":
            raise NamespaceGone(self.keys.name)
        if reply[0] == b"superseded":
            raise Superseded(successor_text(reply[1]))
        if reply[0] != b"ok":
            raise LeaseLost(f"actor {self.actor.id} was fenced")
        return bool(reply[1] == b"1")

    def sample_counters(self, channels: int) -> None:
        """Append a sample of its counters to each channel's history if one is due, and remove the oldest events.

        Only the server calls it.
        """
        keys = [self.keys.events]
        for number in range(channels):
            at = self.keys.channel(number)
            keys += [at.counters, at.waiting, at.claim_counts, at.failed, at.history, at.agent_counters]
        self._call("sample_counters", keys, SAMPLE_MS, MAX_SAMPLES, MAX_EVENTS)

    def append_device_log(self, device: int, lines: Sequence[str]) -> None:
        """Append lines to a device's log."""
        self._call("append_device_log", [self.keys.device_log(device)], MAX_LOG_LINES, LOG_TTL_MS, *lines)

    def append_task_lines(self, device: int, lines: Sequence[bytes]) -> None:
        """Append lines of a device's tasks, each packed by `pack_line`. Redis keeps the last `MAX_TASK_LINES`."""
        self._call("append_device_log", [self.keys.device_lines(device)], MAX_TASK_LINES, LOG_TTL_MS, *lines)

    def open_run(self, plan: RunPlan, identity: Identity, *, gone: str = "") -> Run:
        """Register a server and start or resume a run. `gone` is a server whose process has certainly ended, or ''.

        Raises `LeaseHeld`, `HoldsWork`, `ChannelCountDiffers`, `VersionMismatch`, `LeaseLost` or `ConcurrentChange`.
        """
        for _ in range(50):
            reply = self._open_run_once(plan, identity, gone)
            if reply[0] != b"changed":
                break
        else:
            raise ConcurrentChange("other processes change the namespace at the same time; try again")
        _check_namespace(reply, self.keys.name)
        if reply[0] == b"held":
            raise self._held_by_server(reply[1], int(reply[2]))
        if reply[0] == b"work":
            raise HoldsWork([int(count) for count in reply[1:]])
        if reply[0] == b"channels":
            raise ChannelCountDiffers(int(reply[1]))
        if reply[0] == b"lost":
            raise LeaseLost(f"actor {self.actor.id} was fenced")
        return Run(reply[1].decode("utf-8", "replace"), reply[2] == b"1")

    def _held_by_server(self, packed: bytes, left_ms: int) -> Exception:
        try:
            record = wire.unpack(packed)
            record.pop("job", None)
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
            self.keys.desired_channels, self.keys.server_token, self.keys.fleet, self.keys.desired_assignments,
        ]  # fmt: skip
        claims: list[str | bytes] = []
        holders: list[Argument] = []
        for number in range(max(old, plan.channels)):
            at = self.keys.channel(number)
            keys += [
                at.counters, at.waiting, at.delayed, at.failed, at.failed_at, at.reasons, at.results,
                at.claim_counts, at.token, at.agent_counters, at.retry_reasons, at.marks, at.agents,
                at.traces, at.trace_uses,
            ]  # fmt: skip
            for actor in self.query("HKEYS", at.claim_counts):
                # Every agent may write this hash, so the name of an actor may be no text.
                key = at.claims("").encode() + actor
                claims.append(key.decode() if key.isascii() else key)
                holders += [number, actor]
        record = wire.pack(
            {**asdict(identity), "since_ms": self.now_ms(), "actor": self.actor.id, "job": plan.job}
        )
        return self._call(
            "open_run", [*keys, *claims], self.actor.id, PROTOCOL, holder, int(bool(gone) and gone == holder),
            plan.mode, secrets.token_hex(4), record, old, plan.channels,
            "" if plan.devices is None else plan.devices, "" if plan.capacity is None else plan.capacity,
            len(plan.policies), len(plan.rates), plan.lease_ms, plan.results_max,
            "running" if plan.autostart else "paused",
            *chain.from_iterable(plan.policies.items()), *chain.from_iterable(plan.rates.items()), *holders,
        )  # fmt: skip


def _desired_state(fields: Sequence[bytes]) -> DesiredState:
    """Parse what `read_desired.lua` returns."""
    desired, stop, detect, channels, cancels = fields
    return DesiredState(
        desired != b"running",
        int(stop) if stop.isdigit() else 0,
        detect.decode("utf-8", "replace"),
        channels.decode("utf-8", "replace"),
        parse_requests(cancels.decode("utf-8", "replace")) if cancels else (),
        RESTARTS.get(stop, 0),
    )


def _check_namespace(reply: list[Any], name: str) -> None:
    if reply[0] == b"none":
        raise NoNamespace(f"no server has opened namespace {name!r} yet")
    if reply[0] == b"version":
        theirs = reply[1].decode("utf-8", "replace")
        older = theirs.startswith(("0.", "1."))
        advice = (
            "let the older MutiTask finish its run, or update it too and choose another --name"
            if older
            else "install the same minor version of MutiTask on both sides"
        )
        raise VersionMismatch(
            f"namespace {name!r} speaks protocol {theirs} and this program {PROTOCOL}; {advice}"
        )


def identity_of(record: dict[bytes, bytes]) -> Identity:
    """Return the process in an actor's record."""
    return Identity(
        record.get(b"host", b"?").decode("utf-8", "replace"),
        _number(record.get(b"pid")),
        record.get(b"boot", b"").decode("utf-8", "replace"),
        _number(record.get(b"start")),
    )


def _number(value: bytes | None) -> int:
    """Return a number that an agent wrote, or 0 if it is not a number."""
    return int(value) if value and value.isdigit() and len(value) <= 16 else 0
