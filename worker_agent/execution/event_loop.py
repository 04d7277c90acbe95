"""Runs tasks as coroutines of one event loop, in a thread of the agent."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from functools import partial

from worker_agent.console.log import LOG
from worker_agent.execution.async_runner import AsyncRunner
from worker_agent.execution.blocked_loop import BlockedLoopWatch
from worker_agent.execution.cancelling import NOT_RUNNING, find_running
from worker_agent.execution.current_task import add_registry, remove_registry
from worker_agent.execution.in_flight import HAND_BACK, Entry, InFlight, Outcome, RunningTask
from worker_agent.execution.lifecycle import TEARDOWN_S, Lifecycle
from worker_agent.execution.registry import AgentRegistry
from worker_agent.execution.runner import cancelled, time_limit_of, timed_out
from worker_agent.execution.speech import tail_of
from worker_agent.protocol.reasons import in_one_line, reason
from worker_agent.protocol.settlements import FAILED
from worker_agent.settings import Settings

CANCEL_GRACE_S = 5.0
"""How long a cancelled coroutine may take to end. Then its run is settled without it."""
SETTLE_AGE_S = 0.02
"""The age at which a settlement is sent. Each call takes Python's lock from the loop, so there are fewer of them."""
KILL_S = 2.0
"""How long the agent waits for cancelled coroutines when it must not wait for tasks."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop: uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class EventLoopExecutor:
    """Runs tasks as coroutines of one event loop. Plain functions run in threads beside it.

    A cancelled run ends at the point where it awaits. One that ignores that for `CANCEL_GRACE_S` is settled without
    it; there are at most as many of those as the concurrency, then no slot is left.
    """

    def __init__(self, settings: Settings, in_flight: InFlight, on_error: Callable[[], object]) -> None:
        self._settings = settings
        self._in_flight = in_flight
        self._on_error = on_error
        self._registry = AgentRegistry(in_flight, settings.timeout)
        self._device = 0
        self._channels: Sequence[int] = ()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        """By slot. Each run has a slot of its own."""
        self._endings: dict[int, Outcome] = {}
        """The outcomes of the runs that were cancelled and have not ended."""
        self._limits: dict[int, asyncio.TimerHandle] = {}
        self._next_slot = 0
        self._abandoned: set[int] = set()
        self._look_due = False
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        in_flight.many_slots = True
        in_flight.settle_age_s = SETTLE_AGE_S
        in_flight.on_tasks = self._look_soon
        in_flight.on_drop = self._cancel_dropped

    def start(self, device: int, channels: Sequence[int], until: threading.Event) -> None:
        """Start the loop, and wait for the end of the job's setup, or for `until`. Raises `JobError` if it failed."""
        self._device, self._channels = device, channels
        add_registry(self._registry)
        threading.Thread(target=self._run_loop, name="event-loop", daemon=True).start()
        threading.Thread(target=self._in_flight.run_idle_jobs, name="claim-ahead", daemon=True).start()
        while not self._ready.wait(0.1) and not until.is_set():
            pass
        if self._failure is not None:
            raise self._failure

    def busy(self) -> bool:
        """Return whether a task runs or waits for its start."""
        return bool(self._in_flight.running or self._in_flight.queue) and not self._ended.is_set()

    def kill(self) -> None:
        """Cancel what runs, tear the job down and end the loop. The cancelled tasks are handed back."""
        remove_registry(self._registry)
        if not self._ready.is_set() or self._ended.is_set():
            return
        cut_short = bool(self._tasks)
        self._call_soon(self._end_all)
        if not self._ended.wait(2 * KILL_S if cut_short else TEARDOWN_S):
            LOG.warning(
                "%s: the agent ends without it",
                "tasks ignore their cancellation"
                if self._tasks
                else f"teardown takes longer than {TEARDOWN_S:g} s",
            )

    def cancel(self, id_: str, who: str) -> str:
        """Cancel the run of the task with this id. Return '', or why it cannot be stopped."""
        found = find_running(self._in_flight, id_)
        if found is None:
            return NOT_RUNNING
        slot, task = found
        if id_.encode() in self._runner.in_thread:
            task.cancel_asked_by = who
            return (
                "its plain function runs in a thread, which cannot be stopped: it was asked, and sees "
                "`current_task().cancelled`"
            )
        outcome = cancelled(who, self._device, tail_of(task.speech))
        self._call_soon(partial(self._cancel_slot, slot, task, outcome))
        return ""

    # On the loop's thread

    def _run_loop(self) -> None:
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self._failure = error
            if self._ready.is_set():
                LOG.error("the event loop failed (%s): the agent stops", in_one_line(error))
                self._on_error()
        finally:
            self._ended.set()
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        lifecycle = Lifecycle(self._settings.lifecycle, self._device)
        concurrency = self._settings.concurrency
        self._runner = AsyncRunner(self._settings.functions, self._device, concurrency, lifecycle)
        await lifecycle.enter_async(self._channels)
        watch = BlockedLoopWatch(self._loop, lambda: bool(self._tasks))
        self._wake_watch = watch.wake
        watch.start()
        self._ready.set()
        self._look()
        await self._closing.wait()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=KILL_S)
        await lifecycle.leave_async()
        watch.end()

    def _look_soon(self) -> None:
        """Let the loop look into the queue. Any thread may call this."""
        if not self._look_due and self._ready.is_set():
            self._look_due = True
            self._call_soon(self._look)

    def _call_soon(self, call: Callable[[], object]) -> None:
        # The loop may have ended: nothing is left to do then.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def _look(self) -> None:
        """Start queued tasks in the free slots. Wake the claim loop if it should claim more."""
        self._look_due = False
        in_flight = self._in_flight
        queue, running = in_flight.queue, in_flight.running
        before, free = len(queue), in_flight.slots - len(running)
        while free > 0:
            try:
                entry = queue.popleft()
            except IndexError:
                break
            self._start(entry)
            free -= 1
        if free > 0 or before > in_flight.low_water >= len(queue):
            in_flight.wake.set()

    def _start(self, entry: Entry) -> None:
        slot = self._next_slot
        self._next_slot += 1
        task = self._in_flight.start(slot, entry)
        if not self._tasks:
            self._wake_watch()
        self._tasks[slot] = self._loop.create_task(self._run(slot, entry))
        limit = time_limit_of(entry[3], self._settings.timeout)
        if limit is not None:
            self._limits[slot] = self._loop.call_later(limit, self._time_is_up, slot, task, limit)

    async def _run(self, slot: int, entry: Entry) -> None:
        in_flight = self._in_flight
        try:
            outcome = await self._runner.run(entry[3], entry[4])
        except BaseException as error:
            # The runner never raises: this is a cancellation outside of the job's functions, or a fault of our own.
            outcome = FAILED, reason("run", error, self._device)
        del self._tasks[slot]
        if self._limits and (timer := self._limits.pop(slot, None)) is not None:
            timer.cancel()
        if self._endings:
            outcome = self._endings.pop(slot, outcome)
        if outcome[0] == FAILED:
            outcome = self._after_failure(slot, outcome)
        if not in_flight.finish(slot, outcome) and slot in self._abandoned:
            self._after_late_end(slot)
        if not self._look_due:
            self._look_due = True
            self._loop.call_soon(self._look)

    def _after_failure(self, slot: int, outcome: Outcome) -> Outcome:
        """Return how a failed run settles: as cancelled if its plain function was asked to end."""
        task = self._in_flight.running.get(slot)
        return cancelled(task.cancel_asked_by, self._device) if task and task.cancel_asked_by else outcome

    def _time_is_up(self, slot: int, task: RunningTask, limit: float) -> None:
        LOG.warning(
            "task %d ran longer than %g s: it fails at stage timeout, and is cancelled",
            int(task.item[10:22]),
            limit,
        )
        self._cancel_slot(slot, task, timed_out(task.item, limit, self._device, tail_of(task.speech)))

    def _cancel_slot(self, slot: int, task: RunningTask, outcome: Outcome) -> None:
        """Cancel a run, which then ends with this outcome. The first cancellation counts."""
        coroutine = self._tasks.get(slot)
        if coroutine is None or slot in self._endings:
            return
        self._endings[slot] = outcome
        coroutine.cancel()
        self._loop.call_later(CANCEL_GRACE_S, self._abandon, slot, task, outcome)

    def _abandon(self, slot: int, task: RunningTask, outcome: Outcome) -> None:
        """Settle a cancelled run that has not ended."""
        if slot not in self._tasks or not self._in_flight.abandon(slot, task, outcome):
            return
        self._abandoned.add(slot)
        self._count_slots()
        LOG.warning(
            "task %d ignores its cancellation: it is settled without it, and its coroutine goes on",
            int(task.item[10:22]),
        )
        if not self._in_flight.slots:
            LOG.error(
                "%d coroutines ignore their cancellation: this agent takes no more tasks until one of them ends",
                len(self._abandoned),
            )
        self._look()

    def _after_late_end(self, slot: int) -> None:
        self._abandoned.discard(slot)
        self._count_slots()

    def _count_slots(self) -> None:
        concurrency = self._settings.concurrency
        self._in_flight.slots = max(0, min(concurrency, 2 * concurrency - len(self._abandoned)))
        self._in_flight.wake.set()

    def _cancel_dropped(self) -> None:
        """Cancel the runs of a fenced actor: other agents run their tasks. Any thread may call this."""
        generation = self._in_flight.generation
        self._call_soon(lambda: self._cancel_all(generation))

    def _cancel_all(self, generation: int | None = None) -> None:
        """Cancel all runs, or those of actors before a generation."""
        for slot, task in list(self._in_flight.running.items()):
            if generation is None or task.entry[0] < generation:
                self._cancel_slot(slot, task, HAND_BACK)

    def _end_all(self) -> None:
        self._cancel_all()
        self._closing.set()
