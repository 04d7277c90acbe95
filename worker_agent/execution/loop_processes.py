"""Runs tasks as coroutines in child processes, each with its own event loop (`--kind asyncio --processes N`)."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec

from worker_agent.console.log import LOG
from worker_agent.execution.cancelling import NOT_RUNNING, id_of
from worker_agent.execution.child_log import log_for_child
from worker_agent.execution.child_process import ChildEnded, is_outcome
from worker_agent.execution.child_registry import is_message
from worker_agent.execution.child_starter import ChildStarter
from worker_agent.execution.event_loop import CANCEL_GRACE_S, KILL_S
from worker_agent.execution.in_flight import HAND_BACK, Entry, InFlight
from worker_agent.execution.lifecycle import TEARDOWN_S
from worker_agent.execution.loop_child import CANCEL
from worker_agent.execution.loop_child_process import LoopChild
from worker_agent.execution.process_handle import describe_exit, join_unless
from worker_agent.execution.registry import AgentRegistry
from worker_agent.execution.runner import cancelled, child_died, time_limit_of, timed_out
from worker_agent.execution.speech import tail_of
from worker_agent.protocol.reasons import in_one_line
from worker_agent.protocol.unpatched import time
from worker_agent.settings import Settings

GRACE_S = CANCEL_GRACE_S + 2.0
"""How long a child may take to answer for a run that it had to cancel. Then its loop is blocked, and it is killed."""
LOOK_S = 0.25
"""The time between two looks at the time limits."""
ANSWER_S = 1.0
"""How long a person's `cancel` waits for what the child says to it."""
STOP_RACE_S = 0.5
"""After a child's end by SIGTERM, the agent's own stop may follow within this time."""
P = ParamSpec("P")


