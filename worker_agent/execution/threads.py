"""How an agent runs tasks in threads of its own, and gives up a run that outlasts the time limit."""

from __future__ import annotations

import threading

from worker_agent.console.log import LOG
from worker_agent.execution.in_flight import Begun, Hands
from worker_agent.execution.runner import Runner, timed_out
from worker_agent.protocol.pristine import time
from worker_agent.protocol.reasons import in_one_line, reason
from worker_agent.settings import Settings

AGAIN_S = 0.5
"""How long a slot that failed stays empty: what makes it fail may do so at once."""


class ThreadCrew:
    """A thread for each task that runs at once.

    A thread cannot be killed: a run over its time is settled as failed, and its thread is left alone and replaced.
    There are never more than twice as many threads as were asked for; when all of them hang, no slot is left.
    """

    def __init__(self, settings: Settings, hands: Hands) -> None:
        self._settings = settings
        self._hands = hands
        self._device = 0
        self._lock = threading.Lock()
        self._active: dict[int, threading.Thread] = {}
        self._left_alone = 0
        self._slots_so_far = 0
        self._said_late = False

    def start(self, device: int) -> None:
        """Begin to run what the hands hold."""
        self._device = device
        with self._lock:
            self._fill()
        if self._settings.timeout is not None:
            watch = threading.Thread(
                target=self._watch, args=(self._settings.timeout,), name="limit", daemon=True
            )
            watch.start()

    def busy(self) -> bool:
        """Whether a thread still runs or waits for a task."""
        return any(thread.is_alive() for thread in list(self._active.values()))

    def kill(self) -> None:
        """Threads cannot be killed; they end with the process."""

    def _fill(self) -> None:
        """As many threads as there may be now."""
        asked = self._settings.concurrency
        while len(self._active) < min(asked, 2 * asked - self._left_alone):
            slot = self._slots_so_far
            self._slots_so_far += 1
            thread = threading.Thread(target=self._work, args=(slot,), name=f"slot-{slot}", daemon=True)
            self._active[slot] = thread
            thread.start()
        self._hands.slots = len(self._active)

    def _work(self, slot: int) -> None:
        settings = self._settings
        runner = Runner(settings.task_function, settings.save_function, self._device, settings.channel)
        try:
            while (entry := self._hands.take(slot)) is not None:
                if not self._hands.finish(slot, runner.run(entry[3])):
                    self._came_late()
                    break
            runner.close()
        except BaseException as error:
            self._after_fault(slot, error)

    def _after_fault(self, slot: int, error: BaseException) -> None:
        """Our own code failed: the task fails like others, and another thread takes the slot's place."""
        LOG.error("a slot failed (%s): another thread takes its place", in_one_line(error))
        self._hands.finish(slot, (b"f", reason("run", error, self._device)))
        time.sleep(AGAIN_S)
        with self._lock:
            self._active.pop(slot, None)
            if not self._hands.closed:
                self._fill()
        self._hands.nudge.set()

    # -- the time limit ------------------------------------------------------------------------------

    def _watch(self, timeout: float) -> None:
        """Until all is over. What begins during a sleep is not due before the sleep is over."""
        while not self._hands.closed or self._hands.begun:
            runs = list(self._hands.begun.items())
            now = time.monotonic()
            for slot, begun in runs:
                if begun.at + timeout <= now:
                    self._give_up(slot, begun, timeout)
            first = min((begun.at for _, begun in runs if begun.at + timeout > now), default=now)
            time.sleep(max(0.001, first + timeout - now))

    def _give_up(self, slot: int, begun: Begun, timeout: float) -> None:
        if not self._hands.give_up(slot, begun, timed_out(timeout, self._device)):
            return
        with self._lock:
            del self._active[slot]
            self._left_alone += 1
            if not self._hands.closed:
                self._fill()
            left, none_left = self._left_alone, not self._active
        LOG.warning("task %d ran longer than %g s: failed at stage timeout, its thread is left alone",
                    int(begun.item[10:22]), timeout)  # fmt: skip
        if none_left and not self._hands.closed:
            LOG.error(
                "%d threads hang in runs that were given up, and threads cannot be killed: no more tasks are taken "
                "until one of them ends; --kind process kills what hangs", left,
            )  # fmt: skip
        self._hands.nudge.set()

    def _came_late(self) -> None:
        with self._lock:
            self._left_alone -= 1
            if not self._hands.closed:
                self._fill()
        if not self._said_late:
            self._said_late = True
            LOG.warning(
                "a run that was given up has ended after all; what came of it is dropped, as with others"
            )
        self._hands.nudge.set()
