"""Fork servers and child processes killed while their agents go on."""

from __future__ import annotations

import contextlib
import os
import signal

from tests.agent.process_jobs import children_of, fork_server_of
from tests.chaos.agents import wait_for_done, wait_for_place
from tests.chaos.killers import expect_all_crashed, job_with_killers
from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, coroutines, judge, numbers
from tests.crashes.fleet import Fleet
from tests.support.programs import Program

KINDS = (
    ("--kind", "process", "--concurrency", "2"),
    ("--kind", "asyncio", "--processes", "2", "--concurrency", "20"),
)


def agents_of_each_kind(fleet: Fleet) -> list[Program]:
    """Start one agent for each of `KINDS`. Return once all have their devices."""
    agents = [fleet.candidate("--device", str(n), *kind) for n, kind in enumerate(KINDS)]
    for agent in agents:
        wait_for_place(agent)
    return agents


def marks_for_kills(context: Context, count: int, times: int) -> list[int]:
    """Return at how many done tasks to kill, in the first four fifths of the tasks."""
    return sorted(context.random.randrange(int(count * 0.8)) for _ in range(times))


@scenario(
    "fork-servers-killed",
    "fork servers killed with `kill -9`, of agents with `--kind process` and `--processes 2`",
)
def fork_servers_killed(context: Context) -> Row:
    """No task was running in the fork server, so none counts a crash."""
    count, times = context.size(4_000, 100_000), context.size(6, 100)
    fleet = context.fleet()
    fleet.job(coroutines(count, 0.002))
    fleet.serve("--lease", "600", "--capacity", "1000")
    agents, marks = agents_of_each_kind(fleet), marks_for_kills(context, count, times)
    killed = 0
    with Watch(fleet) as watch:
        for mark in marks:
            wait_for_done(fleet, mark, lambda: None)
            with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
                os.kill(fork_server_of(context.random.choice(agents)), signal.SIGKILL)
                killed += 1
        row = judge(context, fleet, watch, count, times=times)
    recorded = fleet.results()
    row.expect(all(agent.running for agent in agents), "an agent ended")
    row.expect(not any(each.crashes for each in recorded), "a task counts a crash")
    row.remarks.append(f"{killed} killed; no task ran again")
    return row


@scenario("children-killed", "child processes killed with `kill -9`, of the same agents")
def children_killed(context: Context) -> Row:
    """A task that is hit three times by chance would fail, so the tasks are short and many."""
    count, times = context.size(6_000, 100_000), context.size(6, 60)
    fleet = context.fleet()
    fleet.job(numbers(count, 0.001))
    fleet.serve("--lease", "600", "--capacity", "1000")
    agents, marks = agents_of_each_kind(fleet), marks_for_kills(context, count, times)
    with Watch(fleet) as watch:
        for mark in marks:
            wait_for_done(fleet, mark, lambda: None)
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                if children := children_of(context.random.choice(agents)):
                    os.kill(context.random.choice(children), signal.SIGKILL)
        row = judge(context, fleet, watch, count, times=times, timeout=300)
    row.expect(all(agent.running for agent in agents), "an agent ended")
    row.remarks.append(f"{sum(each.crashes > 0 for each in fleet.results()):,} tasks ran again, each alone")
    return row


@scenario("killers-in-event-loops", "tasks that kill their process, in `--kind asyncio --processes 2`")
def killers_in_event_loops(context: Context) -> Row:
    """Twenty tasks die with each killer. They run alone next, so only the killers fail."""
    count, many = context.size(1_500, 10_000), context.size(2, 20)
    killers = dict.fromkeys(context.random.sample(range(count), many), "os.kill(os.getpid(), 9)")
    fleet = context.fleet()
    fleet.job(job_with_killers(count, killers))
    fleet.serve("--lease", "600", "--capacity", "400")
    agent = fleet.candidate("--device", "0", *KINDS[1])
    wait_for_place(agent)
    with Watch(fleet) as watch:
        row = judge(context, fleet, watch, count, times=many, killers=killers, timeout=300)
    expect_all_crashed(row, fleet)
    row.expect(agent.running, f"the agent ended: {agent}")
    row.remarks.append("no agent ended")
    return row