class LoopProcessExecutor:
    """Runs tasks in child processes that run many at once. One thread of the agent serves all of them.

    A run that exceeds its limit is cancelled in the child. A child that does not answer for it is blocked: it is killed
    and replaced. When a child dies by itself, each task that it ran counts a crash.
    """

    def __init__(
        self,
        settings: Settings,
        in_flight: InFlight,
        stopping: threading.Event,
        force_stop: threading.Event,
        on_error: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._in_flight = in_flight
        self._registry = AgentRegistry(in_flight, settings.timeout)
        self._stopping = stopping
        self._force_stop = force_stop
        self._on_error = on_error
        self._device = 0
        self._capacity = -(-settings.concurrency // settings.processes)
        """How many tasks one child runs at once."""
        self._children: list[LoopChild] = []
        self._started: deque[LoopChild] = deque()
        """Children that are ready, for the executor's thread."""
        self._actions: deque[Callable[[], None]] = deque()
        """What other threads let the executor's thread do."""
        self._asked: dict[str, SimpleQueue[str]] = {}
        """Who waits for what a child says to a cancellation, by the task's id."""
        self._next_slot = 0
        self._ending = threading.Event()
        self._ending_s = TEARDOWN_S
        self._waker, self._wakes = socket.socketpair()
        self._waker.setblocking(False)
        self._wakes.setblocking(False)
        self._poll = select.poll()
        self._thread = threading.Thread(target=self._serve, name="children", daemon=True)
        in_flight.slots = 0
        in_flight.many_slots = True
        in_flight.on_tasks = self._wake
        in_flight.on_drop = self._cancel_dropped

    def start(self, device: int, channels: Sequence[int], until: threading.Event) -> None:
        """Start the children. They run the tasks in flight."""
        self._device = device
        self._starter = ChildStarter(LoopChild, self._settings, device, channels, self._stopping)
        for _ in range(self._settings.processes):
            self._start_child()
        self._thread.start()
        threading.Thread(target=self._in_flight.run_idle_jobs, name="claim-ahead", daemon=True).start()

    def busy(self) -> bool:
        """Return whether a task runs or waits for its start."""
        return bool(self._in_flight.running or self._in_flight.queue) and self._thread.is_alive()

    def kill(self) -> None:
        """End the children: they cancel what they run, and tear the job down. Their tasks are handed back."""
        if not self._thread.is_alive():
            return
        self._ending_s = 3 * KILL_S if self._in_flight.running else TEARDOWN_S
        self._ending.set()
        self._wake()
        # What is torn down now, a second stop does not wait for.
        hurry = None if self._in_flight.running else self._force_stop
        join_unless([self._thread], self._ending_s + KILL_S, hurry)

    def cancel(self, id_: str, who: str) -> str:
        """Cancel the run of the task with this id. Return '', or why it cannot be stopped."""
        answer = self._asked.setdefault(id_, SimpleQueue())
        self._actions.append(lambda: self._ask_to_cancel(id_, who))
        self._wake()
        try:
            return answer.get(timeout=ANSWER_S)
        except Empty:
            return ""  # Its process is busy, and is killed if it stays so.
        finally:
            self._asked.pop(id_, None)

    def _wake(self) -> None:
        """Let the executor's thread look around. Any thread may call this."""
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"w")

    def _cancel_dropped(self) -> None:
        generation = self._in_flight.generation

        def drop() -> None:
            for child in list(self._children):
                self._guarded(child.drop, generation)

        self._actions.append(drop)
        self._wake()

    # Starting children, each in a thread of its own

    def _start_child(self) -> None:
        threading.Thread(target=self._start, name="child-start", daemon=True).start()

    def _start(self) -> None:
        child = self._starter.start(lambda: not self._in_flight.closed or bool(self._in_flight.queue))
        if child is not None:
            self._started.append(child)
            self._wake()

    # On the executor's thread

    def _serve(self) -> None:
        try:
            self._poll.register(self._wakes, select.POLLIN)
            while not self._ending.is_set():
                while self._started:
                    self._add(self._started.popleft())
                while self._actions:
                    self._actions.popleft()()
                self._give()
                self._wait()
                self._look_at_limits()
            self._end_children()
        except BaseException as error:
            LOG.error("the child processes cannot be served (%s): the agent stops", in_one_line(error))
            for child in self._children:
                child.kill()
            self._on_error()

    def _add(self, child: LoopChild) -> None:
        self._children.append(child)
        for descriptor in child.readable:
            self._poll.register(descriptor, select.POLLIN)
        self._count_slots()

    def _count_slots(self) -> None:
        self._in_flight.slots = min(self._settings.concurrency, self._capacity * len(self._children))
        self._in_flight.wake.set()

    def _give(self) -> None:
        """Give queued tasks to the children with the most free slots. Wake the claim loop if it should claim more."""
        in_flight, children = self._in_flight, self._children
        queue = in_flight.queue
        before, free = len(queue), in_flight.slots - len(in_flight.running)
        given: dict[LoopChild, dict[int, list[tuple[int, bytes, int]]]] = {}
        while free > 0 and children:
            try:
                entry = queue.popleft()
            except IndexError:
                break
            child = min(children, key=lambda child: len(child.running))
            given.setdefault(child, {}).setdefault(entry[0], []).append(self._start_run(child, entry))
            free -= 1
        for child, by_generation in given.items():
            for generation, items in by_generation.items():
                self._guarded(child.run_items, generation, items)
        if free > 0 or before > in_flight.low_water >= len(queue):
            in_flight.wake.set()

    def _start_run(self, child: LoopChild, entry: Entry) -> tuple[int, bytes, int]:
        slot = self._next_slot
        self._next_slot += 1
        task = child.running[slot] = self._in_flight.start(slot, entry)
        item, channel = entry[3], entry[4]
        limit = time_limit_of(item, self._settings.timeout)
        if limit is not None:
            child.due[slot] = task.started_at + limit + GRACE_S
        return slot, item, channel

    def _guarded(self, send: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> None:
        """Send something to a child. It may have ended: the poll tells that next."""
        with contextlib.suppress(ChildEnded):
            send(*arguments, **named)

    def _wait(self) -> None:
        """Wait for answers, for the end of a child, or for another thread, and take what has come."""
        watched = any(child.due for child in self._children)
        for child in self._children:
            if child.has_unsent:
                self._poll.register(child.tasks_pipe, select.POLLOUT)
        ready = {number for number, _ in self._poll.poll(LOOK_S * 1000 if watched else None)}
        if self._wakes.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                self._wakes.recv(4096)
        for child in list(self._children):
            if child.has_unsent:
                self._poll.unregister(child.tasks_pipe)
            if not ready.isdisjoint(child.readable) or child.tasks_pipe in ready:
                self._attend(child)

    def _attend(self, child: LoopChild) -> None:
        """Take what a child has answered."""
        try:
            child.send_unsent()
            for answer in child.receive(0.0):
                self._hear(child, answer)
        except ChildEnded:
            self._after_end(child)

    def _hear(self, child: LoopChild, answer: Any) -> None:
        if is_message(answer):
            self._registry.hear(answer)
            return
        if log_for_child(answer):
            return
        if type(answer) is tuple and len(answer) == 3 and answer[0] == CANCEL:
            self._hear_of_cancel(child, str(answer[1]), str(answer[2]))
            return
        if type(answer) is not tuple or not all(self._settle(child, ended) for ended in answer):
            LOG.error("a child process sent an invalid answer: it is killed and replaced")
            child.kill()
            raise ChildEnded

    def _hear_of_cancel(self, child: LoopChild, id_: str, why: str) -> None:
        """Tell a person what the child says to a cancellation. A run that cannot be stopped goes on."""
        if why:
            for slot in [slot for slot, task in child.running.items() if id_of(task.item) == id_]:
                child.endings.pop(slot, None)
                child.due.pop(slot, None)
        if (asked := self._asked.get(id_)) is not None:
            asked.put(why)

    def _settle(self, child: LoopChild, ended: Any) -> bool:
        """Settle a run that has ended. Return False if the child's answer is invalid."""
        if type(ended) is not tuple or len(ended) != 3:
            return False
        slot, *outcome = ended
        if slot not in child.running or not (is_outcome(tuple(outcome)) or tuple(outcome) == HAND_BACK):
            return False
        del child.running[slot]
        child.due.pop(slot, None)
        child.endings.pop(slot, None)
        self._in_flight.finish(slot, tuple(outcome))
        return True

    def _after_end(self, child: LoopChild) -> None:
        """Settle what a child ran that has ended, and start another one."""
        self._children.remove(child)
        for descriptor in child.readable:
            self._poll.unregister(descriptor)
        status = child.reap()
        self._count_slots()
        stopped = status in (-signal.SIGTERM, None) and self._stopping.wait(STOP_RACE_S)
        hands_back = stopped or child.is_blocked
        if child.running and not hands_back:
            LOG.warning(
                "a child process died (%s) while it ran %d tasks: this counts as a crash of each, and each runs alone "
                "next; a new process replaces it", describe_exit(status), len(child.running),
            )  # fmt: skip
        for slot, task in child.running.items():
            otherwise = (
                HAND_BACK
                if hands_back
                else child_died(describe_exit(status), self._device, tail_of(task.speech))
            )
            self._in_flight.finish(slot, child.endings.get(slot, otherwise))
        if not self._stopping.is_set():
            self._start_child()

    def _look_at_limits(self) -> None:
        """Kill each child that has not answered in time for a run that it had to cancel: its loop is blocked."""
        now = time.monotonic()
        for child in self._children:
            if not child.due or child.is_blocked or min(child.due.values()) > now:
                continue
            child.is_blocked = True
            for slot, due in child.due.items():
                if due - GRACE_S <= now and slot not in child.endings:
                    task = child.running[slot]
                    limit = time_limit_of(task.item, self._settings.timeout) or 0.0
                    child.endings[slot] = timed_out(task.item, limit, self._device, tail_of(task.speech))
            LOG.error(
                "a child process has not ended %d runs within %g s: its event loop is blocked; it is killed and "
                "replaced, and its other tasks are handed back", len(child.endings), GRACE_S,
            )  # fmt: skip
            child.kill()

    def _ask_to_cancel(self, id_: str, who: str) -> None:
        for child in self._children:
            for slot, task in child.running.items():
                if id_of(task.item) == id_:
                    child.endings[slot] = cancelled(who, self._device, tail_of(task.speech))
                    child.due[slot] = min(child.due.get(slot, float("inf")), time.monotonic() + GRACE_S)
                    self._guarded(child.cancel_run, id_, who)
                    return
        if (asked := self._asked.get(id_)) is not None:
            asked.put(NOT_RUNNING)

    def _end_children(self) -> None:
        """Let all children end, and kill those that take too long."""
        self._starter.stop()
        while self._started:
            self._add(self._started.popleft())
        for child in self._children:
            child.close_tasks()
        deadline = time.monotonic() + self._ending_s
        for child in self._children:
            if not child.retire(max(0.0, deadline - time.monotonic())):
                LOG.warning("a child process did not end within %g s: it is killed", self._ending_s)
        self._starter.close()
