"""A bench: agents in threads of the test, fed by a real server core, so that a test can see into task functions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import redis

from mutitask_tui.server.commands.commander import Commander
from mutitask_tui.server.core import ServerCore
from mutitask_tui.server.reader import Reader, Result
from mutitask_tui.server.snapshot import ChannelView, FailedTask
from tests.run_plan import run_plan
from tests.support.waiting import wait_until
from worker_agent.agent.agent import Agent
from worker_agent.protocol.keys import ChannelKeys, Keys
from worker_agent.protocol.served_channels import Served
from worker_agent.settings import Kind, LifecycleFunctions, Settings, no_lifecycle

NAME = "bench"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The counters, results and failed tasks of a run."""

    counters: ChannelView
    results: list[Result]
    """In the order of the items."""
    failed: list[FailedTask]
    """In the order of the items."""

    @property
    def values(self) -> list[Any]:
        return [result.value for result in self.results]


class Bench:
    """One namespace with a server core and agents in this process."""

    def __init__(self, url: str, client: redis.Redis) -> None:
        self.url = url
        self.client = client
        self.keys = Keys(NAME)
        self.commands = Commander(url, NAME)
        self.agents: list[Agent] = []
        self._reader = Reader(url, NAME)
        self._threads: list[threading.Thread] = []
        self._cores: list[ServerCore] = []

    @property
    def at(self) -> ChannelKeys:
        return self.keys.channel(0)

    def serve(self, *items: Iterable[Any], autostart: bool = True, **plan: Any) -> ServerCore:
        """Feed the items of each channel to a new run."""
        terms = {"capacity": 2_000, "devices": 1} | plan
        plan = run_plan(channels=len(items), autostart=autostart, mode="fresh", **terms)
        core = ServerCore(self.url, NAME, plan, [iter(each) for each in items])
        core.open()
        core.start()
        self._cores.append(core)
        return core

    def agent(
        self, task_function: Callable[[Any], Any] = print, save_function: Callable[[Any], Any] | None = None,
        *, device: int = 0, concurrency: int = 1, timeout: float | None = None, served: Served = None,
        weights: tuple[float, ...] = (), strict: bool = False,
        function_of: Callable[[int], Callable[[Any], Any]] | None = None, kind: Kind = "thread",
        lifecycle: LifecycleFunctions = no_lifecycle,
    ) -> Agent:  # fmt: skip
        """Start an agent, and return once it has its device. `function_of` returns the function of a channel."""
        function_of = function_of or (lambda _channel: task_function)
        settings = Settings(
            address=lambda: self.url, name=NAME, device=device, served=served, concurrency=concurrency,
            functions=lambda channel: (function_of(channel), save_function), timeout=timeout,
            weights=weights, strict=strict, kind=kind, lifecycle=lifecycle,
        )  # fmt: skip
        agent = Agent(settings)
        thread = threading.Thread(target=agent.run, daemon=True)
        self.agents.append(agent)
        self._threads.append(thread)
        thread.start()
        wait_until(lambda: agent.state.session is not None, what="the agent has its device")
        return agent

    def run(
        self, items: Iterable[Any], task_function: Callable[[Any], Any],
        save_function: Callable[[Any], Any] | None = None, *, concurrency: int = 1, **plan: Any,
    ) -> Outcome:  # fmt: skip
        """Run all items with one agent, and return the outcome."""
        self.serve(items, **plan)
        self.agent(task_function, save_function, concurrency=concurrency)
        return self.outcome()

    def counters(self) -> ChannelView:
        counters = self._reader.snapshot().channels[0]
        assert counters.balanced, counters
        return counters

    def channels(self) -> tuple[ChannelView, ...]:
        return self._reader.snapshot().channels

    def values(self, channel: int) -> list[Any]:
        """Return the values of a channel's results."""
        return [r.value for r in self._reader.results(channel, 0, 10_000)[1] if isinstance(r, Result)]

    def wait_for(self, condition: Callable[[ChannelView], object], timeout: float = 20.0) -> ChannelView:
        """Wait until the counters meet the condition, and return them. Each look expects them to be balanced."""

        def met() -> ChannelView | None:
            counters = self.counters()
            return counters if condition(counters) else None

        return wait_until(met, timeout, what="the counters meet the condition")

    def outcome(self) -> Outcome:
        """Wait until every task is done or failed, and return the outcome."""
        counters = self.wait_for(lambda b: b.exhausted and b.open == 0)
        results = [r for r in self._reader.results(0, 0, 10_000)[1] if isinstance(r, Result)]
        failed = list(self._reader.failed_tasks(0, 0, 10_000))
        by_number: Callable[[Any], int] = lambda task: task.number  # noqa: E731
        return Outcome(counters, sorted(results, key=by_number), sorted(failed, key=by_number))

    def claimed_by(self, agent: Agent) -> int:
        session = agent.state.session
        assert session
        return int(self.client.hget(self.at.claim_counts, session.actor.id) or 0)

    def stop(self) -> None:
        """Stop agents and servers in order. Another run can follow."""
        for agent in self.agents:
            agent.stop()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "an agent did not stop"
        for core in self._cores:
            core.stop()
            assert core.failure is None, core.failure
        for started in (self.agents, self._threads, self._cores):
            started.clear()
