"""What an agent has in hand: tasks claimed and not begun, tasks begun, and settlements not yet sent."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count, repeat

from worker_agent.protocol import wire
from worker_agent.protocol.broker import Claim
from worker_agent.protocol.pristine import time
from worker_agent.protocol.settlements import Settlement
from worker_agent.protocol.words import in_words

WORK_IN_HAND_S = 0.05
"""A batch holds about this much work, so that no device sits on what another could run."""
LONG_TASK_S = 0.5
"""When every slot has been busy this long, what has not begun is handed back."""
SETTLE_AGE_S = 0.005
MOST = 1000
"""Tasks of one claim."""
CLAIMS_IN_HAND = 4
"""So many full claims at most."""
REPORTED = 16

Entry = tuple[int, int, int, bytes]
"""A claimed task: the generation of its claimer, the claim's number, its place there (from 1), and the list item."""

Outcome = tuple[bytes, bytes]
"""What came of a task: a settlement's letter, and what goes with it."""

HAND_BACK: Outcome = (b"b", b"")


class Begun:
    """A task that a slot is running; `at` is monotonic time.

    Its slot ends it, or whoever gives it up: the one that draws 0 from `ends`.
    """

    __slots__ = ("at", "ends", "entry")

    def __init__(self, entry: Entry, at: float) -> None:
        self.entry = entry
        self.at = at
        self.ends = count()

    @property
    def item(self) -> bytes:
        """The list item."""
        return self.entry[3]


