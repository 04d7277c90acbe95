"""The agent on a device: takes its device, claims, executes, settles, hands back, and leaves in order."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal

from worker_agent.agent.heartbeat import Watcher
from worker_agent.agent.long_poll import Waiter
from worker_agent.agent.registration import Session, take_device
from worker_agent.agent.stalls import asleep_s
from worker_agent.console import streams
from worker_agent.console.log import LOG, log_to_stderr
from worker_agent.execution.in_flight import Hands
from worker_agent.execution.threads import ThreadCrew
from worker_agent.protocol.broker import Claim
from worker_agent.protocol.errors import JobError, LeaseLost, MutiTaskError, RedisUnavailable, WritesLost
from worker_agent.protocol.pristine import time
from worker_agent.protocol.reasons import in_one_line
from worker_agent.protocol.settlements import Settlement
from worker_agent.settings import Settings

if TYPE_CHECKING:
    from worker_agent.execution.processes import ProcessCrew

ENDED_NOTE_VARIABLE = "MUTITASK_ENDED_NOTE"
"""Names the file in which an agent notes how far it came: nothing, `joined`, `stopped` where
it was asked not to wait, or `ended` where it ended by itself."""


class Agent:
    """One agent. `run()` returns once it has stopped; `stop()` may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.hands = Hands(settings.concurrency)
        self.stopping = threading.Event()
        self.hurried = threading.Event()
        self.paused = True
        self.session: Session | None = None
        self.declared_dead: Session | None = None
        self.failed = False
        """Whether one of its own threads failed, which ends it."""
        self._crew = self._gather()
        self._watcher = Watcher(self)
        self._waiting = 0
        self._claimed: Claim | None = None

    # -- from outside --------------------------------------------------------------------------------

    def stop(self) -> None:
        """Drain: finish what runs, hand back what does not. A second call does not wait for what runs."""
        if self.stopping.is_set():
            self.hurried.set()
        self.stopping.set()
        self.hands.nudge.set()

    @contextlib.contextmanager
    def watch_over(self, what: str) -> Iterator[None]:
        """End the agent in order where one of its threads ends by an error: it would stand still without a word."""
        try:
            yield
        except MutiTaskError:
            raise
        except BaseException as error:
            LOG.error(
                "%s failed (%s): the agent ends, and what runs is handed back", what, in_one_line(error)
            )
            self.failed = True
            self.hurried.set()
            self.stop()

    def lease_lost(self, session: Session) -> None:
        """The watcher learnt that the actor of that session was declared dead; the claimer begins anew."""
        self.declared_dead = session
        self.hands.nudge.set()

    def set_paused(self, paused: bool) -> None:
        """Obey a wish; what has not begun goes back."""
        if paused != self.paused:
            self.paused = paused
            LOG.info("%s", "paused: what runs finishes" if paused else "started: taking tasks")
            self.hands.nudge.set()

    def take_claim(self, claim: Claim) -> None:
        """What was claimed ahead, by a slot; the claimer is woken only where one is still free."""
        self._lay(claim, by_slot=True)
        if self.hands.free():
            self._claimed = claim
            self.hands.nudge.set()

    # -- life ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Take the device, work until stopped, leave. Raises `MutiTaskError` where that cannot be done."""
        if self.settings.kind == "thread" and (library := patched_by()):
            raise JobError(
                f"{library} has replaced Python's threads, and tasks cannot run in threads then: "
                'start the agent with --kind process (in a program: Client(..., kind="process"))'
            )
        session = take_device(self.settings, self.stopping)
        if session is None:
            LOG.info("stopped before a server came")
            return
        self.session = session
        note("joined")
        self._crew.start(session.device)
        waiter, watcher = Waiter(self), self._watcher
        waiter.start()
        watcher.start()
        try:
            with self.watch_over("the claim loop"):
                self._claim_until_stopped(waiter)
            self._leave(waiter)
        except RedisUnavailable as error:
            LOG.warning("stopped without leaving in order: %s; the others recover what was in hand", error)
        finally:
            self.hands.close()
            self._crew.kill()
            watcher.end()

    def _gather(self) -> ThreadCrew | ProcessCrew:
        if self.settings.kind == "thread":
            return ThreadCrew(self.settings, self.hands)
        from worker_agent.execution.processes import ProcessCrew

        return ProcessCrew(self.settings, self.hands, self.stopping)

    # -- the claimer ---------------------------------------------------------------------------------

    def _claim_until_stopped(self, waiter: Waiter) -> None:
        hands = self.hands
        while not self.stopping.is_set():
            hands.nudge.wait(0.0 if waiter.token else hands.pause_s())
            hands.nudge.clear()
            came = waiter.take_token()
            claimed, self._claimed = self._claimed, None
            if claimed is not None and not self.paused and not waiter.hungry and hands.free():
                self._look_again(claimed, waiter)
            unwanted = self.paused and waiter.has_claim_ahead
            back = hands.take_back() if self.paused or hands.stuck() or not hands.slots else []
            want = 0 if self.paused else hands.wanted(self._waiting)
            settle_due = bool(hands.settlements) and (want > 0 or hands.pause_s() <= 0.0)
            if waiter.hungry and not came and not settle_due:
                want = 0
            if self.declared_dead is self.session:
                self._begin_anew(None, waiter)
            elif back or want or settle_due or came or unwanted:
                settlements = hands.take_settlements() + back
                try:
                    self._exchange(settlements, want, waiter)
                except LeaseLost as lost:
                    self._begin_anew(lost, waiter, len(settlements))

    def _exchange(self, settlements: list[Settlement], want: int, waiter: Waiter) -> None:
        session, channel = self._current(), self.settings.channel
        number = waiter.recall()
        if number is not None and settlements:
            # It may have run already, and would then be answered as it was, with nothing settled.
            self._lay(session.broker.settle_and_claim(channel, [], 0, number=number))
            number = None
        claim = session.broker.settle_and_claim(channel, settlements, want, number=number)
        if claim.refused:
            LOG.warning("%d settles were refused: those tasks had been recovered", claim.refused)
        self._lay(claim)
        if want and self.hands.free():
            self._look_again(claim, waiter)

    def _lay(self, claim: Claim, *, by_slot: bool = False) -> None:
        """Lay what was claimed before the slots, unless a pause or a stop came first."""
        self._waiting = claim.waiting
        if self.paused or self.stopping.is_set():
            self.hands.hand_back(claim)
        else:
            self.hands.feed(claim, by_slot=by_slot)

    def _look_again(self, claim: Claim, waiter: Waiter) -> None:
        """A slot is free: wait for a token, or claim once more where the claim ended at this device's share."""
        if self.hands.empty():
            waiter.want_tasks(self._current(), self.hands.wanted(0))
        elif claim.waiting == 0 or not (claim.items or self.hands.begun):
            waiter.want_token()
        elif claim.items:
            self.hands.nudge.set()

    def _current(self) -> Session:
        if self.session is None:
            raise LeaseLost("not joined")
        return self.session

    def _begin_anew(self, lost: LeaseLost | None, waiter: Waiter, unsettled: int = 0) -> None:
        """The tasks in hand were recovered, or will be: drop them and come back as a new actor (law 2).

        `unsettled` tasks more were to be settled by the call that told of it.
        """
        old = self._current()
        waiter.recall()
        dropped = self.hands.drop_all() + unsettled
        if isinstance(lost, WritesLost):
            # What it has claimed there is not what it has in hand: all of that is left to recovery.
            old.broker.fence(old.actor.id)
            LOG.warning("%s; %d tasks in hand are dropped here and claimed anew", lost, dropped)
        else:
            self._say_declared_dead(old.device, dropped)
        fresh = take_device(self.settings, self.stopping, device=old.device)
        if fresh is not None:
            self.session = fresh

    def _say_declared_dead(self, device: int, dropped: int) -> None:
        LOG.warning(
            "Device%d was declared dead for want of reports; %d tasks in hand were recovered and are dropped here",
            device, dropped,
        )  # fmt: skip
        LOG.warning("%s", self._why_silent())

    def _why_silent(self) -> str:
        """Why no report went out, as far as this process can tell."""
        watcher = self._watcher
        asleep = asleep_s() - watcher.asleep_at
        if asleep > 1:
            return f"this machine was asleep for {asleep:.0f} s"
        silent = time.monotonic() - watcher.heard_at
        still = watcher.pulse.still_s() - watcher.still_at
        if still < silent / 2:
            return (
                f"Redis, or the network to it, did not answer this agent for {silent:.0f} s; "
                "the agent itself ran all that time"
            )
        used = time.process_time() - watcher.cpu_at
        if self.settings.kind == "thread" and used > silent / 2:
            return (
                f"a task function kept Python's lock (the GIL): the last report is {silent:.0f} s old, and this "
                f"process computed for {used:.0f} s of them; with --kind process the agent goes on reporting"
            )
        held = (
            "" if self.settings.kind == "process" else
            ", or a task function waited and kept Python's lock (the GIL): "
            "with --kind process the agent goes on reporting"
        )  # fmt: skip
        return f"this process stood still for {still:.0f} s: it was stopped, or had no CPU{held}"

    def _leave(self, waiter: Waiter) -> None:
        """Hand back what has not begun, finish what runs, settle it and leave (law 7)."""
        hands, session = self.hands, self._current()
        handed_back = 0
        try:
            if waiter.has_claim_ahead:
                self._exchange([], 0, waiter)
            back = hands.take_back()
            handed_back = len(back) + hands.handing_back()
            # At once, not behind what runs: another agent can have it meanwhile.
            self._settle(session, back)
            running = len(hands.begun)
            limit = self.settings.drain_timeout
            if running and not self.hurried.is_set():
                LOG.info(
                    "stopping: waiting for %d running tasks, %s; stop again to hand them back instead",
                    running,
                    "without a limit (--drain-timeout sets one)" if limit is None else f"{limit:g} s at most",
                )
            hands.close()
            until = float("inf") if limit is None else time.monotonic() + limit
            while self._crew.busy() and not self.hurried.wait(0.02):
                if hands.settlements:
                    self._settle(session, [])
                if time.monotonic() >= until:
                    LOG.warning("what still runs after %g s (--drain-timeout) is handed back", limit)
                    self.hurried.set()
            begun: list[Settlement] = []
            if self.hurried.is_set():
                self._crew.kill()
                handed_back += hands.handing_back()
                begun = hands.take_back_begun()
                handed_back += len(begun)
            self._settle(session, begun)
            self._watcher.last_report(session)
            session.broker.leave(session.device, self.settings.channel)
            session.broker.append_event("info", f"Device{session.device}", f"stopped; {handed_back} tasks handed back")
        except (LeaseLost, RedisUnavailable) as error:
            LOG.warning("could not leave in order: %s; what was in hand is recovered by the others", error)
        else:
            LOG.info("stopped; %d tasks handed back", handed_back)

    def _settle(self, session: Session, back: list[Settlement]) -> None:
        """Settle what has been run, hand `back` with it, claim nothing."""
        while True:
            settlements = self.hands.take_settlements()
            session.broker.settle_and_claim(self.settings.channel, settlements + back, 0)
            if not self.hands.settlements:
                return
            back = []


