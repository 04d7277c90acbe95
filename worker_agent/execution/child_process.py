"""The agent's side of a child process: starts it, exchanges tasks and answers with it, and ends it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worker_agent.execution.child import LENGTH_BYTES, READY, READY_WITH_TEARDOWN, RUN, SKIP, frame
from worker_agent.execution.fork_server_process import ForkServer
from worker_agent.execution.lifecycle import TEARDOWN_S
from worker_agent.execution.process_handle import ProcessHandle, SpawnedProcess, python_command
from worker_agent.protocol import codec
from worker_agent.protocol.served_channels import Served, served_text
from worker_agent.protocol.settlements import DONE, FAILED, SAVED, UNDECODABLE
from worker_agent.protocol.unpatched import time
from worker_agent.settings import Settings

SMALL_READ, LARGE_READ = 64 * 1024, 1024 * 1024
"""How many bytes are read from a pipe at a time."""
MAX_BATCH_TASKS = 100
"""Maximum number of tasks that a child gets at a time."""
GRACE_S = 1.0
"""How long a child may take to end: after SIGTERM, before it gets SIGKILL, and after its pipe of tasks is closed."""

CHILD_MODULE = "worker_agent.execution.child"
CHILD_OUTCOMES = (DONE, SAVED, FAILED, UNDECODABLE)
"""The outcomes that a child may answer with."""


def setup_of(settings: Settings, device: int, channels: Sequence[int]) -> dict[str, Any]:
    """Return what a child or a fork server must know to load the functions, and to set these channels up."""
    return {
        "path": sys.path, "job": settings.job, "function_names": settings.function_names, "device": device,
        "channels": list(channels), "capture": settings.capture, "timeout": settings.timeout, "kind": settings.kind,
        "concurrency": -(-settings.concurrency // settings.processes),
    }  # fmt: skip


class ChildEnded(Exception):
    """The child process has ended."""


def check_job(job: Path, served: Served, *, debug: bool) -> tuple[int, tuple[float, ...]]:
    """Load the job in a process of its own. Return its exit status, 0 if the job can be used, and the job's weights.

    That process reports itself what is wrong.
    """
    read, write = os.pipe()
    command = [
        *python_command(CHILD_MODULE), "check", str(job), served_text(served), str(write),
        *(["--debug"] if debug else []),
    ]  # fmt: skip
    try:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, pass_fds=[write], check=False).returncode
    finally:
        os.close(write)
    try:
        # No process that the job started may hold this read up: the check has ended, and its weights are there.
        os.set_blocking(read, False)
        weights = codec.unpackb(os.read(read, 1 << 16)) if status == 0 else ()
    finally:
        os.close(read)
    return status, tuple(weights)


class ChildProcess:
    """One child process in a process group of its own. One thread uses it, but any thread may call `kill`."""

    def __init__(self, setup: dict[str, Any], fork_server: ForkServer | None = None) -> None:
        """Start the child: as a copy of the fork server if there is one, else as a new program.

        `setup` is what `setup_of` returns.

        Raises `OSError`, `NotForkable` or `CannotStart`.
        """
        tasks, self._tasks = os.pipe()
        self._answers, answers = os.pipe()
        self._permits_out, self._permits_in = os.pipe()
        life, self._life = os.pipe()
        for pipe in (self._tasks, self._answers):
            _widen(pipe)
        inherited = (tasks, answers, self._permits_out, life)
        try:
            if fork_server is None:
                self._handle: ProcessHandle = SpawnedProcess(
                    [*python_command(CHILD_MODULE), *map(str, inherited), setup["job"]], inherited
                )
            else:
                self._handle = fork_server.fork(inherited)
        except BaseException:
            self._close_pipes()
            raise
        finally:
            for pipe in (tasks, answers, life):
                os.close(pipe)
        # The agent keeps the reading end of the permits: the child cannot start a task whose permit is read here.
        for pipe in (self._tasks, self._answers, self._permits_out):
            os.set_blocking(pipe, False)
        self._received = bytearray()
        self._reaping = threading.Lock()
        self._reaped = False
        self._status: int | None = None
        self.cancelled: tuple[str, str] | None = None
        """The id of the task for whose sake the child is ended, and who asked for that."""
        self.tasks_given = 0
        """How many tasks the child got, less those that were taken back."""
        self._setup = frame(setup) if fork_server is None else b""
        self._end_s = GRACE_S

    @property
    def pid(self) -> int:
        """The id of the process, and of its process group."""
        return self._handle.pid

    def load_functions(self) -> str:
        """Let the child load its functions and set them up, and wait for it. Return why it could not, or ''.

        Raises `ChildEnded`.
        """
        self._send(self._setup)
        answer = self.receive(None)[0]
        if type(answer) is not bytes:
            raise ChildEnded
        if answer == READY_WITH_TEARDOWN:
            self._end_s = TEARDOWN_S
        return "" if answer in (READY, READY_WITH_TEARDOWN) else answer.decode("utf-8", "replace")

    def give(self, items: list[tuple[bytes, int]]) -> None:
        """Let the child run these list items, each with its channel, in order. Raises `ChildEnded`."""
        self.tasks_given += len(items)
        os.write(self._permits_in, RUN * len(items))
        self._send(frame(items))

    def take_back(self, limit: int) -> int:
        """Take back up to `limit` tasks that have not started, from the end of the batch. Return how many."""
        # The child cannot start a task without its permit. Permits beyond `limit` are written again.
        try:
            permits = os.read(self._permits_out, MAX_BATCH_TASKS)
        except BlockingIOError:
            return 0
        taken = min(permits.count(RUN), limit)
        kept = permits.count(RUN) - taken
        os.write(self._permits_in, RUN * kept + SKIP * (len(permits) - kept))
        self.tasks_given -= taken
        return taken

    def receive(self, deadline: float | None) -> list[Any]:
        """Return the next answers, with None for the end of a batch. Return no answer at the deadline (monotonic).

        Raises `ChildEnded`.
        """
        size = SMALL_READ
        while not (answers := self._complete_answers()):
            if not self._wait(deadline):
                return []
            # Only a large answer is worth a large buffer.
            size = LARGE_READ if self._read_answers(size) == SMALL_READ else size
        return answers

    def _read_answers(self, size: int) -> int:
        """Read what the child has answered, up to `size` bytes, and return how many. Raises `ChildEnded`."""
        try:
            part = os.read(self._answers, size)
        except BlockingIOError:
            return 0
        if not part:
            raise ChildEnded
        self._received += part
        return len(part)

    def _complete_answers(self) -> list[Any]:
        received, at, answers = self._received, 0, []
        while len(received) - at >= LENGTH_BYTES:
            start = at + LENGTH_BYTES
            end = start + int.from_bytes(received[at:start], "little")
            if end > len(received):
                break
            with memoryview(received)[start:end] as packed:
                answers.append(_unpack_answer(packed) if end > start else None)
            at = end
        del received[:at]
        return answers

    def _send(self, message: bytes) -> None:
        view = memoryview(message)
        while view:
            try:
                view = view[os.write(self._tasks, view) :]
            except BlockingIOError:
                # The child may wait too: until its answers are read.
                if self._tasks not in self._ready(
                    None, (self._tasks, select.POLLOUT), (self._answers, select.POLLIN)
                ):
                    self._read_answers(LARGE_READ)
            except BrokenPipeError:
                raise ChildEnded from None

    def _wait(self, deadline: float | None) -> bool:
        """Wait for answers. Return False at the deadline (monotonic). Raises `ChildEnded`."""
        return bool(self._ready(deadline, (self._answers, select.POLLIN)))

    def _ready(self, deadline: float | None, *pipes: tuple[int, int]) -> set[int]:
        """Wait for events of pipes, and return the pipes. Empty at the deadline (monotonic). Raises `ChildEnded`.

        The end of a pipe is no reliable sign of the child's end: a process that a task forked may hold it open.
        """
        poll, pidfd = select.poll(), self._handle.pidfd
        for pipe, event in pipes:
            poll.register(pipe, event)
        if pidfd is not None:
            poll.register(pidfd, select.POLLIN)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if pidfd is None:
                left = 0.1 if left is None else min(left, 0.1)
            ready = {number for number, _ in poll.poll(None if left is None else 1000 * left)}
            if found := ready - {pidfd}:
                return found
            if ready or (pidfd is None and self._handle.has_ended()):
                raise ChildEnded
            if deadline is not None and time.monotonic() >= deadline:
                return set()

    def close_tasks(self) -> None:
        """Close the pipe of tasks. The child then tears the job down and ends by itself."""
        if self._tasks >= 0:
            os.close(self._tasks)
            self._tasks = -1

    def retire(self, seconds: float | None = None) -> bool:
        """Let the child end by itself, and reap it. Return whether it has ended in time.

        Without `seconds` it gets `TEARDOWN_S` if it has something to tear down, otherwise `GRACE_S`.
        """
        self.close_tasks()
        in_time = self._handle.has_ended(self._end_s if seconds is None else seconds)
        self.reap()
        return in_time

    def terminate(self) -> None:
        """Send SIGTERM, wait up to `GRACE_S`, and reap the child."""
        self._signal(signal.SIGTERM)
        self._handle.has_ended(GRACE_S)
        self.reap()

    def cancel(self, id_: str, who: str) -> None:
        """End the child for the sake of a task that it runs, and let it start no other one. Any thread may call this.

        The child gets SIGTERM, and SIGKILL after `GRACE_S`.
        """
        self.cancelled = id_, who
        # No task whose permit is read here can start. Those are put back when the child has ended.
        with self._reaping, contextlib.suppress(BlockingIOError):
            if not self._reaped:
                os.read(self._permits_out, MAX_BATCH_TASKS)
        self._signal(signal.SIGTERM)
        timer = threading.Timer(GRACE_S, self.kill)
        timer.daemon = True
        timer.start()

    def kill(self) -> None:
        """Kill the child now, with all processes that its tasks started. Any thread may call this."""
        self._signal(signal.SIGKILL)

    def reap(self) -> int | None:
        """Kill the rest of the child's process group, close the pipes, and return the child's status.

        None if nobody knows it.
        """
        self._signal(signal.SIGKILL)
        with self._reaping:
            if self._reaped:
                return self._status
            self._status = self._handle.reap()
            self._reaped = True
        self._close_pipes()
        self._handle.close()
        return self._status

    def has_ended(self) -> bool:
        """Return whether the child has ended, without waiting."""
        return self._handle.has_ended()

    def _signal(self, number: int) -> None:
        # Only before the child is reaped: until then no other process can get its id.
        with self._reaping:
            if not self._reaped:
                self._handle.signal_group(number)

    def _close_pipes(self) -> None:
        for pipe in (self._tasks, self._answers, self._permits_in, self._permits_out, self._life):
            if pipe >= 0:
                os.close(pipe)


def _widen(pipe: int) -> None:
    """Let a pipe hold up to `LARGE_READ` bytes, where the system can and allows it. 64 KiB are usual."""
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, LARGE_READ)


def _unpack_answer(packed: memoryview) -> Any:
    try:
        return codec.unpackb(packed, use_list=False)
    except ValueError:
        return False


def is_outcome(answer: Any) -> bool:
    """Return whether a child's answer is a valid outcome. A task may have replaced the code that makes it."""
    return (
        type(answer) is tuple
        and [type(part) for part in answer] == [bytes, bytes]
        and answer[0] in CHILD_OUTCOMES
    )
