"""Runs tasks in child processes: one per slot, replaced when they die, hang or have run their share of tasks."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from worker_agent.console.log import LOG
from worker_agent.console.log_format import about
from worker_agent.execution.cancelling import NOT_RUNNING, find_running, id_of
from worker_agent.execution.child_log import log_for_child
from worker_agent.execution.child_process import MAX_BATCH_TASKS, ChildEnded, ChildProcess, is_outcome
from worker_agent.execution.child_registry import is_message
from worker_agent.execution.child_starter import ChildStarter
from worker_agent.execution.in_flight import HAND_BACK, Entry, InFlight, Outcome
from worker_agent.execution.lifecycle import TEARDOWN_S
from worker_agent.execution.process_handle import describe_exit, join_unless
from worker_agent.execution.registry import AgentRegistry
from worker_agent.execution.runner import cancelled, child_died, time_limit_of, timed_out
from worker_agent.execution.speech import tail_of
from worker_agent.protocol.reasons import in_one_line
from worker_agent.protocol.settlements import FAILED
from worker_agent.protocol.unpatched import time
from worker_agent.settings import Settings

WORK_S = 0.01
"""Target amount of work that a child holds, in seconds: a round trip costs as much as several small tasks."""
NAP_S = 0.004
"""How long an answer of a child waits at most, while the child has enough to do."""
TAKE_BACK_S = 0.05
"""When a task of a batch has run this long, the tasks behind it are taken back for other slots."""
FAULT_PAUSE_S = 1.0
"""How long a slot that failed stays empty."""
STOP_RACE_S = 2.0
"""After a child's end by SIGTERM, the agent's own stop may follow within this time."""
KILL_S = 2.0
"""How long the agent waits for the end of killed children."""


class ProcessExecutor:
    """Runs tasks in one child process per slot. A thread of the agent serves each child."""

    def __init__(
        self, settings: Settings, in_flight: InFlight, stopping: threading.Event, force_stop: threading.Event
    ) -> None:
        self._settings = settings
        self._in_flight = in_flight
        self._registry = AgentRegistry(in_flight, settings.timeout)
        self._stopping = stopping
        self._force_stop = force_stop
        self._device = 0
        self._lock = threading.Lock()
        self._children: dict[int, ChildProcess] = {}
        self._threads: list[threading.Thread] = []
        self._serving: set[int] = set()
        """The slots whose children have tasks. Between two of these, none is running."""
        self._killed = False
        self._starter: ChildStarter[ChildProcess]
        in_flight.slots = 0

    def start(self, device: int, channels: Sequence[int], until: threading.Event) -> None:
        """Start the children. They run the tasks in flight."""
        self._device = device
        self._starter = ChildStarter(ChildProcess, self._settings, device, channels, self._stopping)
        for slot in range(self._settings.concurrency):
            thread = threading.Thread(target=self._run_slot, args=(slot,), name=f"slot-{slot}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def busy(self) -> bool:
        """Return whether a task runs or waits for its start."""
        return bool(self._serving or self._in_flight.running or self._in_flight.queue)

    def kill(self) -> None:
        """Kill all children if tasks run, which are handed back. Otherwise let the children tear the job down."""
        cut_short = self.busy()
        with self._lock:
            self._killed = True
            for child in self._children.values() if cut_short else ():
                child.kill()
        if not self._threads:
            return
        (self._starter.kill if cut_short else self._starter.stop)()
        join_unless(
            self._threads,
            KILL_S if cut_short else TEARDOWN_S + KILL_S,
            None if cut_short else self._force_stop,
        )
        self._starter.close()

    def cancel(self, id_: str, who: str) -> str:
        """Kill the child that runs a task. Return why the run does not end now, or ''."""
        found = find_running(self._in_flight, id_)
        if found is None:
            return NOT_RUNNING
        slot, task = found
        with self._lock:
            child = self._children.get(slot)
            if child is None or self._in_flight.running.get(slot) is not task:
                return NOT_RUNNING
            task.cancel_asked_by = who
            child.cancel(id_, who)
        return ""

    def _run_slot(self, slot: int) -> None:
        while (child := self._start_child(slot)) is not None:
            try:
                while self._may_run_more(child) and (entry := self._in_flight.take(slot)) is not None:
                    self._serving.add(slot)
                    self._run_tasks(slot, child, entry)
                    self._serving.discard(slot)
                self._retire(slot, child)
            except ChildEnded:
                self._remove_child(slot)
            except BaseException as error:
                self._after_fault(slot, child, error)
            finally:
                self._serving.discard(slot)
            if self._in_flight.closed and not self._in_flight.queue:
                return

    def _retire(self, slot: int, child: ChildProcess) -> None:
        """Let a child tear the job down and end."""
        self._remove_child(slot)
        if not child.retire():
            LOG.warning("a child process did not end in time after its last task: it is killed")

    def _after_fault(self, slot: int, child: ChildProcess, error: BaseException) -> None:
        """MutiTask's own code failed: replace the child, and count a crash of the task, so that it is not lost."""
        LOG.error("a slot failed (%s): its process is replaced", in_one_line(error))
        child.kill()
        status = child.reap()
        self._in_flight.finish(slot, child_died(describe_exit(status), self._device))
        with contextlib.suppress(KeyError):
            self._remove_child(slot)
        self._stopping.wait(FAULT_PAUSE_S)

    def _may_run_more(self, child: ChildProcess) -> bool:
        limit = self._settings.max_tasks_per_child
        return child.cancelled is None and (limit is None or child.tasks_given < limit)

    def _start_child(self, slot: int) -> ChildProcess | None:
        """Return a new child for a slot. Return None if none is needed any more."""
        child = self._starter.start(lambda: not self._in_flight.closed or bool(self._in_flight.queue))
        if child is not None:
            with self._lock:
                if self._killed:
                    child.kill()
                self._children[slot] = child
            self._add_slots(1)
        return child

    def _remove_child(self, slot: int) -> None:
        with self._lock:
            del self._children[slot]
        self._add_slots(-1)

    def _add_slots(self, step: int) -> None:
        with self._lock:
            self._in_flight.slots += step
        self._in_flight.wake.set()

    def _run_tasks(self, slot: int, child: ChildProcess, entry: Entry) -> None:
        """Let the child run a task, and further ones as long as short tasks are queued. Raises `ChildEnded`."""
        in_flight = self._in_flight
        if child.has_ended():
            # It ended while it was idle: no task caused that.
            child.reap()
            del in_flight.running[slot]
            in_flight.put_back([entry])
            raise ChildEnded
        given = deque([entry, *in_flight.take_more(self._room(child, 0) - 1)])
        try:
            self._run_given(slot, child, given)
        except ChildEnded:
            if slot in in_flight.running:
                self._after_death(slot, child, given)
            else:
                child.reap()
            raise

    def _run_given(self, slot: int, child: ChildProcess, given: deque[Entry]) -> None:
        """Let the child run the tasks. Give it further short tasks before it has run the last one: it never waits.

        Returns when the child has run all. `given` keeps those that it has not answered. Raises `ChildEnded`.
        """
        in_flight, default_limit = self._in_flight, self._settings.timeout
        child.give([(item, channel) for *_, item, channel in given])
        started_at, batches, taken_back = in_flight.running[slot].started_at, 1, False
        while batches:
            limit = time_limit_of(given[0][3], default_limit) if given else None
            time_limit = None if limit is None else started_at + limit
            deadline = time_limit
            if len(given) > 1 and not taken_back:
                deadline = min(started_at + TAKE_BACK_S, time_limit or float("inf"))
            if not taken_back and (nap_s := self._nap_s(len(given))) > 0.0:
                time.sleep(nap_s)
            received = child.receive(deadline if given else None)
            answers = [answer for answer in received if not self._hear(answer)]
            for answer in answers:
                if answer is None:
                    batches -= 1
                    continue
                if not is_outcome(answer) or not given:
                    LOG.error("a child process sent an invalid answer: it is killed and replaced")
                    child.kill()
                    raise ChildEnded
                *_, item, _ = given.popleft()
                if child.cancelled is not None and child.cancelled[0] == id_of(item):
                    answer = self._answer_after_cancel(slot, answer, child.cancelled[1])
                in_flight.finish(slot, answer)
                if given:
                    started_at = in_flight.start(slot, given[0]).started_at
            if answers:
                taken_back = taken_back or child.cancelled is not None
                if given and not taken_back and (more := in_flight.take_more(self._room(child, len(given)))):
                    given.extend(more)
                    child.give([(item, channel) for *_, item, channel in more])
                    batches += 1
            elif received and (deadline is None or time.monotonic() < deadline):
                continue
            elif time_limit is not None and time.monotonic() >= time_limit:
                self._after_timeout(slot, child, given)
            elif given:
                taken_back = True
                count = child.take_back(len(given) - 1)
                in_flight.put_back([given.pop() for _ in range(count)][::-1])

    def _target(self) -> int:
        """Return how many tasks a child may hold: about `WORK_S` of work, and at least one."""
        task_s = self._in_flight.task_s
        return max(1, min(int(WORK_S / task_s), MAX_BATCH_TASKS)) if task_s > 0.0 else 1

    def _nap_s(self, held: int) -> float:
        """Return how long the agent need not look at a child that holds `held` tasks, in seconds.

        One look then takes several answers. To wake a thread costs more than to settle a task.
        """
        return min(NAP_S, 0.8 * (held - self._target() // 2 - 1) * self._in_flight.task_s)

    def _room(self, child: ChildProcess, held: int) -> int:
        """Return how many tasks to give to a child that holds `held` tasks now, the running one included.

        It gets more when half of what it may hold is left.
        """
        max_tasks, target = self._settings.max_tasks_per_child, self._target()
        if held > target // 2:
            return 0
        left = MAX_BATCH_TASKS if max_tasks is None else max_tasks - child.tasks_given
        return min(target - held, left)

    def _hear(self, answer: Any) -> bool:
        """Take what a running task or its child says beside outcomes. Return whether the answer was that."""
        if not is_message(answer):
            return log_for_child(answer)
        self._registry.hear(answer)
        return True

    def _lines_of(self, slot: int) -> list[str]:
        task = self._in_flight.running.get(slot)
        return tail_of(None if task is None else task.speech)

    def _after_timeout(self, slot: int, child: ChildProcess, batch: deque[Entry]) -> None:
        """Replace a child whose task exceeded its time limit. Raises `ChildEnded`."""
        *_, item, channel = batch.popleft()
        limit = time_limit_of(item, self._settings.timeout) or 0.0
        LOG.warning(
            "task %d ran longer than %g s: it failed at stage timeout, and its process is replaced",
            int(item[10:22]), limit, extra=about(item, channel),
        )  # fmt: skip
        child.terminate()
        # The task is settled only now: it certainly runs no more.
        self._in_flight.finish(slot, timed_out(item, limit, self._device, self._lines_of(slot)))
        self._in_flight.put_back(list(batch))
        raise ChildEnded

    def _after_death(self, slot: int, child: ChildProcess, batch: deque[Entry]) -> None:
        """Settle the first task of the batch: the child died in it, since it answers for each task that it ends."""
        status = child.reap()
        *_, item, channel = batch.popleft()
        number = int(item[10:22])
        if child.cancelled is not None:
            self._after_cancel(slot, item, *child.cancelled)
            self._in_flight.put_back(list(batch))
            return
        # A signal to a whole process group stops this child too. The agent then hears of it at the same moment.
        stopped = status in (-signal.SIGTERM, None) and self._stopping.wait(STOP_RACE_S)
        if stopped or self._killed:
            LOG.info(
                "task %d's process was stopped: the task is handed back", number, extra=about(item, channel)
            )
            self._in_flight.finish(slot, HAND_BACK)
        else:
            LOG.warning(
                "task %d's process died (%s): this counts as a crash of the task; a new process replaces it",
                number, describe_exit(status), extra=about(item, channel),
            )  # fmt: skip
            self._in_flight.finish(
                slot, child_died(describe_exit(status), self._device, self._lines_of(slot))
            )
        self._in_flight.put_back(list(batch))

    def _after_cancel(self, slot: int, item: bytes, id_: str, who: str) -> None:
        """Settle the task that was running when its child was ended for the sake of the task `id_`."""
        if id_of(item) == id_:
            LOG.info("task %d was cancelled, and its process is replaced", int(item[10:22]))
            self._in_flight.finish(slot, cancelled(who, self._device, self._lines_of(slot)))
        else:
            # The cancelled task had just ended by itself. This one is not to blame.
            self._in_flight.finish(slot, HAND_BACK)

    def _answer_after_cancel(self, slot: int, answer: Outcome, who: str) -> Outcome:
        """Return how a cancelled run settles that answered before its child ended. A result that it returned counts."""
        return cancelled(who, self._device, self._lines_of(slot)) if answer[0] == FAILED else answer