def run_agent(settings: Settings) -> int:
    """Run an agent with signals and a log on stderr; the exit status for the process."""
    import signal

    log_to_stderr()
    agent = Agent(settings)

    # A handler interrupts the main thread anywhere, even where it holds the lock of the event that `stop()` sets:
    # it only puts a word into a queue that is made for this, and another thread acts.
    signals: SimpleQueue[int] = SimpleQueue()

    def obey_signals() -> None:
        while True:
            signals.get()
            if agent.stopping.is_set() and agent.session is None:
                os._exit(1)
            agent.stop()

    if threading.current_thread() is threading.main_thread():
        threading.Thread(target=obey_signals, name="signals", daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda caught, _frame: signals.put(caught))
    try:
        agent.run()
    except MutiTaskError as error:
        LOG.error("%s", error)
        return error.exit_status
    if agent.hurried.is_set():
        # Task functions may still run in other threads; nothing of theirs is ours any more.
        for stream in (sys.stdout, sys.stderr, streams.stderr()):
            with contextlib.suppress(Exception):
                stream.flush()
        if not agent.failed:
            note("stopped")
        os._exit(1)
    return 0


def patched_by() -> str:
    """The library that has replaced Python's threads by its own in this process, or ''."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return ""


def note_end() -> None:
    """Tell whoever started this agent, and asked for it, that no task ended its process."""
    note("ended")


def note(how_far: Literal["joined", "stopped", "ended"]) -> None:
    """Tell whoever started this agent, and asked for it, that it has its device, was stopped, or ended by itself."""
    if path := os.environ.get(ENDED_NOTE_VARIABLE):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.write(handle, how_far.encode())
            os.close(handle)
