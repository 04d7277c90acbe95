"""The server without a screen: takes the namespace, feeds it, supervises it, and stops in order."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from mutitask_tui.server.allotter import Allotter
from mutitask_tui.server.commands.commander import Commander
from mutitask_tui.server.commands.devices import DRAIN_S
from mutitask_tui.server.feed import Feed
from mutitask_tui.server.marks import marks_in
from mutitask_tui.server.snapshot import Wait
from mutitask_tui.server.supervisor import Supervisor
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.address import redact
from worker_agent.protocol.connection.connect import Patience, connect
from worker_agent.protocol.connection.dedicated import dedicate
from worker_agent.protocol.errors import (
    Held,
    LeaseLost,
    MutiTaskError,
    NamespaceHoldsWork,
    RedisRefused,
    RedisUnavailable,
    Superseded,
)
from worker_agent.protocol.identity import is_gone, me
from worker_agent.protocol.membership import HoldsWork, Occupied, OtherChannels, Run, RunPlan
from worker_agent.protocol.pristine import time
from worker_agent.protocol.reasons import in_one_line

SILENT_S = 1.5
"""A holder that did not renew its lease for so long while a newcomer looked on is said not to report."""
PATIENT_S = 1.0
"""A shorter wait is not worth a word on the screen."""
FORCE_S = 3.0
"""How long agents that did not finish in time have to hand back what runs."""


_OURS = ("allotter", "supervisor", "feed-", "quit", "totals")
"""How our threads' names begin."""


class ServerFailed(MutiTaskError):
    """Something went wrong in the server that nobody foresaw."""

    def __init__(self, error: str) -> None:
        super().__init__(
            f"the server failed ({error}) and ends: what waits is kept, and --resume goes on with it; "
            "a job that replaces parts of Python can be the cause, else report it"
        )


