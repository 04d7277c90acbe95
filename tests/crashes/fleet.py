"""One namespace run by real processes: its server, its agents, its counters and its results."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from mutitask_tui.server.reader import Reader
from mutitask_tui.server.snapshot import ChannelView, DeviceView, FailedTask, Snapshot
from tests.support.programs import Program
from tests.support.proxy import Proxy
from tests.support.redis_server import RealServer
from tests.support.waiting import wait_until
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.keys import ChannelKeys, Keys

NAME = "crash"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One entry of a result channel."""

    number: int
    attempt: int
    crashes: int
    device: int
    value: Any


class Fleet:
    """Start programs that use one Redis, and read what they write there."""

    def __init__(self, redis_server: RealServer, spawn: Callable[..., Program], folder: Path) -> None:
        self.redis = redis_server
        self.keys = Keys(NAME)
        self.folder = folder
        self.job_path = folder / "job.py"
        self._spawn = spawn
        self._reader = Reader(redis_server.url, NAME)
        self._client = redis_server.client()
        self._programs_url = redis_server.url

    # Programs

    def job(self, text: str) -> Path:
        """Write the job file. The name `FOLDER` in it is the folder of the test."""
        return write_job(self.folder, text)

    def serve(self, *options: str, autostart: bool = True) -> Program:
        """Start a headless server. Return when it holds the namespace and feeds it."""
        started = ["--autostart"] if autostart else []
        program = self.start("mutitask", "run", self.job_path, "--headless", *started, *options)
        wait_until(lambda: self._holds(program), 20, what="the server holds the namespace")
        wait_for_text(program, "\n", times=2)  # The first progress line: it feeds, and handles signals.
        return program

    def newcomer(self, *options: str) -> Program:
        """Start a server that may have to wait or be refused."""
        return self.start("mutitask", "run", self.job_path, "--headless", *options)

    def agent(self, *options: str) -> Program:
        """Start an agent. Return when it has its device."""
        program = self.candidate(*options)
        wait_for_text(program, " serves ")
        return program

    def agent_later(self, *options: str) -> Program:
        """Start an agent before its server. Return when it waits for the server."""
        program = self.candidate(*options)
        wait_for_text(program, "waiting for a server")
        return program

    def candidate(self, *options: str) -> Program:
        """Start an agent that may have to wait or be refused."""
        return self.start("worker-agent", self.job_path, *options)

    def ctl(self, *words: str) -> str:
        """Run `mutitask ctl` with these words. Return its output."""
        program = self.start("mutitask", "ctl", *words, "--yes")
        assert program.wait() == 0, program
        return program.stdout

    def start(self, *args: str | Path, redis_url: str = "") -> Program:
        """Start a program of this environment in this namespace."""
        return self._spawn(
            [*args, "--name", NAME], env={"MUTITASK_REDIS_URL": redis_url or self._programs_url}
        )

    @contextmanager
    def through(self, proxy: Proxy) -> Iterator[None]:
        """Start all programs of the `with` block with the proxy's address. This object connects directly."""
        with self.at_address(proxy.url(self.redis.url)):
            yield

    @contextmanager
    def at_address(self, url: str) -> Iterator[None]:
        """Start all programs of the `with` block with this address. This object keeps its own address."""
        self._programs_url = url
        try:
            yield
        finally:
            self._programs_url = self.redis.url

    def _holds(self, program: Program) -> bool:
        assert program.running, program
        server = self.snapshot().server if self._client.exists(self.keys.meta) else None
        return server is not None and server.pid == program.pid

    # State in Redis

    def at(self, channel: int = 0) -> ChannelKeys:
        return self.keys.channel(channel)

    @property
    def client(self) -> redis.Redis:
        return self._client

    def snapshot(self) -> Snapshot:
        return self._reader.snapshot()

    def counters(self, channel: int = 0) -> ChannelView:
        return self.snapshot().channels[channel]

    def device(self, number: int) -> DeviceView:
        return self.snapshot().devices[number]

    def held_by(self, program: Program) -> int:
        """Return the number of tasks that the agent has claimed."""
        return sum(int(self._client.hget(self.at(c).claim_counts, a) or 0) for a in self._actors(program)
                   for c in range(len(self.snapshot().channels)))  # fmt: skip

    def actor_of(self, program: Program) -> str:
        """Return the actor of an agent that has a device."""
        (actor,) = self._actors(program)
        return actor

    def is_placed(self, program: Program) -> bool:
        """Return whether an agent has a device."""
        return bool(self._actors(program))

    def _actors(self, program: Program) -> list[str]:
        actors = [actor.decode() for actor in self._client.hvals(self.keys.agents)]
        return [a for a in actors if int(self._client.hget(self.keys.actor(a), "pid") or 0) == program.pid]

    def results(self, channel: int = 0) -> list[Recorded]:
        """Return all results in the order in which they were recorded."""
        recorded = []
        lines = self._client.lrange(self.at(channel).results, 0, -1)
        for line in self._reader.bodies.inline(channel, lines):
            item = list_item.parse(line)
            device, _, value = wire.unpack(item.body)
            recorded.append(Recorded(item.number, item.attempt, item.crashes, device, value))
        return recorded

    def waiting_counts(self, channel: int = 0) -> dict[int, tuple[int, int]]:
        """Return the attempts and crashes of each waiting task, by its number."""
        items = [list_item.parse(line) for line in self._client.lrange(self.at(channel).waiting, 0, -1)]
        return {item.number: (item.attempt, item.crashes) for item in items}

    def failed(self, channel: int = 0) -> list[FailedTask]:
        return list(self._reader.failed_tasks(channel, 0, 1_000))

    def wait_for(self, condition: Callable[[ChannelView], object], timeout: float = 30.0) -> ChannelView:
        """Wait until the counters of channel 0 meet the condition, and return them.

        Expects that the counters balance in every snapshot.
        """

        def met() -> ChannelView | None:
            counters = self.counters()
            assert counters.balanced, counters
            return counters if condition(counters) else None

        return wait_until(met, timeout, what="the counters meet the condition")

    def wait_until_over(self, count: int, timeout: float = 40.0) -> ChannelView:
        """Wait until `count` tasks are allotted and each is done or failed. Return the counters."""
        return self.wait_for(lambda b: b.exhausted and b.allotted == count and b.open == 0, timeout)

    def expect_each_once(self, expected: list[Any], *, failed: int = 0) -> list[Recorded]:
        """Expect that every item was allotted once, in order, and recorded exactly once unless it failed."""
        counters = self.wait_until_over(len(expected))

        def all_results() -> list[Recorded] | None:
            found = self.results()
            if len(found) != counters.done:
                # This connection may be one to a former master, which shows its old list.
                self._client = self.redis.client()
                return None
            return found

        recorded = wait_until(all_results, 20, what=f"the results of {counters.done} done tasks")
        results = sorted(recorded, key=lambda each: each.number)
        numbers = [recorded.number for recorded in results]
        assert len(set(numbers)) == len(numbers), "a result was recorded twice"
        assert (counters.done, counters.failed, counters.deleted) == (len(expected) - failed, failed, 0)
        if not failed:
            assert numbers == list(range(len(expected)))
        wrong = [(r.number, r.value) for r in results if r.value != expected[r.number]]
        assert not wrong, f"results that are not as expected: {wrong[:5]}"
        return results

    # Faults at a chosen moment

    def freeze_with_claims(self, agent: Program, least: int = 2) -> None:
        """Freeze an agent while it has claimed at least `least` tasks."""
        self.freeze_while(agent, lambda: self.held_by(agent) >= least, f"the agent has claimed {least} tasks")

    def freeze_while(self, agent: Program, condition: Callable[[], bool], what: str) -> None:
        """Freeze an agent at a moment when the condition holds."""

        def caught() -> bool:
            agent.freeze()
            wait_until(lambda: state_of(agent) == "T", what="the agent is stopped")
            if condition():
                return True
            agent.thaw()
            return False

        wait_until(caught, 20, what=what)

    def every_write_on_disk(self) -> None:
        """Make a durable Redis answer only after a write is on the disk."""
        self._client.config_set("appendfsync", "always")

    def wait_for_stall(self, agent: Program) -> None:
        """Wait until an agent notices that Redis does not answer."""
        wait_for_text(agent, "did not answer in time")

    def close(self) -> None:
        self._client.close()


def write_job(folder: Path, text: str) -> Path:
    """Write a job file into a folder. The name `FOLDER` in the job is this folder."""
    path = folder / "job.py"
    path.write_text(f"FOLDER = {str(folder)!r}\n{textwrap.dedent(text)}")
    return path


def wait_for_text(program: Program, text: str, times: int = 1) -> None:
    """Wait until a program has written `text` to stderr `times` times. Fails if the program ends before."""

    def written() -> bool:
        over = not program.running
        there = program.stderr.count(text) >= times
        assert there or not over, f"ended with {program.wait()} before it wrote {text!r}: {program}"
        return there

    wait_until(written, 20, what=f"it writes {text!r} ({program.stderr_path})")


def state_of(program: Program) -> str:
    """Return the state letter of a process: R runs, S sleeps, T is stopped."""
    text = Path(f"/proc/{program.pid}/stat").read_text()
    return text[text.rindex(")") + 2]


@contextmanager
def closing(fleet: Fleet) -> Iterator[Fleet]:
    try:
        yield fleet
    finally:
        fleet.close()
