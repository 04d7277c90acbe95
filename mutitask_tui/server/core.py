"""The server without a screen: opens the namespace, feeds it, supervises it, and stops in order."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from mutitask_tui.server.allotter import Allotter
from mutitask_tui.server.body_sweep import BodySweep
from mutitask_tui.server.drain import drain_agents
from mutitask_tui.server.feed import Feed, parse_marks
from mutitask_tui.server.operator_calls import Caller
from mutitask_tui.server.reader import Reader
from mutitask_tui.server.snapshot import Wait
from mutitask_tui.server.supervisor import Supervisor
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.address import redact
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.dedicated import dedicate
from worker_agent.protocol.connection.retry import RetryPolicy
from worker_agent.protocol.errors import (
    AlreadyHeld,
    LeaseLost,
    MutiTaskError,
    NamespaceHoldsWork,
    RedisRefused,
    RedisUnavailable,
    Superseded,
)
from worker_agent.protocol.identity import is_gone, this_process
from worker_agent.protocol.membership import ChannelCountDiffers, HoldsWork, LeaseHeld, Run, RunPlan
from worker_agent.protocol.reasons import in_one_line
from worker_agent.protocol.unpatched import time

SILENT_S = 1.5
"""How long a holder of the namespace may renew no lease before it is called silent, in seconds."""
HOLDER_POLL_S = 0.25
SHOWN_WAIT_S = 1.0
"""The shortest wait for Redis that is shown on the screen, in seconds."""
ALLOTTER_STOP_S = 5.0

_THREAD_NAMES = ("allotter", "supervisor", "feed-", "quit", "totals")
"""The prefixes of this server's thread names."""


class ServerFailed(MutiTaskError):
    """An unforeseen error ended the server."""

    def __init__(self, error: str) -> None:
        super().__init__(
            f"the server failed ({error}) and ends: Redis keeps the tasks, and --resume continues with them; "
            "a job that replaces parts of Python can be the cause; if it is not, please report this"
        )