class ServerCore:
    """One server. `open()` takes the namespace, `start()` begins to feed, `stop()` ends in order.

    `ended` is set once it is over; `failure` then says why, if it was not asked for; `quit` whether
    somebody asked it to `exit`.
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
        self.where = redact(url)
        self.ended = threading.Event()
        self.quit = False
        self.failure: Exception | None = None
        self._put_hook_back: Callable[[], None] = lambda: None
        self.run: Run | None = None
        self._iterators = iterators
        self._totals = totals
        self._on_allotted = on_allotted
        self._on_note = on_note
        self._stopping = threading.Event()
        self._quitting = threading.Event()
        identity = me()
        self.who = f"server {identity.host}:{identity.pid}"
        self._identity = identity
        self._brokers: list[Broker] = []
        self._broker = self._new_broker(Actor.server())
        self._allotter: Allotter | None = None
        self._supervisor: Supervisor | None = None
        self._over = threading.Lock()
        self._coming_back = threading.Lock()

    def _new_broker(self, actor: Actor) -> Broker:
        patience = Patience(
            give_up=self._stopping,
            longest_s=0.5,
            on_wait=lambda error: self._on_note(f"{error}; trying again"),
            on_back=lambda: self._on_note(f"Redis at {self.where} answers again"),
        )
        broker = Broker(dedicate(connect(self.url)), self.name, actor, where=self.where, patience=patience)
        self._brokers.append(broker)
        return broker

    # -- opening -------------------------------------------------------------------------------------

    def check(self) -> None:
        """Whether Redis can be used at all. Raises `RedisUnavailable` or `RedisRefused`."""
        broker = Broker(connect(self.url), self.name, Actor.server(), where=self.where)
        broker.ask("PING")
        self._broker.ask("HLEN", self._broker.keys.meta)
        try:
            answer = broker.ask("CONFIG", "GET", "maxmemory*")
        except MutiTaskError:
            return  # Not allowed on managed servers; then nobody can tell.
        pairs = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
        if int(pairs.get(b"maxmemory", 0)) and pairs.get(b"maxmemory-policy") != b"noeviction":
            raise RedisRefused(
                f"Redis at {self.where} evicts keys when memory runs short, which would lose tasks; "
                "set maxmemory-policy to noeviction"
            )

    def open(self) -> Run:
        """Take the namespace. Raises `Held`, `NamespaceHoldsWork`, `VersionMismatch` or `RedisRefused`."""
        self.run = self._open(self._broker)
        return self.run

    def _open(self, broker: Broker) -> Run:
        said = False
        gone = ""
        looks: dict[str, tuple[float, float]] = {}
        while True:
            try:
                run = broker.open_run(self.plan, self._identity, gone=gone)
            except Occupied as holder:
                if is_gone(holder.identity):
                    gone = holder.actor
                    continue
                # Only a holder that reports refuses a newcomer: one that renewed its lease since the first look.
                lease_ends = float(broker.ask("ZSCORE", broker.keys.server_lease, holder.actor) or 0)
                first, looked = looks.setdefault(holder.actor, (lease_ends, time.monotonic()))
                if lease_ends > first or self._stopping.is_set():
                    raise Held(self._held(holder)) from None
                if not said and time.monotonic() - looked >= SILENT_S:
                    said = True
                    who = f"{holder.identity.host} pid {holder.identity.pid}"
                    self._on_note(
                        f"a server that does not report holds {self.name!r} ({who}); waiting for its lease"
                    )
                self._stopping.wait(0.25)
            except HoldsWork as work:
                raise NamespaceHoldsWork(self._work(work.counts)) from None
            except OtherChannels as other:
                raise NamespaceHoldsWork(
                    f"namespace {self.name!r} has {other.channels} channels and this job {self.plan.channels}; "
                    "resume it with the job that it was begun with, or pass --fresh or another --name"
                ) from None
            else:
                verb = "resumed" if run.resumed else "began"
                broker.log("info", self.who, f"{verb} run {run.id}")
                return run

    def _held(self, holder: Occupied) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.since_ms / 1000))
        return (
            f"namespace {self.name!r} already has a server: {holder.identity.host} pid {holder.identity.pid}, "
            f"since {since}; open its dashboard with `mutitask attach --name {self.name}`, or take another --name"
        )

    def _work(self, counts: dict[str, int]) -> str:
        parts = [f"{count} {name}" for name, count in counts.items() if count and name != "unexhausted"]
        if counts["unexhausted"]:
            parts.append("a generator that is not exhausted")
        return (
            f"namespace {self.name!r} holds work ({', '.join(parts)}): pass --resume to go on with it, "
            "--fresh to drop it, or another --name"
        )

    def wait(self) -> Wait | None:
        """Why this server's calls have not been carried out for more than a second, if they have not."""
        waits = [(b.patience.since, b.patience.why) for b in list(self._brokers) if b.patience.why]
        since, why = min(waits, default=(0.0, ""))
        return Wait(why, round(since * 1000)) if why and time.time() - since > PATIENT_S else None

    # -- life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to feed and to supervise; returns at once."""
        run = self.run
        if run is None:
            raise RuntimeError("open() comes before start()")
        allotter = Allotter(
            self._broker, connect(self.url, blocking=True), self.who, self._come_back, self._failed
        )
        cursors = [
            self._broker.number(self._broker.keys.channel(number).books, "cursor")
            for number in range(len(self._iterators))
        ]
        allotter.feeds = [
            Feed(
                number,
                iterator,
                run.id,
                cursors[number],
                allotter.news,
                self._on_allotted,
                marks=self._marks(number, cursors[number]),
                anyway=self.plan.anyway,
            )
            for number, iterator in enumerate(self._iterators)
        ]
        supervisor = Supervisor(
            self._new_broker(self._broker.actor),
            self.who,
            len(self._iterators),
            on_quit=self._asked_to_quit,
            on_skip=allotter.skip,
            on_look=allotter.compare,
            on_lost=self._come_back,
            on_error=self._failed,
        )
        allotter.on_token = supervisor.wake  # type: ignore[method-assign]
        self._allotter, self._supervisor = allotter, supervisor
        # Counting may take long, and nobody has to wait for it.
        threading.Thread(target=self._count, args=(len(self._iterators),), name="totals", daemon=True).start()
        self._watch_threads()
        supervisor.start()
        allotter.start()

    def _marks(self, channel: int, cursor: int) -> dict[int, str]:
        """By which the feed tells whether its generator is the one that the run was begun with."""
        if self.plan.anyway:
            self._broker.forget_marks(channel)
            return {}
        return marks_in(self._broker.marks(channel), cursor) if cursor else {}

    def _watch_threads(self) -> None:
        """A thread of ours that ends by an error ends the server in order: it would stand still without a word."""
        otherwise = threading.excepthook

        def told(failed: threading.ExceptHookArgs) -> None:
            name = failed.thread.name if failed.thread else ""
            if name.startswith(_OURS) and not self.ended.is_set() and failed.exc_value is not None:
                self._failed(failed.exc_value)
            else:
                otherwise(failed)

        def put_back() -> None:
            if threading.excepthook is told:
                threading.excepthook = otherwise

        threading.excepthook = told
        self._put_hook_back = put_back

    def _count(self, channels: int) -> None:
        """Tell how many tasks each generator will yield, where the job knows."""
        try:
            for channel, total in enumerate(list(self._totals())[:channels]):
                if total is not None:
                    self._broker.set_total(channel, total)
        except LeaseLost:
            pass
        except Exception as error:
            self.note("warning", f"the number of tasks is not known: {error}")

    def halted(self) -> list[str]:
        """Why feeds stand still, one text for each that does."""
        feeds = self._allotter.feeds if self._allotter else ()
        return [f"TaskChannel{feed.channel}: {feed.halted}" for feed in feeds if feed.halted]

    def note(self, level: Literal["info", "warning", "error"], text: str) -> None:
        """Add a line to the namespace's event log, if Redis is there to take it."""
        with contextlib.suppress(MutiTaskError):
            Broker(connect(self.url), self.name, self._broker.actor, where=self.where).log(
                level, self.who, text
            )

    def stop(self) -> None:
        """Stop the server alone, in order: agents go on with what waits."""
        self._finish(None, quit_=False)

    def _asked_to_quit(self) -> None:
        if not self._quitting.is_set():
            self._quitting.set()
            threading.Thread(target=self._quit, name="quit", daemon=True).start()

    def _quit(self) -> None:
        """Wait until the agents have left, then end. Who came after everybody was asked to stop is asked too."""
        if self._allotter:
            self._allotter.end()
        until = time.monotonic() + DRAIN_S
        asked: set[str] = set()
        with contextlib.suppress(MutiTaskError):
            commander = Commander(self.url, self.name)
            while (there := self._broker.ask("HVALS", self._broker.keys.agents)) and time.monotonic() < until:
                if not asked.issuperset(actor.decode("utf-8", "replace") for actor in there):
                    agents = commander.agents()
                    commander.stop_latecomers(agents)
                    asked.update(agents.values())
                time.sleep(0.1)
            if there:
                self._on_note(
                    f"{len(there)} agents still run tasks after {DRAIN_S:g} s: these are handed back"
                )
                commander.stop_agents(commander.agents())
                until = time.monotonic() + FORCE_S
                while self._broker.ask("HLEN", self._broker.keys.agents) and time.monotonic() < until:
                    time.sleep(0.1)
        self._finish(None, quit_=True)

    def _failed(self, error: BaseException) -> None:
        told = error if isinstance(error, MutiTaskError) else ServerFailed(in_one_line(error))
        self._finish(told, quit_=False)

    def _come_back(self, lost: str, error: MutiTaskError) -> None:
        """This server was frozen past its lease and declared dead: go on as a new actor, unless another came.

        `lost` is the actor that was refused with `error`. Raises `Superseded`, naming the successor.
        """
        with self._coming_back:
            if self._broker.actor.id != lost or self._stopping.is_set():
                return  # Another thread's call was refused first, and we are back: this call goes out again.
            if isinstance(error, Superseded):
                raise error
            self._on_note("this server did not report for longer than its lease; taking the namespace again")
            self.plan = replace(self.plan, mode="resume", autostart=False)
            now = self._broker
            fresh = Broker(now.client, self.name, Actor.server(), where=self.where, patience=now.patience)
            try:
                after = self._open(fresh)
            except Held as held:
                raise Superseded(str(held)) from None
            if self.run is not None and after.id != self.run.id:
                raise Superseded("another server began a new run in this namespace meanwhile")
            # Only now: what another thread sends as an actor that has not opened the run yet is refused for good.
            self.run = after
            for broker in self._brokers:
                broker.actor = fresh.actor

    def _finish(self, failure: Exception | None, *, quit_: bool) -> None:
        with self._over:
            if self.ended.is_set():
                return
            self._stopping.set()
            self.failure, self.quit = failure, quit_
            for duty in (self._allotter, self._supervisor):
                if duty:
                    duty.end()
            if (
                self._allotter
                and self._allotter.is_alive()
                and self._allotter is not threading.current_thread()
            ):
                self._allotter.join(5.0)
            if failure is None:
                try:
                    if quit_:
                        self._broker.ask("HDEL", self._broker.keys.desired_server, "quit")
                    self._broker.log("info", self.who, "stopped")
                    self._broker.leave()
                except (RedisUnavailable, MutiTaskError):
                    self._on_note("Redis is away: the namespace is free once the lease ends")
            self._put_hook_back()
            self.ended.set()


def resumed(plan: RunPlan) -> RunPlan:
    """The same plan, going on with what the namespace holds."""
    return replace(plan, mode="resume")


def afresh(plan: RunPlan) -> RunPlan:
    """The same plan, dropping what the namespace holds."""
    return replace(plan, mode="fresh")
