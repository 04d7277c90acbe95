"""Measures how fast one system drains one backlog, and what that costs Valkey."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import ParamSpec, TypeVar

from benchmarks import limit
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import Options
from benchmarks.processes import BrokenRun, Workspace
from benchmarks.proxy import delayed
from benchmarks.systems import Peer
from benchmarks.valkey import Valkey, valkey


@dataclass(frozen=True, slots=True)
class Drain:
    """The figures of one backlog that was fed into Redis and then drained."""

    tasks: int
    """The number of tasks."""
    fed_per_s: float
    """Tasks fed per second; 0 if not measured."""
    drained_per_s: float
    """Tasks drained per second."""
    feed_us: float
    """Valkey's CPU to feed one task, in us."""
    drain_us: float
    """Valkey's CPU to drain one task, in us."""
    memory: float = 0.0
    """Valkey's memory for one waiting task, in bytes."""

    def as_dict(self) -> dict[str, float]:
        """Return the figures as plain data for JSON."""
        return asdict(self)


@contextlib.contextmanager
def redis_under_test(persistence: str, delay_ms: float = 0.0) -> Iterator[tuple[Valkey, str]]:
    """Start a Valkey. Yield it and the URL for the systems, which adds `delay_ms` to each request."""
    with valkey(persistence) as server:
        if delay_ms:
            with delayed(server.port, delay_ms) as port:
                yield server, f"redis://127.0.0.1:{port}/0"
        else:
            yield server, server.url


def drain_peer(peer: Peer, persistence: str, options: Options, delay_ms: float = 0.0) -> Drain:
    """Measure a peer, from the start of its first task to the end of its last. The worker's start does not count."""
    if not peer.redis:
        with Workspace(options) as workspace:
            took = float(workspace.run_peer(peer, "whole")["seconds"])
        return Drain(options.tasks, 0.0, options.tasks / took, 0.0, 0.0)
    with (
        redis_under_test(persistence, delay_ms) as (server, url),
        Workspace(replace(options, url=url)) as workspace,
    ):
        empty, idle_cpu = server.memory(), server.cpu_s()
        took = float(workspace.run_peer(peer, "feed")["seconds"])
        memory, fed_cpu = server.memory() - empty, server.cpu_s()
        workspace.start_peer(peer, "work")
        first, last = workspace.wait_until_run(options.tasks)
        drain_cpu = server.cpu_s() - fed_cpu
    tasks = options.tasks
    seconds = last - first + (options.nap_ms / 1000 if options.function == "nap" else 0.0)
    return Drain(
        tasks,
        tasks / took,
        tasks / seconds,
        (fed_cpu - idle_cpu) / tasks * 1e6,
        drain_cpu / tasks * 1e6,
        memory / tasks,
    )


def drain_mutitask(persistence: str, options: Options, delay_ms: float = 0.0, warm_up: int = 0) -> Drain:
    """Measure MutiTask, from the command that resumes the agent until the counters show that all tasks are done.

    With `warm_up` the clock starts when that many tasks are done.
    """
    with (
        redis_under_test(persistence, delay_ms) as (server, url),
        Workspace(replace(options, url=url)) as workspace,
    ):
        system = MutiTask(workspace, server)
        system.add_agents()
        empty, idle_cpu = server.memory(), server.cpu_s()
        system.start_feed()
        took = system.wait_until_fed().seconds
        memory, fed_cpu = server.memory() - empty, server.cpu_s()
        started = system.resume_agents()
        if warm_up:
            started = system.wait_until_done(warm_up)
            warm_up = system.done_count()
        ended = system.wait_until_done(options.tasks)
        drain_cpu = server.cpu_s() - fed_cpu
    tasks = options.tasks
    return Drain(
        tasks,
        tasks / took,
        (tasks - warm_up) / (ended - started),
        (fed_cpu - idle_cpu) / tasks * 1e6,
        drain_cpu / tasks * 1e6,
        memory / tasks,
    )


def drain_bare(
    persistence: str, tasks: int, batch: int, delay_ms: float = 0.0, *, payload: int = 0, apart: bool = False
) -> Drain:
    """Measure the bare loop, which is the limit. `payload` in bytes; `apart`: bodies go apart from their items."""
    with redis_under_test(persistence, delay_ms) as (server, url):
        idle_cpu = server.cpu_s()
        fed_per_s = (limit.fill_apart if apart else limit.fill)(url, tasks, batch, payload)
        fed_cpu = server.cpu_s()
        drained_per_s = (limit.drain_apart if apart else limit.drain)(url, tasks, batch)
        drain_cpu = server.cpu_s() - fed_cpu
    return Drain(tasks, fed_per_s, drained_per_s, (fed_cpu - idle_cpu) / tasks * 1e6, drain_cpu / tasks * 1e6)


P = ParamSpec("P")
R = TypeVar("R")


def run_or_report(label: str, run: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R | None:
    """Run a measurement. If it is broken, print the reason and return None, so that the others continue."""
    try:
        return run(*arguments, **named)
    except BrokenRun as error:
        print(f"  {label}: {error}", flush=True)
        return None


def plain_loop(tasks: int) -> float:
    """Call the no-op in a plain Python loop. Return the calls per second."""
    from benchmarks.noop_job import task_function

    started = time.perf_counter()
    for task in range(tasks):
        task_function(task)
    return tasks / (time.perf_counter() - started)
