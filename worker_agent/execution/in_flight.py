"""Tracks the tasks in flight in an agent: queued, running, and with a settlement that is not sent yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count, repeat
from typing import Any

from worker_agent.execution.line_buffer import LineBuffer
from worker_agent.execution.speech import Progress, Speech
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.broker import Claim
from worker_agent.protocol.settlements import DONE, HANDED_BACK, SAVED, Settlement
from worker_agent.protocol.text import short_text
from worker_agent.protocol.unpatched import time

TARGET_WORK_S = 0.05
"""Target amount of claimed work per slot, in seconds. Small enough that other agents are not starved."""
LONG_TASK_S = 0.5
"""Queued tasks are handed back once every slot has been busy with one task for this long."""
SETTLE_AGE_S = 0.005
"""The age at which a settlement is sent, although the batch is not full."""
MAX_CLAIM_TASKS = 1000
"""Maximum number of tasks that one call claims or settles."""
MAX_CLAIMS_IN_FLIGHT = 4
"""The tasks in flight amount to at most this many full claims."""
MAX_REMEMBERED_CLAIMS = 4_096
"""The channels of older claims without tasks in flight are forgotten above this number of claims."""
MAX_REPORTED_TASKS = 16
"""Maximum number of running tasks that a heartbeat describes."""
LAST_LINE_CHARACTERS = 120
"""A heartbeat cuts the last line of a running task to this length."""

Entry = tuple[int, int, int, bytes, int]
"""A claimed task: the generation of its actor, the claim's number, the place in the claim (from 1), the list item, and
the channel."""

Outcome = tuple[bytes, bytes]
"""How a run ended: one of the outcomes of `protocol/settlements.py`, and the bytes that it carries."""

HAND_BACK: Outcome = (HANDED_BACK, b"")


class RunningTask:
    """A task that a slot is running. `started_at` is monotonic time, in seconds.

    The slot may finish the run while another thread abandons it. The first of them to draw from `ends` gets 0, and
    only that one settles the task.

    The other attributes have their defaults on the class. So they cost a run nothing that does not set them.
    """

    __slots__ = ("__dict__", "ends", "entry", "started_at")

    cancel_asked_by: str = ""
    """Who asked to cancel the run. '' if nobody did."""
    progress: Progress | None = None
    """What the task said last about its progress."""
    progress_at: float = 0.0
    """When it said so (monotonic)."""
    speech: Speech | None = None
    """What the run has printed and logged. None if nothing, or if nothing is captured."""

    def __init__(self, entry: Entry, started_at: float) -> None:
        self.entry = entry
        self.started_at = started_at
        self.ends = count()

    @property
    def item(self) -> bytes:
        """The list item."""
        return self.entry[3]


class InFlight:
    """The tasks in flight. The claim loop, the slots (one thread each) and the heartbeat share it.

    - `slots` is the number of slots that can run a task now. It is below the agent's concurrency while threads hang
      or a child process starts.
    - `generation` counts the agent's actors. Tasks that a fenced actor claimed are dropped.
    - `queue` holds the claimed tasks that have not started, `running` the running ones by slot.
    - `tasks_available` wakes the slots, `wake` wakes the claim loop.

    Slots append and pop without a lock: both operations of a deque are atomic.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.generation = 0
        self.queue: deque[Entry] = deque()
        self.running: dict[int, RunningTask] = {}
        self.settlements: deque[Settlement] = deque()
        self.oldest_settlement = 0.0
        """When the oldest of `settlements` was added (monotonic)."""
        self.sleeping = False
        """Whether the claim loop sleeps for longer than `SETTLE_AGE_S`. The next settlement wakes it then."""
        self.tasks_available = threading.Condition()
        self.wake = threading.Event()
        self.on_tasks: Callable[[], None] | None = None
        """Called in place of waking threads when tasks are queued, for slots that are no threads."""
        self.on_drop: Callable[[], None] | None = None
        """Called after the tasks of a fenced actor were dropped."""
        self.settle_age_s = SETTLE_AGE_S
        """The age at which a settlement is sent, although the batch is not full, in seconds."""
        self.many_slots = False
        """Whether the slots cost so little that there are many. Then tasks of any length are claimed ahead."""
        self._idle_job: Callable[[], None] | None = None
        self.closed = False
        self.lines = LineBuffer()
        """What tasks have printed and logged, for the next heartbeat."""
        self.done = 0
        self.errors = 0
        self.task_s = 0.0
        """A running mean of a task's duration, in seconds. 0 while unknown."""
        self._channel_of_claim: dict[int, int] = {}
        """By the numbers of the current actor's claims."""
        self.low_water = 0
        """The length of the queue at which a slot wakes the claim loop. -1 for never."""

    # For the slots

    def take(self, slot: int) -> Entry | None:
        """Return the next task for a slot, and wait for one if necessary. Return None once closed."""
        while True:
            try:
                entry = self.queue.popleft()
            except IndexError:
                self.wake.set()
                with self.tasks_available:
                    if self.closed:
                        return None
                    idle_job, self._idle_job = self._idle_job, None
                    if idle_job is None and not self.queue:
                        self.tasks_available.wait()
                if idle_job is not None:
                    idle_job()
                continue
            self.running[slot] = RunningTask(entry, time.monotonic())
            if len(self.queue) == self.low_water:
                self.wake.set()
            return entry

    def run_idle_jobs(self) -> None:
        """Run what `assign_idle_job` gives, until closed. For a thread beside slots that are no threads."""
        while True:
            with self.tasks_available:
                self.tasks_available.wait_for(lambda: self.closed or self._idle_job is not None)
                idle_job, self._idle_job = self._idle_job, None
            if idle_job is None:
                return
            idle_job()

    def take_more(self, limit: int) -> list[Entry]:
        """Return up to `limit` further tasks, for a child process that runs short tasks in a batch."""
        share = min(limit, len(self.queue) // max(1, self.slots))
        taken: list[Entry] = []
        while len(taken) < share:
            try:
                taken.append(self.queue.popleft())
            except IndexError:
                break
        if taken and len(self.queue) <= self.low_water:
            self.wake.set()
        return taken

    def start(self, slot: int, entry: Entry) -> RunningTask:
        """Record that a slot starts a task which it took with `take_more`."""
        started = self.running[slot] = RunningTask(entry, time.monotonic())
        return started

    def put_back(self, entries: list[Entry]) -> None:
        """Put tasks that a slot took and did not start back at the head of the queue, in their old order.

        Once closed, hand them back instead.
        """
        if self.closed:
            for entry in entries:
                self._add_settlement(entry, HAND_BACK)
            return
        with self.tasks_available:
            self.queue.extendleft(reversed(self._of_current_actor(entries)))
            self.tasks_available.notify(len(entries))
        if self.on_tasks is not None:
            self.on_tasks()
        self.wake.set()

    def finish(self, slot: int, outcome: Outcome) -> bool:
        """Settle the task that a slot ran. Return False, and drop the outcome, if the run was abandoned."""
        task = self.running.pop(slot, None)
        if task is None or next(task.ends):
            return False
        took = time.monotonic() - task.started_at
        mean = self.task_s
        self.task_s = took if mean == 0.0 else mean + 0.1 * (took - mean)
        self._add_settlement(task.entry, outcome)
        return True

    def abandon(self, slot: int, task: RunningTask, outcome: Outcome) -> bool:
        """Settle a run that continues in a slot that is lost. Return False if the run has just finished."""
        if next(task.ends):
            return False
        self.running.pop(slot, None)
        self._add_settlement(task.entry, outcome)
        return True

    def _add_settlement(self, entry: Entry, outcome: Outcome) -> None:
        generation, claim, place, _, _ = entry
        # Read before the generation is compared: `drop_all` counts the generation up, then replaces the deque.
        settlements = self.settlements
        if generation != self.generation:
            return
        kind, carried = outcome
        if kind == DONE or kind == SAVED:  # noqa: SIM109 - builds no tuple for each task
            self.done += 1
        elif kind != HANDED_BACK:
            self.errors += 1
        if not settlements:
            self.oldest_settlement = time.monotonic()
        settlements.append((claim, place, kind, carried))
        if self.sleeping:
            self.sleeping = False
            self.wake.set()

    # For the claim loop

    def assign_idle_job(self, job: Callable[[], None]) -> None:
        """Let an idle slot call `job`. The slot takes no task until the call returns."""
        with self.tasks_available:
            self._idle_job = job
            self.tasks_available.notify()

    def add_claim(self, claim: Claim, channel: int, *, by_slot: bool = False) -> None:
        """Queue claimed tasks for the slots. A slot that calls this (`by_slot`) takes the first task itself."""
        self.queue.extend(self._entries(claim, channel))
        # If the channel is empty and each slot has a task, the slots ask for more when they are idle.
        more = claim.waiting or len(self.queue) > self.slots
        self.low_water = len(self.queue) // 2 if more else -1
        if self.on_tasks is not None:
            self.on_tasks()
            return
        with self.tasks_available:
            self.tasks_available.notify(len(claim.items) - by_slot)

    def hand_back_claim(self, claim: Claim, channel: int) -> None:
        """Hand back a claim that is no longer wanted, before a slot can start any of its tasks."""
        for entry in self._entries(claim, channel):
            self._add_settlement(entry, HAND_BACK)

    def _entries(self, claim: Claim, channel: int) -> Iterator[Entry]:
        number = claim.number
        self._channel_of_claim[number] = channel
        return zip(
            repeat(self.generation), repeat(number), count(1), claim.items, repeat(channel), strict=False
        )

    def by_channel(self, settlements: list[Settlement]) -> dict[int, list[Settlement]]:
        """Return the settlements grouped by their channels."""
        grouped: dict[int, list[Settlement]] = {}
        for settlement in settlements:
            grouped.setdefault(self._channel_of_claim[settlement[0]], []).append(settlement)
        if len(self._channel_of_claim) > MAX_REMEMBERED_CLAIMS:
            self._forget_settled_claims(settlements)
        return grouped

    def _forget_settled_claims(self, settlements: list[Settlement]) -> None:
        claims = {settlement[0] for settlement in [*settlements, *list(self.settlements)]}
        claims |= {entry[1] for entry in list(self.queue)}
        claims |= {task.entry[1] for task in list(self.running.values())}
        # Slots and child processes may hold tasks that are in neither, but only of the newest claims.
        newest = max(self._channel_of_claim) - MAX_REMEMBERED_CLAIMS // 2
        for claim in [
            claim for claim in list(self._channel_of_claim) if claim < newest and claim not in claims
        ]:
            del self._channel_of_claim[claim]

    def hand_back_count(self) -> int:
        """Return how many tasks the next settlements hand back."""
        return sum(kind == HANDED_BACK for _, _, kind, _ in list(self.settlements))

    def take_settlements(self) -> list[Settlement]:
        """Remove and return the settlements for the next call, at most `MAX_CLAIM_TASKS`."""
        # Only the claim loop removes settlements, so no lock is needed.
        settlements = self.settlements
        return [settlements.popleft() for _ in range(min(MAX_CLAIM_TASKS, len(settlements)))]

    def hand_back_queued(self) -> list[Settlement]:
        """Empty the queue, and return the settlements that hand its tasks back."""
        queued: list[Entry] = []
        while True:
            try:
                queued.append(self.queue.popleft())
            except IndexError:
                return [_handed_back(entry) for entry in self._of_current_actor(queued)]

    def hand_back_running(self) -> list[Settlement]:
        """Return the settlements that hand the running tasks back. What these runs settle later is dropped.

        For an agent that must not wait for them.
        """
        entries = self._of_current_actor([task.entry for task in list(self.running.values())])
        self.generation += 1
        return [_handed_back(entry) for entry in entries]

    def drop_all(self) -> int:
        """Forget everything that a fenced actor claimed. Return the number of tasks."""
        self.generation += 1
        dropped = len(self.queue) + len(self.running) + len(self.settlements)
        self.queue.clear()
        self.settlements = deque()
        self._channel_of_claim.clear()
        if self.on_drop is not None:
            self.on_drop()
        return dropped

    def _of_current_actor(self, entries: list[Entry]) -> list[Entry]:
        """Return the tasks that the current actor claimed. A former actor's claims have the same numbers."""
        return [entry for entry in entries if entry[0] == self.generation]

    def close(self) -> None:
        """Let the slots end once the queue is empty."""
        with self.tasks_available:
            self.closed = True
            self.tasks_available.notify_all()

    # How much to claim

    def tasks_to_claim(self, waiting: int) -> int:
        """Return how many tasks to claim now. `waiting` is how many tasks the channel held at the last claim."""
        queued = len(self.queue)
        if self.slots == 0 or self._holds_recovered_task():
            return 0
        idle = min(MAX_CLAIM_TASKS, self.idle_slots())
        long = self.task_s >= TARGET_WORK_S
        if self.task_s == 0.0 or (long and not self.many_slots) or self.head_of_line_blocked():
            return idle
        target = min(
            MAX_CLAIMS_IN_FLIGHT * MAX_CLAIM_TASKS,
            int(TARGET_WORK_S / self.task_s * self.slots)
            if long
            else max(self.slots, int(TARGET_WORK_S / self.task_s) * self.slots),
        )
        limit = min(MAX_CLAIM_TASKS, target)
        if idle and long:
            return max(idle, min(limit, waiting // 2))
        if queued == 0:
            return limit
        # Claim ahead only if as many tasks again still wait, so that no idle device is starved. Not for a few tasks.
        ahead = min(limit, target - queued, waiting // 2)
        return ahead if queued <= target // 2 and 4 * ahead >= limit else 0

    def is_empty(self) -> bool:
        """Return whether nothing is in flight."""
        return self.is_idle() and not self.settlements

    def is_idle(self) -> bool:
        """Return whether no task runs and none is queued."""
        return not (self.queue or self.running)

    def idle_slots(self) -> int:
        """Return how many slots have neither a running nor a queued task."""
        return max(0, self.slots - len(self.running) - len(self.queue))

    def _holds_recovered_task(self) -> bool:
        """Return whether a recovered task is in flight. It is claimed alone and runs alone (law 9)."""
        if len(self.running) + len(self.queue) > 1:
            return False
        return any(task.item[24:25] != b"0" for task in list(self.running.values())) or any(
            entry[3][24:25] != b"0" for entry in list(self.queue)
        )

    def head_of_line_blocked(self) -> bool:
        """Return whether every slot has been busy with one task for `LONG_TASK_S`: queued tasks then go back."""
        return 0 < self.slots <= len(self.running) and time.monotonic() - self._newest_start() >= LONG_TASK_S

    def _newest_start(self) -> float:
        """Return when the newest run started. A slot that starts a task comes to the end of `running`."""
        while True:
            try:
                return next(reversed(self.running.values())).started_at
            except RuntimeError:  # Another thread changed the dict in between.
                continue
            except StopIteration:
                return time.monotonic()

    def max_sleep_s(self) -> float:
        """Return how long the claim loop may sleep unless it is woken, in seconds."""
        # Set before the settlements are looked at: one that is added after that look wakes the claim loop.
        self.sleeping = True
        now = time.monotonic()
        if self.settlements:
            self.sleeping = False
            return max(0.0, self.oldest_settlement + self.settle_age_s - now)
        if self.queue and 0 < self.slots <= len(self.running):
            return max(0.001, self._newest_start() + LONG_TASK_S - now)
        return 1.0

    def describe_running(self) -> list[dict[str, Any]]:
        """Return up to `MAX_REPORTED_TASKS` running tasks, the longest first, as maps for a heartbeat.

        Each has `text`, `seconds` (how long it has run), `id` and `channel`; and `done`, `total`, `note` (its progress)
        and `line` (its last line) if they are known.
        """
        now = time.monotonic()
        oldest = list(self.running.values())[:MAX_REPORTED_TASKS]
        return [_described(task, now) for task in oldest]


def _described(task: RunningTask, now: float) -> dict[str, Any]:
    *_, item, channel = task.entry
    fields: dict[str, Any] = {
        "text": text_of(item),
        "seconds": now - task.started_at,
        "id": item[2:22].decode("ascii", "replace"),
        "channel": channel,
    }
    done, total, note = task.progress or (None, None, "")
    line = "" if task.speech is None else task.speech.last_line()[:LAST_LINE_CHARACTERS]
    known = {"done": done, "total": total, "note": _packable(note) or None, "line": line or None}
    return fields | {name: value for name, value in known.items() if value is not None}


def _handed_back(entry: Entry) -> Settlement:
    _, claim, place, _, _ = entry
    return claim, place, *HAND_BACK


def text_of(item: bytes, characters: int = 80) -> str:
    """Return a task as short text for the dashboard, whatever the list item holds."""
    try:
        task = wire.unpack(list_item.body(item)) if len(item) < 4096 else "(a large task)"
    except wire.Undecodable:
        return "(does not unpack)"
    return _packable(short_text(task, characters))


def _packable(text: str) -> str:
    """Return the text without lone surrogates, which msgpack cannot carry."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
