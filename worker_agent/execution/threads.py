"""Runs tasks in threads of the agent, and abandons runs that exceed the time limit."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from worker_agent.console.log import LOG
from worker_agent.console.log_format import about
from worker_agent.execution.cancelling import NOT_RUNNING, find_running, id_of
from worker_agent.execution.current_task import add_registry, remove_registry
from worker_agent.execution.in_flight import InFlight, Outcome, RunningTask
from worker_agent.execution.lifecycle import Lifecycle
from worker_agent.execution.registry import AgentRegistry
from worker_agent.execution.runner import Runner, cancelled, time_limit_of, timed_out
from worker_agent.execution.speech import tail_of
from worker_agent.protocol import list_item
from worker_agent.protocol.reasons import in_one_line, reason
from worker_agent.protocol.settlements import FAILED
from worker_agent.protocol.unpatched import time
from worker_agent.settings import SaveFunction, Settings, TaskFunction

_OPTIONS_AT = slice(list_item.HEADER_BYTES - 1, list_item.HEADER_BYTES)
RESTART_DELAY_S = 0.5
"""How long a slot that failed stays empty: the new thread may fail at once as well."""


class ThreadExecutor:
    """Runs tasks in one thread per slot.

    A thread cannot be killed. A run that exceeds its time limit is settled as failed, and its thread is abandoned and
    replaced. There are at most twice as many threads as the concurrency. When all of them hang, no slot is left.
    """

    def __init__(self, settings: Settings, in_flight: InFlight) -> None:
        self._settings = settings
        self._in_flight = in_flight
        self._registry = AgentRegistry(in_flight, settings.timeout)
        self._device = 0
        self._lock = threading.Lock()
        self._active: dict[int, threading.Thread] = {}
        self._abandoned = 0
        self._next_slot = 0
        self._late_end_logged = False
        self._time_limits_watched = False
        self._lifecycle: Lifecycle | None = None
        self._limited_run_started = threading.Event()
        """Set when a run with a time limit of its own starts, which may be shorter than the watch's sleep."""
        self._asked: dict[str, str] = {}
        """By the ids of runs that were asked to end: who asked."""

    def start(self, device: int, channels: Sequence[int], until: threading.Event) -> None:
        """Set the job up, then start the threads, which run the tasks in flight. Raises `JobError` if that fails.

        Returns without threads if `until` is set before.
        """
        self._device = device
        self._lifecycle = Lifecycle(self._settings.lifecycle, device)
        if not self._lifecycle.enter_in_thread(channels, until):
            return
        add_registry(self._registry)
        with self._lock:
            self._start_threads()
        if self._settings.timeout is not None:
            self._watch_time_limits()

    def busy(self) -> bool:
        """Return whether a thread still runs or waits for a task."""
        return any(thread.is_alive() for thread in list(self._active.values()))

    def kill(self) -> None:
        """Tear the job down, unless tasks still run: threads cannot be killed. They end with the process."""
        remove_registry(self._registry)
        if self._lifecycle is not None and not self.busy():
            self._lifecycle.leave_in_thread()

    def _functions(self, channel: int) -> tuple[TaskFunction, SaveFunction | None]:
        """Return the functions of a channel, which is set up before its first task."""
        if self._lifecycle is not None:
            self._lifecycle.enter([channel])
        return self._settings.functions(channel)

    def cancel(self, id_: str, who: str) -> str:
        """Ask a run to end. Return why it does not end now: nothing can stop a thread whose function does not look."""
        found = find_running(self._in_flight, id_)
        if found is None:
            return NOT_RUNNING
        slot, task = found
        self._asked[id_] = task.cancel_asked_by = who
        if self._in_flight.running.get(slot) is not task:
            self._asked.pop(id_, None)
            return NOT_RUNNING
        return (
            "threads cannot be killed, so its function was asked: the run fails when the function looks at "
            "current_task().cancelled and ends"
        )

    def _after_cancel(self, slot: int, item: bytes, outcome: Outcome) -> Outcome:
        """Return how a run settles while there are runs that were asked to end. A result that it returned counts."""
        who = self._asked.pop(id_of(item), "")
        if not who or outcome[0] != FAILED:
            return outcome
        task = self._in_flight.running.get(slot)
        return cancelled(who, self._device, tail_of(task.speech if task is not None else None))

    def _start_threads(self) -> None:
        """Start threads until there are as many as allowed now. The caller holds the lock."""
        concurrency = self._settings.concurrency
        while len(self._active) < min(concurrency, 2 * concurrency - self._abandoned):
            slot = self._next_slot
            self._next_slot += 1
            thread = threading.Thread(target=self._run_slot, args=(slot,), name=f"slot-{slot}", daemon=True)
            self._active[slot] = thread
            thread.start()
        self._in_flight.slots = len(self._active)

    def _run_slot(self, slot: int) -> None:
        runner = Runner(self._functions, self._device)
        try:
            while (entry := self._in_flight.take(slot)) is not None:
                if entry[3][_OPTIONS_AT] == list_item.OPTIONS:
                    self._watch_time_limits()
                    self._limited_run_started.set()
                outcome = runner.run(entry[3], entry[4])
                if self._asked:
                    outcome = self._after_cancel(slot, entry[3], outcome)
                if not self._in_flight.finish(slot, outcome):
                    self._after_late_end()
                    break
            runner.close()
        except BaseException as error:
            self._after_fault(slot, error)

    def _after_fault(self, slot: int, error: BaseException) -> None:
        """MutiTask's own code failed: fail the task like others, and start another thread for the slot."""
        LOG.error("a slot failed (%s): a new thread replaces it", in_one_line(error))
        self._in_flight.finish(slot, (FAILED, reason("run", error, self._device)))
        time.sleep(RESTART_DELAY_S)
        with self._lock:
            self._active.pop(slot, None)
            if not self._in_flight.closed:
                self._start_threads()
        self._in_flight.wake.set()

    def _watch_time_limits(self) -> None:
        """Start the thread that enforces time limits, unless it runs."""
        with self._lock:
            if self._time_limits_watched:
                return
            self._time_limits_watched = True
        threading.Thread(target=self._enforce_time_limits, name="time-limit", daemon=True).start()

    def _enforce_time_limits(self) -> None:
        """Abandon each run that exceeds its time limit, until the agent ends.

        A run with the agent's limit that starts during a sleep is not due before the sleep is over.
        """
        default = self._settings.timeout
        while not self._in_flight.closed or self._in_flight.running:
            now, next_due = time.monotonic(), float("inf")
            for slot, task in list(self._in_flight.running.items()):
                limit = time_limit_of(task.item, default)
                if limit is None:
                    continue
                if task.started_at + limit <= now:
                    self._abandon(slot, task, limit)
                else:
                    next_due = min(next_due, task.started_at + limit)
            sleep_s = min(next_due - now, 1.0 if default is None else default)
            self._limited_run_started.wait(max(0.001, sleep_s))
            self._limited_run_started.clear()

    def _abandon(self, slot: int, task: RunningTask, limit: float) -> None:
        if not self._in_flight.abandon(
            slot, task, timed_out(task.item, limit, self._device, tail_of(task.speech))
        ):
            return
        with self._lock:
            del self._active[slot]
            self._abandoned += 1
            if not self._in_flight.closed:
                self._start_threads()
            abandoned, none_left = self._abandoned, not self._active
        LOG.warning(
            "task %d ran longer than %g s: it failed at stage timeout, and its thread is abandoned",
            int(task.item[10:22]), limit, extra=about(task.item, task.entry[4]),
        )  # fmt: skip
        if none_left and not self._in_flight.closed:
            LOG.error(
                "%d threads hang in abandoned runs, and threads cannot be killed: this agent takes no more tasks "
                "until one of them ends; --kind process kills hanging tasks", abandoned,
            )  # fmt: skip
        self._in_flight.wake.set()

    def _after_late_end(self) -> None:
        with self._lock:
            self._abandoned -= 1
            if not self._in_flight.closed:
                self._start_threads()
        if not self._late_end_logged:
            self._late_end_logged = True
            LOG.warning("an abandoned run has ended: its outcome is dropped; this is logged only once")
        self._in_flight.wake.set()
