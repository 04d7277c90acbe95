"""Registers an agent on a device (law 7): waits for a server, and waits for or replaces a former agent."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import Any

from worker_agent.agent import restart
from worker_agent.console.log import LOG
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.address import DEFAULT_URL, redact
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.dedicated import close_idle_connections, dedicate
from worker_agent.protocol.connection.redis_errors import NoRights
from worker_agent.protocol.connection.retry import RetryPolicy
from worker_agent.protocol.connection.waiting import TokenWait
from worker_agent.protocol.errors import (
    AlreadyHeld,
    ConcurrentChange,
    JobError,
    NoNamespace,
    RedisUnavailable,
)
from worker_agent.protocol.identity import Identity, is_gone, this_process
from worker_agent.protocol.membership import LeaseHeld
from worker_agent.protocol.reasons import crash_reason
from worker_agent.protocol.served_channels import channel_names, served_numbers
from worker_agent.protocol.unpatched import time
from worker_agent.settings import Settings

REST_INTERVAL_S = 3.4
"""The longest time between two heartbeats of an agent at rest."""
REST_BLOCK_S = 10.0
"""How long an agent at rest blocks in a wait for tokens. A sweep pushes a lost token again, a second later."""
HOLDER_SILENT_S = REST_INTERVAL_S + 1.0
"""A holder is called silent if it has not renewed its lease while another agent watched for this long."""
HEARTBEAT_TRIES, HEARTBEAT_PAUSE_S = 12, 0.5
"""How often a refused heartbeat is sent, and the longest pause: this takes 3 s at least, as `GAP` in sweep.lua."""
HURRY_S = 4.0
"""If the lease has longer to run than this, the pauses may be longer. Thousands of agents may come back at once."""
RETRY_S = 0.5


class HeartbeatPace:
    """How long to pause before a refused heartbeat is sent again: not long if the lease ends soon."""

    def __init__(self) -> None:
        self._lease_ends = 0.0

    def renewed(self, lease_s: float) -> None:
        """Record that Redis has just renewed the lease."""
        self._lease_ends = time.monotonic() + lease_s

    def __call__(self) -> float:
        """Return the longest pause in seconds."""
        left = self._lease_ends - time.monotonic()
        return min(2.0, left / 4) if left > HURRY_S else HEARTBEAT_PAUSE_S


@dataclass(frozen=True, slots=True)
class AgentSession:
    """One actor's registration on a device.

    `broker` is for the claim loop, `heartbeat_broker` for the heartbeat. They share a connection. The long poll and the
    heartbeat wait with `waiting_client`. An agent at rest has one connection for each of the two clients.
    """

    actor: Actor
    device: int
    broker: Broker
    heartbeat_broker: Broker
    waiting_client: Any
    long_poll: TokenWait
    heartbeat_wait: TokenWait
    pace: HeartbeatPace
    since_ms: int
    channel_count: int
    """How many channels the namespace had at the registration."""

    def stop_waiting(self) -> None:
        """End the long poll's wait: it would take a token that another agent needs."""
        with contextlib.suppress(Exception):
            self.waiting_client.close()

    @property
    def recoveries(self) -> int:
        """How often Redis answered again after it was away. A wait that began before may hang for ever."""
        return self.broker.retry.recoveries + self.heartbeat_broker.retry.recoveries

    def close_idle_connections(self, *, waiting: bool) -> None:
        """Close what no call and no wait needs while the agent is at rest. `waiting` says that the long poll waits."""
        close_idle_connections(self.broker.client)
        close_idle_connections(self.waiting_client, keep=0 if waiting else 1)


def register(settings: Settings, stopping: threading.Event, device: int | None = None) -> AgentSession | None:
    """Register on a device, and wait for a server if there is none. Return None if stopped meanwhile.

    Raises `AlreadyHeld` if a live agent has the device, `JobError`, `VersionMismatch` or `RedisRefused`.
    """
    wanted = settings.device if device is None else device
    logged = ""
    leases: SeenLeases = {}
    while not stopping.is_set():
        url = settings.address()
        try:
            return _register_once(settings, url, stopping, wanted, leases)
        except (NoNamespace, RedisUnavailable) as error:
            text = f"waiting for a server: {error}"
        except NoRights:
            if url != DEFAULT_URL:
                raise
            # No address was given, and another namespace's embedded Valkey listens on the default one.
            text = f"waiting for a server of namespace {settings.name!r} on this machine"
        except _HolderSilent as error:
            text = str(error) if error.seconds >= HOLDER_SILENT_S else logged
        except ConcurrentChange:
            continue
        if text != logged:
            LOG.info("%s", text)
            logged = text
        stopping.wait(RETRY_S)
    return None


