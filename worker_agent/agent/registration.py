"""How an agent comes to its device (law 7): waits for a server, refuses or waits for a holder, takes over."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker_agent.console.log import LOG
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.address import DEFAULT_URL, redact
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.dedicated import dedicate
from worker_agent.protocol.connection.redis_errors import NoRights
from worker_agent.protocol.connection.retry import RetryPolicy
from worker_agent.protocol.errors import (
    AlreadyHeld,
    ConcurrentChange,
    JobError,
    NoNamespace,
    RedisUnavailable,
)
from worker_agent.protocol.identity import is_gone, this_process
from worker_agent.protocol.membership import LeaseHeld
from worker_agent.protocol.pristine import time
from worker_agent.protocol.reasons import crashed

if TYPE_CHECKING:
    from worker_agent.settings import Settings

SILENT_S = 1.5
"""A holder that did not renew its lease for so long while a newcomer looked on is said not to report."""
REPORT_TRIES, REPORT_PAUSE_S = 16, 0.5
"""How often and how soon a report that Redis does not take is sent again: for 3 s at least, as `GAP` of sweep.lua."""
RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class Session:
    """One actor's stay on a device: a broker for the claimer, one for the reports, two blocking clients."""

    actor: Actor
    device: int
    run: str
    url: str
    broker: Broker
    reports: Broker
    waiter_client: Any
    watcher_client: Any
    since_ms: int


def take_device(settings: Settings, stopping: threading.Event, device: int | None = None) -> Session | None:
    """Join, waiting as long as there is no server; None if stopped meanwhile.

    Raises `AlreadyHeld` where a live agent has the device, `JobError`, `VersionMismatch` or `RedisRefused`.
    """
    wanted = settings.device if device is None else device
    said = ""
    looks: Looks = {}
    while not stopping.is_set():
        url = settings.address()
        try:
            return _join(settings, url, stopping, wanted, looks)
        except (NoNamespace, RedisUnavailable) as error:
            text = f"waiting for a server: {error}"
        except NoRights:
            if url != DEFAULT_URL:
                raise
            # Nobody named an address, and another namespace's embedded Valkey listens on the default one.
            text = f"waiting for a server of namespace {settings.name!r} on this machine"
        except _Silent as error:
            text = str(error) if error.seconds >= SILENT_S else said
        except ConcurrentChange:
            continue
        if text != said:
            LOG.info("%s", text)
            said = text
        stopping.wait(RETRY_S)
    return None


Looks = dict[str, tuple[float, float]]
"""When each holder's lease was to end at the first look at it, and when that look was (monotonic)."""


class _Silent(Exception):
    """A holder elsewhere whose lease still runs, and that has not renewed it for `seconds` of looking on."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


def _join(
    settings: Settings, url: str, stopping: threading.Event, wanted: int | None, looks: Looks
) -> Session:
    where = redact(url)
    actor = Actor.agent(settings.channel)
    probe = Broker(connect(url), settings.name, actor, address=where)
    identity = this_process()
    if wanted is None:
        device, run, replaced = _join_first_free(probe, settings, identity, looks)
    else:
        device = wanted
        run, replaced = _join_device(probe, settings.name, device, settings.channel, identity, looks)
    retry = RetryPolicy(
        give_up=stopping,
        on_wait=lambda error: LOG.warning("%s; trying again", error),
        on_recovered=lambda: LOG.info("Redis at %s answers again", where),
    )
    session = Session(
        actor, device, run, url,
        broker=Broker(dedicate(connect(url)), settings.name, actor, address=where, retry=retry),
        reports=probe,
        waiter_client=connect(url, blocking=True),
        watcher_client=connect(url, blocking=True),
        since_ms=int(time.time() * 1000),
    )  # fmt: skip
    # Leases start afresh after a longer absence; after a shorter one, the report has to be there soon.
    probe.retry = RetryPolicy(give_up=stopping, max_tries=REPORT_TRIES, max_pause_s=REPORT_PAUSE_S)
    if replaced:
        back = session.broker.recover(replaced, crashed(device))
        LOG.info("took Device%d over from an agent that is gone; %d of its tasks go on", device, back)
    LOG.info("Device%d serves TaskChannel%d of %r at %s", device, settings.channel, settings.name, where)
    session.broker.append_event("info", f"Device{device}", f"{identity.host} pid {identity.pid} joined")
    return session


def _join_device(
    broker: Broker, name: str, device: int, channel: int, identity: Any, looks: Looks
) -> tuple[str, str]:
    """The run's id, and the actor that was replaced on the device or ''.

    Only a holder that reports refuses a newcomer (law 7): one that renewed its lease since the first look.
    """
    holder = broker.actor_on(device)
    try:
        return broker.join(device, channel, identity, holder=holder), holder
    except LookupError as error:
        raise JobError(
            f"channel {channel} does not exist: namespace {name!r} has {error.args[0]} channels, from 0 on"
        ) from None
    except LeaseHeld as held:
        if is_gone(held.identity):
            return broker.join(device, channel, identity, holder=held.actor, gone=True), held.actor
        lease_ends = float(broker.query("ZSCORE", broker.keys.leases, held.actor) or 0)
        first, looked = looks.setdefault(held.actor, (lease_ends, time.monotonic()))
        who = f"{held.identity.host} pid {held.identity.pid}"
        if lease_ends <= first:
            raise _Silent(
                f"Device{device} is held by an agent that does not report ({who}); waiting until its lease ends",
                time.monotonic() - looked,
            ) from None
        since = time.strftime("%H:%M:%S", time.localtime(held.since_ms / 1000))
        raise AlreadyHeld(
            f"Device{device} already has an agent: {who}, since {since}; "
            "choose another --device, or stop that one"
        ) from None


def _join_first_free(broker: Broker, settings: Settings, identity: Any, looks: Looks) -> tuple[int, str, str]:
    """Take the first device that nobody alive has; its number, the run's id, the actor that was replaced."""
    device = 0
    while True:
        try:
            run, replaced = _join_device(broker, settings.name, device, settings.channel, identity, looks)
        except (AlreadyHeld, _Silent, ConcurrentChange):
            device += 1
        else:
            return device, run, replaced