class ServerCore:
    """One server. `open()` takes the namespace, `start()` starts to feed, `stop()` ends in order.

    `ended` is set when the server is over. Then `failure` is the error that ended it, if any, and `quit` tells whether
    the command `exit` ended it. `on_note` receives notes for the person at the terminal.
    """

    def __init__(
        self,
        url: str,
        name: str,
        plan: RunPlan,
        iterators: Sequence[Iterator[Any]],
        *,
        totals: Callable[[], Sequence[int | None]] = tuple,
        on_allotted: Callable[[int, Any, int], None] | None = None,
        on_note: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.url = url
        self.name = name
        self.plan = plan
        self.address = redact(url)
        self.ended = threading.Event()
        self.quit = False
        self.failure: Exception | None = None
        self.run: Run | None = None
        self._iterators = iterators
        self._totals = totals
        self._on_allotted = on_allotted
        self._on_note = on_note
        self._stopping = threading.Event()
        self._quitting = threading.Event()
        identity = this_process()
        self.source = f"server {identity.host}:{identity.pid}"
        """The author of this server's lines in the event log."""
        self._identity = identity
        self._brokers: list[Broker] = []
        self._broker = self._new_broker(Actor.server())
        self._allotter: Allotter | None = None
        self._supervisor: Supervisor | None = None
        self._body_sweep: BodySweep | None = None
        self._restore_excepthook: Callable[[], None] = lambda: None
        self._finish_lock = threading.Lock()
        self._reopen_lock = threading.Lock()

    def _new_broker(self, actor: Actor) -> Broker:
        retry = RetryPolicy(
            give_up=self._stopping,
            max_pause_s=0.5,
            on_wait=lambda error: self._on_note(f"{error}; trying again"),
            on_recovered=lambda: self._on_note(f"Redis at {self.address} answers again"),
        )
        broker = Broker(dedicate(connect(self.url)), self.name, actor, address=self.address, retry=retry)
        self._brokers.append(broker)
        return broker

    # Opening the namespace.

    def check(self) -> None:
        """Check that Redis can be used. Raises `RedisUnavailable` or `RedisRefused`."""
        broker = Broker(connect(self.url), self.name, Actor.server(), address=self.address)
        broker.query("PING")
        self._broker.query("HLEN", self._broker.keys.meta)
        try:
            answer = broker.query("CONFIG", "GET", "maxmemory*")
        except MutiTaskError:
            return  # Managed servers do not allow it, so the settings stay unknown.
        pairs = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
        if int(pairs.get(b"maxmemory", 0)) and pairs.get(b"maxmemory-policy") != b"noeviction":
            raise RedisRefused(
                f"Redis at {self.address} evicts keys when memory runs short, which would lose tasks; "
                "set maxmemory-policy to noeviction"
            )

    def open(self) -> Run:
        """Take the namespace. Raises `AlreadyHeld`, `NamespaceHoldsWork`, `VersionMismatch` or `RedisRefused`."""
        self.run = self._open(self._broker)
        return self.run

    def _open(self, broker: Broker) -> Run:
        """Open the run, after the lease of a silent holder has ended. A live holder raises `AlreadyHeld`."""
        noted = False
        gone = ""
        first_seen: dict[str, tuple[float, float]] = {}
        while True:
            try:
                run = broker.open_run(self.plan, self._identity, gone=gone)
            except LeaseHeld as holder:
                if is_gone(holder.identity):
                    gone = holder.actor
                    continue
                # Only a live holder refuses a newcomer: one that renewed its lease since it was first seen.
                lease_ends = float(broker.query("ZSCORE", broker.keys.server_lease, holder.actor) or 0)
                first_lease_ends, seen_at = first_seen.setdefault(
                    holder.actor, (lease_ends, time.monotonic())
                )
                if lease_ends > first_lease_ends or self._stopping.is_set():
                    raise AlreadyHeld(self._held_text(holder)) from None
                if not noted and time.monotonic() - seen_at >= SILENT_S:
                    noted = True
                    process = f"{holder.identity.host} pid {holder.identity.pid}"
                    self._on_note(
                        f"a server that does not report holds {self.name!r} ({process}); waiting for its lease"
                    )
                self._stopping.wait(HOLDER_POLL_S)
            except HoldsWork as work:
                raise NamespaceHoldsWork(self._work_text(work.counts)) from None
            except ChannelCountDiffers as other:
                raise NamespaceHoldsWork(
                    f"namespace {self.name!r} has {other.channels} channels and this job {self.plan.channels}; "
                    "resume it with the job that started it, or pass --fresh or another --name"
                ) from None
            else:
                verb = "resumed" if run.resumed else "started"
                broker.append_event("info", self.source, f"{verb} run {run.id}")
                return run

    def _held_text(self, holder: LeaseHeld) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.since_ms / 1000))
        return (
            f"namespace {self.name!r} already has a server: {holder.identity.host} pid {holder.identity.pid}, "
            f"since {since}; open its dashboard with `mutitask attach --name {self.name}`, or take another --name"
        )

    def _work_text(self, counts: dict[str, int]) -> str:
        parts = [f"{count} {name}" for name, count in counts.items() if count and name != "unexhausted"]
        if counts["unexhausted"]:
            parts.append("a generator that is not exhausted")
        return (
            f"namespace {self.name!r} holds work ({', '.join(parts)}): pass --resume to continue with it, "
            "--fresh to drop it, or another --name"
        )

    def wait(self) -> Wait | None:
        """Return why this server's calls have been waiting for more than a second, or None if they do not wait."""
        waits = [
            (b.retry.waiting_since, b.retry.waiting_reason)
            for b in list(self._brokers)
            if b.retry.waiting_reason
        ]
        since, why = min(waits, default=(0.0, ""))
        return Wait(why, round(since * 1000)) if why and time.time() - since > SHOWN_WAIT_S else None

    # Running.

    def start(self) -> None:
        """Start to feed and to supervise. Returns at once."""
        run = self.run
        if run is None:
            raise RuntimeError("open() comes before start()")
        allotter = Allotter(
            self._broker,
            connect(self.url, blocking=True),
            self.source,
            self._reopen_as_new_actor,
            self._fail,
        )
        cursors = [
            self._broker.number(self._broker.keys.channel(number).counters, "cursor")
            for number in range(len(self._iterators))
        ]
        allotter.feeds = [
            Feed(
                number,
                iterator,
                run.id,
                cursors[number],
                allotter.on_feed_ready,
                self._on_allotted,
                marks=self._marks(number, cursors[number]),
                anyway=self.plan.anyway,
            )
            for number, iterator in enumerate(self._iterators)
        ]
        supervisor = Supervisor(
            self._new_broker(self._broker.actor),
            self.source,
            len(self._iterators),
            on_quit=self._start_quitting,
            on_skip=allotter.skip,
            on_tick=allotter.check_acknowledged,
            on_actor_lost=self._reopen_as_new_actor,
            on_error=self._fail,
        )
        allotter.on_token = supervisor.wake
        self._allotter, self._supervisor = allotter, supervisor
        self._body_sweep = self._new_body_sweep()
        # A job may take long to count its tasks, so a thread of its own does it.
        threading.Thread(
            target=self._record_totals, args=(len(self._iterators),), name="totals", daemon=True
        ).start()
        self._watch_threads()
        supervisor.start()
        allotter.start()
        self._body_sweep.start()

    def _new_body_sweep(self) -> BodySweep:
        # Without retries: a pass that fails is made again later.
        broker = Broker(connect(self.url), self.name, self._broker.actor, address=self.address)
        self._brokers.append(broker)
        return BodySweep(Reader(self.url, self.name), broker, self.source)

    def _marks(self, channel: int, cursor: int) -> dict[int, str]:
        """Return the marks with which the feed checks that its generator is the one that started the run."""
        if self.plan.anyway:
            self._broker.forget_marks(channel)
            return {}
        return parse_marks(self._broker.marks(channel), cursor) if cursor else {}

    def _watch_threads(self) -> None:
        """End the server in order if one of its threads ends by an error. Otherwise it would hang silently."""
        previous = threading.excepthook

        def hook(failed: threading.ExceptHookArgs) -> None:
            name = failed.thread.name if failed.thread else ""
            if name.startswith(_THREAD_NAMES) and not self.ended.is_set() and failed.exc_value is not None:
                self._fail(failed.exc_value)
            else:
                previous(failed)

        def restore() -> None:
            if threading.excepthook is hook:
                threading.excepthook = previous

        threading.excepthook = hook
        self._restore_excepthook = restore

    def _record_totals(self, channels: int) -> None:
        """Record how many tasks each generator will yield, if the job knows."""
        try:
            for channel, total in enumerate(list(self._totals())[:channels]):
                if total is not None:
                    self._broker.set_total(channel, total)
        except LeaseLost:
            pass
        except Exception as error:
            self.note("warning", f"the number of tasks is not known: {error}")

    def halted_feeds(self) -> list[str]:
        """Return the reason of each halted feed, such as `TaskChannel0: ...`."""
        feeds = self._allotter.feeds if self._allotter else ()
        return [f"TaskChannel{feed.channel}: {feed.halted}" for feed in feeds if feed.halted]

    def note(self, level: Literal["info", "warning", "error"], text: str) -> None:
        """Write a line to the namespace's event log, if Redis accepts it."""
        with contextlib.suppress(MutiTaskError):
            Broker(connect(self.url), self.name, self._broker.actor, address=self.address).append_event(
                level, self.source, text
            )

    # Ending.

    def stop(self) -> None:
        """Stop only the server, in order. The agents continue with the waiting tasks."""
        self._finish(None, by_command=False)

    def _start_quitting(self) -> None:
        if not self._quitting.is_set():
            self._quitting.set()
            threading.Thread(target=self._quit, name="quit", daemon=True).start()

    def _quit(self) -> None:
        """Wait until the agents have left, then end."""
        if self._allotter:
            self._allotter.stop()
        with contextlib.suppress(MutiTaskError):
            drain_agents(Caller(self.url, self.name), self._broker, self._on_note)
        self._finish(None, by_command=True)

    def _fail(self, error: BaseException) -> None:
        failure = error if isinstance(error, MutiTaskError) else ServerFailed(in_one_line(error))
        self._finish(failure, by_command=False)

    def _reopen_as_new_actor(self, lost: str, error: MutiTaskError) -> None:
        """Take the namespace again as a new actor after this server was frozen past its lease and fenced.

        `lost` is the actor whose call was refused with `error`. Raises `Superseded`, which names the successor, if
        another server has taken the namespace.
        """
        with self._reopen_lock:
            if self._broker.actor.id != lost or self._stopping.is_set():
                return  # The other thread's call was refused first and has done this. The call is sent again.
            if isinstance(error, Superseded):
                raise error
            self._on_note("this server did not report for longer than its lease; taking the namespace again")
            self.plan = replace(self.plan, mode="resume", autostart=False)
            old = self._broker
            fresh = Broker(old.client, self.name, Actor.server(), address=self.address, retry=old.retry)
            try:
                reopened = self._open(fresh)
            except AlreadyHeld as held:
                raise Superseded(str(held)) from None
            if self.run is not None and reopened.id != self.run.id:
                raise Superseded("another server started a new run in this namespace meanwhile")
            # Not before the run is open: Redis refuses the calls of an actor that has not opened it.
            self.run = reopened
            for broker in self._brokers:
                broker.actor = fresh.actor

    def _finish(self, failure: Exception | None, *, by_command: bool) -> None:
        with self._finish_lock:
            if self.ended.is_set():
                return
            self._stopping.set()
            self.failure, self.quit = failure, by_command
            for duty in (self._allotter, self._supervisor, self._body_sweep):
                if duty:
                    duty.stop()
            if (
                self._allotter
                and self._allotter.is_alive()
                and self._allotter is not threading.current_thread()
            ):
                self._allotter.join(ALLOTTER_STOP_S)
            if failure is None:
                try:
                    if by_command:
                        self._broker.query("HDEL", self._broker.keys.desired_server, "quit")
                    self._broker.append_event("info", self.source, "stopped")
                    self._broker.leave()
                except (RedisUnavailable, MutiTaskError):
                    self._on_note("Redis is away: the namespace is free once the lease ends")
            self._restore_excepthook()
            self.ended.set()


def resume_plan(plan: RunPlan) -> RunPlan:
    """Return the same plan, which continues with the work in the namespace."""
    return replace(plan, mode="resume")


def fresh_plan(plan: RunPlan) -> RunPlan:
    """Return the same plan, which drops the work in the namespace."""
    return replace(plan, mode="fresh")
