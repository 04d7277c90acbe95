"""The agent's side of a child process with an event loop: sends tasks at any time, and never waits for the child."""

from __future__ import annotations

import os
from collections import deque
from typing import Any

from worker_agent.execution.child import frame
from worker_agent.execution.child_process import ChildEnded, ChildProcess
from worker_agent.execution.fork_server_process import ForkServer
from worker_agent.execution.in_flight import Outcome, RunningTask
from worker_agent.execution.loop_child import CANCEL, DROP, RUN_ITEMS


class LoopChild(ChildProcess):
    """One child process. Only the executor's thread uses it, but any thread may call `kill`.

    - `running` holds the tasks that the child has not answered for, by slot.
    - `due` is when it must have answered for a run at the latest (monotonic). A child that has not is blocked.
    - `endings` are the outcomes of runs that it had to cancel, in case that it is killed instead.
    - `is_blocked` says that it is killed because it has not answered in time.
    """

    def __init__(self, setup: dict[str, Any], fork_server: ForkServer | None = None) -> None:
        super().__init__(setup, fork_server)
        self.running: dict[int, RunningTask] = {}
        self.due: dict[int, float] = {}
        self.endings: dict[int, Outcome] = {}
        self.is_blocked = False
        self._unsent: deque[memoryview] = deque()

    @property
    def tasks_pipe(self) -> int:
        """The pipe that is writable when the child takes more."""
        return self._tasks

    @property
    def readable(self) -> list[int]:
        """The descriptors that are readable when the child has answered or has ended."""
        pidfd = self._handle.pidfd
        return [self._answers, *([] if pidfd is None else [pidfd])]

    def run_items(self, generation: int, items: list[tuple[int, bytes, int]]) -> None:
        """Let the child run list items: slot, list item and channel. Raises `ChildEnded`."""
        self._post(frame((RUN_ITEMS, generation, items)))

    def cancel_run(self, id_: str, who: str) -> None:
        """Let the child cancel the run of a task. It answers whether it can. Raises `ChildEnded`."""
        self._post(frame((CANCEL, id_, who)))

    def drop(self, generation: int) -> None:
        """Let the child cancel the runs of actors before this generation. Raises `ChildEnded`."""
        self._post(frame((DROP, generation)))

    @property
    def has_unsent(self) -> bool:
        """Whether messages wait until the pipe takes them."""
        return bool(self._unsent)

    def send_unsent(self) -> None:
        """Write what the pipe takes now. Raises `ChildEnded`."""
        try:
            while self._unsent:
                view = self._unsent[0]
                view = view[os.write(self._tasks, view) :]
                if view:
                    self._unsent[0] = view
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            return
        except BrokenPipeError:
            raise ChildEnded from None

    def _post(self, message: bytes) -> None:
        self._unsent.append(memoryview(message))
        self.send_unsent()
