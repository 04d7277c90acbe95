"""How an agent runs tasks in child processes: starts them, feeds them, ends them, replaces those that die."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

from worker_agent.console.log import LOG
from worker_agent.execution.child import LENGTH_BYTES, RUN, SKIP, frame
from worker_agent.execution.in_flight import HAND_BACK, Entry, Hands
from worker_agent.execution.runner import child_died, timed_out
from worker_agent.protocol import codec
from worker_agent.protocol.pristine import time
from worker_agent.protocol.reasons import in_one_line
from worker_agent.settings import Settings

BATCH_S = 0.005
"""A child is given about this much work at a time: a round trip costs as much as several small tasks."""
BATCH_MOST = 100
TAKE_BACK_S = 0.05
"""When a task of a batch runs this long, those behind it are taken back for others."""
GRACE_S = 1.0
"""How long a child has between SIGTERM and SIGKILL, and to end once it was told that nothing comes any more."""
AGAIN_S = (1.0, 30.0)
"""A child that cannot be started is tried again after this long, at first and at most."""
TERM_RACE_S = 0.5
"""How long after a child's end by SIGTERM the agent may still hear that it is to stop too."""
KILL_S = 2.0
"""How long the end of killed children is waited for."""


OUTCOMES = (b"d", b"s", b"f", b"x")
"""The letters with which a child settles a task."""


class Ended(Exception):
    """The child has ended."""


def _child_command() -> list[str]:
    unsafe = {"", str(Path.cwd())} & set(sys.path)
    return [sys.executable, *([] if unsafe else ["-P"]), "-m", "worker_agent.execution.child"]


def check_job(job: Path, channel: int, *, debug: bool) -> int:
    """Load the job in a process of its own; the status, 0 where it can be used. It says itself why not."""
    command = [*_child_command(), "check", str(job), str(channel), *(["--debug"] if debug else [])]
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


