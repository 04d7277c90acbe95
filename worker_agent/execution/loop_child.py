"""A child process that runs tasks as coroutines of its own event loop (`--kind asyncio --processes N`).

`child.py` starts it once the functions are loaded. The pipes are the same, but what the child gets starts at once, so
PERMITS stays empty.

- TASKS brings [b"r", generation, [[slot, item, channel], ...]] to run list items, [b"c", id, who] to cancel the run of
  a task, and [b"d", generation] to cancel what an actor before that generation claimed.
- ANSWERS takes `ready`, then lists of [slot, outcome, carried] as runs end, and [b"c", id, why] with why a run cannot
  be cancelled, or an empty text.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from worker_agent.execution.child_log import logging_to_agent
from worker_agent.execution.child_registry import ChildRegistry
from worker_agent.execution.current_task import add_registry
from worker_agent.execution.event_loop import EventLoopExecutor
from worker_agent.execution.in_flight import Entry, InFlight, Outcome, RunningTask
from worker_agent.execution.speech import Speech
from worker_agent.protocol import codec
from worker_agent.settings import Functions, LifecycleFunctions, Settings

RUN_ITEMS, CANCEL, DROP = b"r", b"c", b"d"
"""The kinds of messages to the child."""


class GivenTasks(InFlight):
    """The tasks that the agent has given to this child. What settles there is an answer to the agent."""

    def __init__(self, slots: int, timeout: float | None, answer: Callable[[Any], None]) -> None:
        super().__init__(slots)
        self._answer = answer
        self.registry = _Registry(answer, timeout)
        self._ended: list[tuple[int, bytes, bytes]] = []

    def give(self, generation: int, items: list[tuple[int, bytes, int]]) -> None:
        """Run list items, each for a slot of the agent. Any thread may call this."""
        self.queue.extend((generation, slot, 0, item, channel) for slot, item, channel in items)
        if self.on_tasks is not None:
            self.on_tasks()

    def drop(self, generation: int) -> None:
        """Cancel the runs of actors before this generation. Any thread may call this."""
        self.generation = generation
        if self.on_drop is not None:
            self.on_drop()

    def start(self, slot: int, entry: Entry) -> RunningTask:
        """Record that a coroutine starts a task."""
        task = super().start(slot, entry)
        self.registry.note(task)
        return task

    def _add_settlement(self, entry: Entry, outcome: Outcome) -> None:
        """Answer for a run that has ended, together with others that end in the same round of the loop."""
        self.registry.stop(entry[3])
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._send)
        self._ended.append((entry[1], *outcome))

    def _send(self) -> None:
        ended, self._ended = self._ended, []
        self._answer(ended)


class _Registry(ChildRegistry):
    """The runs of this child, which can be asked to end."""

    def __init__(self, send: Callable[[Any], None], timeout: float | None) -> None:
        super().__init__(send, timeout)
        self._tasks: dict[bytes, RunningTask] = {}
        """By id."""

    def note(self, task: RunningTask) -> None:
        """Note that a run starts now."""
        self.start(task.item)
        self._tasks[task.item[2:22]] = task

    def stop(self, item: bytes) -> None:
        """Note that the run of a list item has ended."""
        super().stop(item)
        self._tasks.pop(item[2:22], None)

    def is_cancelled(self, id_: bytes) -> bool:
        """Return whether a run should end: somebody asked to cancel it, or it was settled without it."""
        task = self._tasks.get(id_)
        return task is None or bool(task.cancel_asked_by)

    def attach(self, id_: bytes, speech: Speech) -> None:
        """Let a run have this speech, so that its last lines are known when it is cancelled."""
        if (task := self._tasks.get(id_)) is not None:
            task.speech = speech


def run(
    functions: Functions, lifecycle: LifecycleFunctions, setup: dict[str, Any], ready: bytes,
    receive: Callable[[], bytes | bytearray], answer: Callable[[Any], None],
) -> None:  # fmt: skip
    """Set the job up, answer `ready`, and run the agent's tasks until it sends no more.

    `receive` returns the next message, or b'' at the end. `answer` sends a message; any thread may call it. Raises
    `JobError` if the setup fails.
    """
    settings = Settings(
        lambda: "", "", None, None, setup["concurrency"], functions, kind="asyncio", timeout=setup["timeout"],
        lifecycle=lifecycle,
    )  # fmt: skip
    given = GivenTasks(settings.concurrency, settings.timeout, answer)
    add_registry(given.registry)
    executor = EventLoopExecutor(settings, given, lambda: os.kill(os.getpid(), signal.SIGKILL))
    executor.start(setup["device"], setup["channels"], threading.Event())
    answer(ready)
    with logging_to_agent(answer):
        while message := receive():
            kind, *rest = codec.unpackb(message, use_list=False)
            if kind == RUN_ITEMS:
                given.give(*rest)
            elif kind == CANCEL:
                answer((CANCEL, rest[0], executor.cancel(*rest)))
            elif kind == DROP:
                given.drop(*rest)
    executor.kill()