class Hands:
    """Shared by the claimer, the slots (one thread each) and the reports.

    `slots` is how many can run something now: fewer than were asked for while threads hang or a child starts.
    `generation` counts the agent's actors: what was claimed by an actor that was declared dead is dropped.
    Slots append and pop without a lock (both are atomic); `fed` wakes them, `nudge` wakes the claimer.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.generation = 0
        self.queue: deque[Entry] = deque()
        self.begun: dict[int, Begun] = {}
        self.settlements: deque[Settlement] = deque()
        self.oldest_settlement = 0.0
        self.at_rest = False
        """Whether the claimer waits for longer than a settlement may: the next one wakes it."""
        self.fed = threading.Condition()
        self.nudge = threading.Event()
        self._errand: Callable[[], None] | None = None
        self.closed = False
        self.done = 0
        self.errors = 0
        self.task_s = 0.0
        """A running mean of how long tasks take, in seconds; 0 while unknown."""
        self.low_water = 0

    # -- the slots' side -----------------------------------------------------------------------------

    def take(self, slot: int) -> Entry | None:
        """The next task for a slot, waiting for one; None once closed."""
        while True:
            try:
                entry = self.queue.popleft()
            except IndexError:
                self.nudge.set()
                with self.fed:
                    if self.closed:
                        return None
                    errand, self._errand = self._errand, None
                    if errand is None and not self.queue:
                        self.fed.wait()
                if errand is not None:
                    errand()
                continue
            self.begun[slot] = Begun(entry, time.monotonic())
            if len(self.queue) == self.low_water:
                self.nudge.set()
            return entry

    def take_behind(self, most: int) -> list[Entry]:
        """Up to so many tasks more, for a child process that runs short ones in a row."""
        share = min(most, len(self.queue) // max(1, self.slots))
        behind: list[Entry] = []
        while len(behind) < share:
            try:
                behind.append(self.queue.popleft())
            except IndexError:
                break
        if behind and len(self.queue) <= self.low_water:
            self.nudge.set()
        return behind

    def begin(self, slot: int, entry: Entry) -> Begun:
        """A slot begins with a task that it had taken along."""
        begun = self.begun[slot] = Begun(entry, time.monotonic())
        return begun

    def put_back(self, entries: list[Entry]) -> None:
        """Lay tasks that a slot had taken along and not begun before the slots again, in their old order."""
        if self.closed:
            for entry in entries:
                self._report(entry, HAND_BACK)
            return
        with self.fed:
            self.queue.extendleft(reversed(self._ours(entries)))
            self.fed.notify(len(entries))
        self.nudge.set()

    def finish(self, slot: int, outcome: Outcome) -> bool:
        """A slot has run its task; False where the run had been given up, and what came of it is dropped."""
        begun = self.begun.pop(slot, None)
        if begun is None or next(begun.ends):
            return False
        took = time.monotonic() - begun.at
        mean = self.task_s
        self.task_s = took if mean == 0.0 else mean + 0.1 * (took - mean)
        self._report(begun.entry, outcome)
        return True

    def give_up(self, slot: int, begun: Begun, outcome: Outcome) -> bool:
        """Settle a run that goes on, whose slot is lost; False where it has just ended by itself."""
        if next(begun.ends):
            return False
        self.begun.pop(slot, None)
        self._report(begun.entry, outcome)
        return True

    def _report(self, entry: Entry, outcome: Outcome) -> None:
        generation, claim, place, _ = entry
        # Before the generation is looked at: `drop_all` replaces them behind it.
        settlements = self.settlements
        if generation != self.generation:
            return
        letter, with_it = outcome
        if letter == b"d" or letter == b"s":
            self.done += 1
        elif letter != b"b":
            self.errors += 1
        if not settlements:
            self.oldest_settlement = time.monotonic()
        settlements.append((claim, place, letter, with_it))
        if self.at_rest:
            self.at_rest = False
            self.nudge.set()

    # -- the claimer's side --------------------------------------------------------------------------

    def send(self, errand: Callable[[], None]) -> None:
        """Let an idle slot do this. It takes no task until that is over."""
        with self.fed:
            self._errand = errand
            self.fed.notify()

    def feed(self, claim: Claim, *, by_slot: bool = False) -> None:
        """Lay claimed tasks before the slots; one that does so itself takes the first."""
        self.queue.extend(self._entries(claim))
        # Where nothing is left to claim, and the slots have it all, they ask again once they are done.
        more = claim.waiting or len(self.queue) > self.slots
        self.low_water = len(self.queue) // 2 if more else -1
        with self.fed:
            self.fed.notify(len(claim.items) - by_slot)

    def hand_back(self, claim: Claim) -> None:
        """Hand back what came although no more is wanted, before a slot can begin with it."""
        for entry in self._entries(claim):
            self._report(entry, HAND_BACK)

    def _entries(self, claim: Claim) -> Iterator[Entry]:
        return zip(repeat(self.generation), repeat(claim.number), count(1), claim.items, strict=False)

    def handing_back(self) -> int:
        """How many tasks are to be handed back with the next settlements."""
        return sum(letter == b"b" for _, _, letter, _ in list(self.settlements))

    def take_settlements(self) -> list[Settlement]:
        """What is to be settled now."""
        # Nobody else takes any out.
        settlements = self.settlements
        return [settlements.popleft() for _ in range(min(MOST, len(settlements)))]

    def take_back(self) -> list[Settlement]:
        """Everything that has not begun, to be handed back."""
        back: list[Entry] = []
        while True:
            try:
                back.append(self.queue.popleft())
            except IndexError:
                return [_handed_back(entry) for entry in self._ours(back)]

    def take_back_begun(self) -> list[Settlement]:
        """What is running, to be handed back by an agent that must not wait for it."""
        back = self._ours([begun.entry for begun in list(self.begun.values())])
        self.generation += 1
        return [_handed_back(entry) for entry in back]

    def drop_all(self) -> int:
        """Forget everything claimed by an actor that was declared dead; how many tasks."""
        self.generation += 1
        dropped = len(self.queue) + len(self.begun) + len(self.settlements)
        self.queue.clear()
        self.settlements = deque()
        return dropped

    def _ours(self, entries: list[Entry]) -> list[Entry]:
        """Those that the present actor has claimed: another one's claims have the same numbers."""
        return [entry for entry in entries if entry[0] == self.generation]

    def close(self) -> None:
        """Let the slots end once the queue is empty."""
        with self.fed:
            self.closed = True
            self.fed.notify_all()

    # -- how much to claim ---------------------------------------------------------------------------

    def wanted(self, waiting: int) -> int:
        """How many tasks to claim now; `waiting` is what the channel held at the last claim."""
        queued = len(self.queue)
        if self.slots == 0 or self._alone():
            return 0
        free = self.free()
        if self.task_s == 0.0 or self.task_s >= WORK_IN_HAND_S or self.stuck():
            return free
        target = min(CLAIMS_IN_HAND * MOST, max(self.slots, int(WORK_IN_HAND_S / self.task_s) * self.slots))
        most = min(MOST, target)
        if queued == 0:
            return most
        # Ahead only while as much again still waits, so that nothing is held back from an idle device; not for a few.
        ahead = min(most, target - queued, waiting // 2)
        return ahead if queued <= target // 2 and 4 * ahead >= most else 0

    def empty(self) -> bool:
        """Whether nothing is in hand, and nothing to be settled."""
        return not (self.queue or self.begun or self.settlements)

    def free(self) -> int:
        """How many slots have nothing to run."""
        return max(0, self.slots - len(self.begun) - len(self.queue))

    def _alone(self) -> bool:
        """Whether a recovered task is in hand: it runs alone, so that a killer takes no other along (law 9)."""
        return any(begun.item[24:25] != b"0" for begun in list(self.begun.values())) or any(
            entry[3][24:25] != b"0" for entry in list(self.queue)[:1]
        )

    def stuck(self) -> bool:
        """Whether every slot has been busy with one task for so long that what waits behind should go back."""
        begun = list(self.begun.values())
        return 0 < self.slots <= len(begun) and time.monotonic() - max(b.at for b in begun) >= LONG_TASK_S

    def pause_s(self) -> float:
        """How long the claimer may sleep unless nudged, in seconds."""
        # Before the settlements are looked at: one that comes behind this look wakes the claimer.
        self.at_rest = True
        now = time.monotonic()
        if self.settlements:
            self.at_rest = False
            return max(0.0, self.oldest_settlement + SETTLE_AGE_S - now)
        begun = list(self.begun.values())
        if self.queue and 0 < self.slots <= len(begun):
            return max(0.001, max(b.at for b in begun) + LONG_TASK_S - now)
        return 1.0

    def running(self) -> list[tuple[str, float]]:
        """The tasks that are running, at most 16: each as text and for how many seconds, the longest first."""
        now = time.monotonic()
        oldest = sorted(self.begun.values(), key=lambda begun: begun.at)[:REPORTED]
        return [(text_of(begun.item), now - begun.at) for begun in oldest]


def _handed_back(entry: Entry) -> Settlement:
    _, claim, place, _ = entry
    return claim, place, *HAND_BACK


def text_of(item: bytes, characters: int = 80) -> str:
    """A task as short text for the dashboard, whatever it is."""
    try:
        task = wire.unpack(item[wire.HEADER_BYTES :][:4096]) if len(item) < 4096 else "(a large task)"
    except wire.Undecodable:
        return "(does not unpack)"
    return in_words(task, characters).encode("utf-8", "backslashreplace").decode("utf-8")
