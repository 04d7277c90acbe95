"""What the parts have in common: one drain of a backlog by one system, as one figure with what it cost Valkey."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from benchmarks import limit
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import Options
from benchmarks.processes import Broken, desk
from benchmarks.proxy import delayed
from benchmarks.systems import Peer
from benchmarks.valkey import Valkey, valkey


@dataclass(frozen=True, slots=True)
class Drain:
    """One backlog put into Redis and worked off: both in tasks a second, and Valkey's CPU for each task, in us."""

    tasks: int
    fed_per_s: float
    drained_per_s: float
    feed_us: float
    drain_us: float
    memory: float = 0.0
    """Valkey's bytes for each waiting task."""

    def told(self) -> dict[str, float]:
        """As JSON has it."""
        return asdict(self)


@contextlib.contextmanager
def place(persistence: str, delay_ms: float = 0.0) -> Iterator[tuple[Valkey, str]]:
    """A Valkey, and the address at which the systems reach it: with a delay before it where one is asked for."""
    with valkey(persistence) as server:
        if delay_ms:
            with delayed(server.port, delay_ms) as port:
                yield server, f"redis://127.0.0.1:{port}/0"
        else:
            yield server, server.url


def drain_peer(peer: Peer, persistence: str, options: Options, delay_ms: float = 0.0) -> Drain:
    """A peer: from the start of its first task to the end of its last; the worker's own start does not count."""
    if not peer.redis:
        with desk(options) as here:
            took = float(here.told(peer, "whole")["seconds"])
        return Drain(options.tasks, 0.0, options.tasks / took, 0.0, 0.0)
    with place(persistence, delay_ms) as (server, url), desk(replace(options, url=url)) as here:
        empty, idle = server.memory(), server.cpu_s()
        took = float(here.told(peer, "feed")["seconds"])
        held, fed = server.memory() - empty, server.cpu_s()
        here.peer(peer, "work")
        first, last = here.until_run(options.tasks)
        cpu = server.cpu_s() - fed
    tasks = options.tasks
    seconds = last - first + (options.nap_ms / 1000 if options.function == "nap" else 0.0)
    return Drain(
        tasks, tasks / took, tasks / seconds, (fed - idle) / tasks * 1e6, cpu / tasks * 1e6, held / tasks
    )


def drain_mutitask(persistence: str, options: Options, delay_ms: float = 0.0, warm_up: int = 0) -> Drain:
    """MutiTask: from the command that starts the agent until the books say that all are done.

    With `warm_up` the clock starts once so many are done.
    """
    with place(persistence, delay_ms) as (server, url), desk(replace(options, url=url)) as here:
        system = MutiTask(here, server)
        system.join()
        empty, idle = server.memory(), server.cpu_s()
        system.feed()
        took = system.fed().seconds
        held, fed = server.memory() - empty, server.cpu_s()
        began = system.start_agents()
        if warm_up:
            began = system.until_done(warm_up)
            warm_up = system.done()
        ended = system.until_done(options.tasks)
        cpu = server.cpu_s() - fed
    tasks = options.tasks
    return Drain(
        tasks,
        tasks / took,
        (tasks - warm_up) / (ended - began),
        (fed - idle) / tasks * 1e6,
        cpu / tasks * 1e6,
        held / tasks,
    )


def drain_bare(persistence: str, tasks: int, batch: int, delay_ms: float = 0.0) -> Drain:
    """The bare loop, which is the limit."""
    with place(persistence, delay_ms) as (server, url):
        idle = server.cpu_s()
        fed = limit.fill(url, tasks, batch)
        after = server.cpu_s()
        drained = limit.drain(url, tasks, batch)
        cpu = server.cpu_s() - after
    return Drain(tasks, fed, drained, (after - idle) / tasks * 1e6, cpu / tasks * 1e6)


def tried(what: str, run, *arguments, **named):  # type: ignore[no-untyped-def]
    """A measurement of a peer; a broken one is said and is None, so that the others go on."""
    try:
        return run(*arguments, **named)
    except Broken as error:
        print(f"  {what}: {error}", flush=True)
        return None


def plain_loop(tasks: int) -> float:
    """The no-op called in a plain Python loop, in tasks a second."""
    from benchmarks.noop_job import task_function

    began = time.perf_counter()
    for task in range(tasks):
        task_function(task)
    return tasks / (time.perf_counter() - began)