SeenLeases = dict[str, tuple[float, float]]
"""By holder: when its lease was to end at the first look at it, and when that look was (monotonic)."""


class _HolderSilent(Exception):
    """A holder on another machine has not renewed its lease, which still runs, for `seconds` of watching."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


def _register_once(
    settings: Settings, url: str, stopping: threading.Event, wanted: int | None, leases: SeenLeases
) -> AgentSession:
    address = redact(url)
    actor = Actor.agent()
    client, waiting_client = dedicate(connect(url)), connect(url, blocking=True, block_s=REST_BLOCK_S)
    heartbeat_broker = Broker(client, settings.name, actor, address=address)
    identity = this_process()
    if wanted is None:
        device, replaced, channels = _join_first_free(heartbeat_broker, settings, identity, leases)
    else:
        device = wanted
        replaced, channels = _join_device(heartbeat_broker, settings, device, identity, leases)
    retry = RetryPolicy(
        give_up=stopping,
        on_wait=lambda error: LOG.warning("%s; trying again", error),
        on_recovered=lambda: LOG.info("Redis at %s answers again", address),
    )
    session = AgentSession(
        actor, device,
        broker=Broker(client, settings.name, actor, address=address, retry=retry),
        heartbeat_broker=heartbeat_broker,
        waiting_client=waiting_client,
        long_poll=TokenWait(waiting_client),
        heartbeat_wait=TokenWait(waiting_client),
        pace=HeartbeatPace(),
        since_ms=int(time.time() * 1000),
        channel_count=channels,
    )  # fmt: skip
    # Leases start afresh after Redis was away for long. After a shorter time, a heartbeat must arrive soon.
    heartbeat_broker.retry = RetryPolicy(
        give_up=stopping, max_tries=HEARTBEAT_TRIES, max_pause_s=session.pace
    )
    if replaced:
        recovered = session.broker.recover(replaced, crash_reason(device), channels=channels)
        LOG.info("took over Device%d from an agent that is gone; %d of its tasks continue", device, recovered)
    served = channel_names(served_numbers(settings.served, channels))
    LOG.info("Device%d serves %s of %r at %s", device, served, settings.name, address)
    session.broker.append_event("info", f"Device{device}", f"{identity.host} pid {identity.pid} joined")
    return session


def _join_device(
    broker: Broker, settings: Settings, device: int, identity: Identity, leases: SeenLeases
) -> tuple[str, int]:
    """Take a device. Return the actor that was replaced on it, or '', and how many channels the namespace has.

    Only a holder that has renewed its lease since the first look at it refuses a new agent (law 7).
    """
    holder = broker.actor_on(device)
    try:
        return holder, broker.join(device, settings.served, identity, holder=holder)
    except LookupError as error:
        raise JobError(
            f"channel {max(settings.served or (0,))} does not exist: "
            f"namespace {settings.name!r} has {error.args[0]} channels, numbered from 0"
        ) from None
    except LeaseHeld as held:
        if is_gone(held.identity) or _was_this_process(held.identity):
            channels = broker.join(device, settings.served, identity, holder=held.actor, gone=True)
            return held.actor, channels
        lease_ends = float(broker.query("ZSCORE", broker.keys.leases, held.actor) or 0)
        first_lease_ends, first_look = leases.setdefault(held.actor, (lease_ends, time.monotonic()))
        who = f"{held.identity.host} pid {held.identity.pid}"
        if lease_ends <= first_lease_ends:
            raise _HolderSilent(
                f"Device{device} is held by an agent that sends no heartbeat ({who}); waiting until its lease ends",
                time.monotonic() - first_look,
            ) from None
        since = time.strftime("%H:%M:%S", time.localtime(held.since_ms / 1000))
        raise AlreadyHeld(
            f"Device{device} already has an agent: {who}, since {since}; "
            "choose another --device, or stop that agent"
        ) from None


def _join_first_free(
    broker: Broker, settings: Settings, identity: Identity, leases: SeenLeases
) -> tuple[int, str, int]:
    """Take the first device without a live agent. Return its number, then what `_join_device` returns.

    An agent that has restarted takes its former device if that is free.
    """
    if (before := restart.device_before()) is not None:
        with contextlib.suppress(AlreadyHeld, _HolderSilent, ConcurrentChange):
            return before, *_join_device(broker, settings, before, identity, leases)
    device = 0
    while True:
        try:
            return device, *_join_device(broker, settings, device, identity, leases)
        except (AlreadyHeld, _HolderSilent, ConcurrentChange):
            device += 1


def _was_this_process(identity: Identity) -> bool:
    """Return whether the agent of that process was this one's, before its program started anew."""
    return restart.device_before() is not None and identity == this_process()