class Child:
    """One child process in a process group of its own. All methods are for one thread, but `kill`."""

    def __init__(self, settings: Settings, device: int) -> None:
        tasks, self._tasks = os.pipe()
        self._answers, answers = os.pipe()
        self._permits_left, self._permits = os.pipe()
        life, self._life = os.pipe()
        theirs = (tasks, answers, self._permits_left, life)
        command = [*_child_command(), *map(str, theirs), settings.job]
        # No stdin: a terminal's would stop a process in the background that reads it.
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=theirs, process_group=0)
        for pipe in (tasks, answers, life):
            os.close(pipe)
        # The reading end of the permits stays open here: what is read here does not begin there.
        for pipe in (self._tasks, self._answers, self._permits_left):
            os.set_blocking(pipe, False)
        self._end = os.pidfd_open(self.process.pid) if hasattr(os, "pidfd_open") else None
        self._received = bytearray()
        self._gone = threading.Lock()
        self._status: int | None = None
        self.runs = 0
        told = {
            "path": sys.path, "job": settings.job, "functions": settings.functions, "device": device,
            "channel": settings.channel,
        }  # fmt: skip
        self._hello = frame(told)

    def greet(self) -> str:
        """Tell it where its functions are and wait until it has loaded them; why it could not, or ''.

        Raises `Ended`.
        """
        self._send(self._hello)
        answer = self.receive(None)[0]
        if type(answer) is not bytes:
            raise Ended
        return "" if answer == b"ready" else answer.decode("utf-8", "replace")

    def give(self, items: list[bytes]) -> None:
        """Let it run these in turn. Raises `Ended`."""
        self.runs += len(items)
        os.write(self._permits, RUN * len(items))
        self._send(frame(items))

    def take_back(self, most: int) -> int:
        """Take back what it has not begun, from the end, `most` at most; how many."""
        # It cannot begin without a permit; what is beyond `most` is permitted again.
        try:
            found = os.read(self._permits_left, BATCH_MOST)
        except BlockingIOError:
            return 0
        taken = min(found.count(RUN), most)
        left = found.count(RUN) - taken
        os.write(self._permits, RUN * left + SKIP * (len(found) - left))
        self.runs -= taken
        return taken

    def receive(self, until: float | None) -> list[Any]:
        """The next answers, None for the end of a batch; nothing when time is up. Raises `Ended`."""
        while True:
            if not self._wait(self._answers, select.POLLIN, until):
                return []
            try:
                part = os.read(self._answers, 1 << 16)
            except BlockingIOError:
                continue
            if not part:
                raise Ended
            self._received += part
            if answers := self._parsed():
                return answers

    def _parsed(self) -> list[Any]:
        received, at, answers = self._received, 0, []
        while len(received) - at >= LENGTH_BYTES:
            start = at + LENGTH_BYTES
            end = start + int.from_bytes(received[at:start], "little")
            if end > len(received):
                break
            answers.append(_answer(received[start:end]) if end > start else None)
            at = end
        del received[:at]
        return answers

    def _send(self, message: bytes) -> None:
        view = memoryview(message)
        while view:
            self._wait(self._tasks, select.POLLOUT, None)
            try:
                view = view[os.write(self._tasks, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise Ended from None

    def _wait(self, pipe: int, event: int, until: float | None) -> bool:
        """Wait for the pipe; False when time is up. Raises `Ended`.

        A pipe's end does not tell: what the task forked may hold it open.
        """
        poll = select.poll()
        poll.register(pipe, event)
        if self._end is not None:
            poll.register(self._end, select.POLLIN)
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            if self._end is None:
                left = 0.1 if left is None else min(left, 0.1)
            found = {number for number, _ in poll.poll(None if left is None else 1000 * left)}
            if pipe in found:
                return True
            if found or (self._end is None and self.process.poll() is not None):
                raise Ended
            if until is not None and time.monotonic() >= until:
                return False

    # -- its end -------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Let it end by itself: nothing comes any more."""
        os.close(self._tasks)
        self._tasks = -1
        self._wait_for_end(GRACE_S)
        self.reap()

    def terminate(self) -> None:
        """Ask it to end, and do not ask again."""
        self._signal(signal.SIGTERM)
        self._wait_for_end(GRACE_S)
        self.reap()

    def kill(self) -> None:
        """End it now, with all that its tasks started. From any thread."""
        self._signal(signal.SIGKILL)

    def reap(self) -> int:
        """Kill what is left of its group and let go of it; its status."""
        self._signal(signal.SIGKILL)
        with self._gone:
            if self._status is not None:
                return self._status
            self._status = self.process.wait()
        for pipe in (self._tasks, self._answers, self._permits, self._permits_left, self._life, self._end):
            if pipe is not None and pipe >= 0:
                os.close(pipe)
        return self._status

    def ended(self) -> bool:
        """Whether it has ended, as far as can be seen now."""
        if self._end is None:
            return self.process.poll() is not None
        return bool(select.select([self._end], [], [], 0)[0])

    def _signal(self, number: int) -> None:
        # Before it is waited for: until then nobody else can have its number.
        with self._gone, contextlib.suppress(ProcessLookupError, PermissionError):
            if self._status is None:
                os.killpg(self.process.pid, number)

    def _wait_for_end(self, seconds: float) -> None:
        if self._end is not None:
            select.select([self._end], [], [], seconds)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)


def _answer(packed: bytearray) -> Any:
    try:
        return codec.unpackb(packed, use_list=False)
    except ValueError:
        return False


class ProcessCrew:
    """A child process for each task that runs at once, each with a thread here that serves it."""

    def __init__(self, settings: Settings, hands: Hands, stopping: threading.Event) -> None:
        self._settings = settings
        self._hands = hands
        self._stopping = stopping
        self._device = 0
        self._lock = threading.Lock()
        self._children: dict[int, Child] = {}
        self._threads: list[threading.Thread] = []
        self._killed = False
        hands.slots = 0

    def start(self, device: int) -> None:
        """Start the children and begin to run what the hands hold."""
        self._device = device
        for slot in range(self._settings.concurrency):
            thread = threading.Thread(target=self._serve, args=(slot,), name=f"slot-{slot}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def busy(self) -> bool:
        """Whether a child still runs."""
        return any(thread.is_alive() for thread in self._threads)

    def kill(self) -> None:
        """End all children now; what they ran is handed back."""
        with self._lock:
            self._killed = True
            for child in self._children.values():
                child.kill()
        until = time.monotonic() + KILL_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _serve(self, slot: int) -> None:
        while (child := self._hire(slot)) is not None:
            try:
                while self._has_runs_left(child) and (entry := self._hands.take(slot)) is not None:
                    self._run(slot, child, entry)
                self._let_go(slot)
                child.retire()
            except Ended:
                self._let_go(slot)
            except BaseException as error:
                self._after_fault(slot, child, error)
            if self._hands.closed and not self._hands.queue:
                return

    def _after_fault(self, slot: int, child: Child, error: BaseException) -> None:
        """Our own code failed: the slot goes on with another child, and the task is not lost."""
        LOG.error("a slot failed (%s): its process is replaced", in_one_line(error))
        child.kill()
        status = child.reap()
        self._hands.finish(slot, child_died(told(status), self._device))
        with contextlib.suppress(KeyError):
            self._let_go(slot)
        self._stopping.wait(AGAIN_S[0])

    def _has_runs_left(self, child: Child) -> bool:
        most = self._settings.max_tasks_per_child
        return most is None or child.runs < most

    # -- hiring and letting go -----------------------------------------------------------------------

    def _hire(self, slot: int) -> Child | None:
        """A child that has loaded its functions; None when none is needed any more."""
        pause, longest = AGAIN_S
        while not self._killed and not (self._hands.closed and not self._hands.queue):
            child = Child(self._settings, self._device)
            with self._lock:
                if self._killed:
                    child.kill()
                self._children[slot] = child
            try:
                why = child.greet()
            except Ended:
                why = ""
            else:
                if not why:
                    self._count(1)
                    return child
            with self._lock:
                del self._children[slot]
            how = told(child.reap())
            if self._killed:
                return None
            LOG.error("a child process could not start (%s): trying again in %g s", why or how, pause)
            if self._stopping.wait(pause):
                return None
            pause = min(longest, 2 * pause)
        return None

    def _let_go(self, slot: int) -> None:
        with self._lock:
            del self._children[slot]
        self._count(-1)

    def _count(self, step: int) -> None:
        with self._lock:
            self._hands.slots += step
        self._hands.nudge.set()

    # -- running -------------------------------------------------------------------------------------

    def _run(self, slot: int, child: Child, entry: Entry) -> None:
        """Let the child run a task, and others behind it if they are short. Raises `Ended` if it is no more."""
        hands, timeout = self._hands, self._settings.timeout
        if child.ended():
            # While it had nothing to do: that is no task's fault.
            child.reap()
            del hands.begun[slot]
            hands.put_back([entry])
            raise Ended
        batch = deque([entry, *hands.take_behind(self._behind(child))])
        try:
            child.give([item for *_, item in batch])
            at, taken_back = hands.begun[slot].at, len(batch) == 1
            while True:
                late = None if timeout is None else at + timeout
                until = late if taken_back else min(at + TAKE_BACK_S, late or at + TAKE_BACK_S)
                answers = child.receive(until if batch else None)
                for answer in answers:
                    if answer is None:
                        return
                    if not is_outcome(answer) or not batch:
                        LOG.error("a child process answers what it cannot mean: it is ended and replaced")
                        child.kill()
                        raise Ended
                    batch.popleft()
                    hands.finish(slot, answer)
                    if batch:
                        at = hands.begin(slot, batch[0]).at
                if answers or not batch:
                    continue
                if not taken_back:
                    taken_back = True
                    back = child.take_back(len(batch) - 1)
                    hands.put_back([batch.pop() for _ in range(back)][::-1])
                elif late is not None and time.monotonic() >= late:
                    self._end_late(slot, child, batch)
        except Ended:
            if slot in hands.begun:
                self._after_death(slot, child, batch)
            else:
                child.reap()
            raise

    def _behind(self, child: Child) -> int:
        task_s, most = self._hands.task_s, self._settings.max_tasks_per_child
        fit = int(BATCH_S / task_s) if task_s > 0.0 else 1
        left = BATCH_MOST if most is None else most - child.runs
        return max(0, min(fit, BATCH_MOST, left) - 1)

    def _end_late(self, slot: int, child: Child, batch: deque[Entry]) -> None:
        timeout = self._settings.timeout or 0.0
        *_, item = batch.popleft()
        LOG.warning("task %d ran longer than %g s: failed at stage timeout, its process is replaced",
                    int(item[10:22]), timeout)  # fmt: skip
        child.terminate()
        # Settled once it is certain that it runs no more.
        self._hands.finish(slot, timed_out(timeout, self._device))
        self._hands.put_back(list(batch))
        raise Ended

    def _after_death(self, slot: int, child: Child, batch: deque[Entry]) -> None:
        """The child answered for each task that it ended: so it died in the first of those that are left."""
        status = child.reap()
        *_, item = batch.popleft()
        number = int(item[10:22])
        # Whoever stops a whole group of processes stops this child too: then the agent hears of it at that moment.
        stopped = status == -signal.SIGTERM and self._stopping.wait(TERM_RACE_S)
        if stopped or self._killed:
            LOG.info("task %d's process was stopped: the task is handed back", number)
            self._hands.finish(slot, HAND_BACK)
        else:
            LOG.warning("task %d's process died (%s): a crash of that task; a new process takes its place",
                        number, told(status))  # fmt: skip
            self._hands.finish(slot, child_died(told(status), self._device))
        self._hands.put_back(list(batch))


def is_outcome(answer: Any) -> bool:
    """Whether a child's answer has the shape of one: a task may have changed what makes it."""
    return (
        type(answer) is tuple and [type(part) for part in answer] == [bytes, bytes] and answer[0] in OUTCOMES
    )


def told(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
