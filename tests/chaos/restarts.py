"""Agents that are asked to restart again and again, and killed at any moment of it."""

from __future__ import annotations

import contextlib
import time

from mutitask_tui.server.commands.commander import Commander
from mutitask_tui.server.commands.registry import CommandError
from tests.chaos.agents import AGENTS, wait_for_done, wait_for_place
from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, crashed_twice, judge, numbers
from tests.crashes.fleet import NAME


@scenario(
    "agents-restarted", "agents restarted by `restart_one`, half of them killed with `kill -9` meanwhile"
)
def agents_restarted(context: Context) -> Row:
    """A kill comes while the agent drains, leaves, executes itself or registers again."""
    count, times = context.size(3_000, 60_000), context.size(8, 200)
    fleet, random, killed = context.fleet(), context.random, 0
    job = fleet.job(numbers(count, 0.002))
    fleet.serve("--lease", "600", "--capacity", "1000")
    kinds = ("thread", "process")
    starts = [["worker-agent", str(job), "--kind", kinds[n % 2], "--device", str(n)] for n in range(AGENTS)]
    agents = [fleet.start(*start) for start in starts]
    for agent in agents:
        wait_for_place(agent)
    commander = Commander(fleet.redis.url, NAME)
    marks = sorted(random.randrange(int(count * 0.8)) for _ in range(times))
    schedule = [
        (mark, random.randrange(AGENTS), random.random() < 0.5, random.uniform(0, 0.6)) for mark in marks
    ]
    with Watch(fleet) as watch:
        for mark, device, kill, delay in schedule:
            wait_for_done(fleet, mark, lambda: None)
            with contextlib.suppress(CommandError):  # Between two starts, nobody is on the device.
                commander.restart_one(device)
            if kill:
                time.sleep(delay)
                agents[device].kill()
                killed += 1
                agents[device] = fleet.start(*starts[device])
                wait_for_place(agents[device])
        row = judge(context, fleet, watch, count, times=times)
    recorded = fleet.results()
    row.expect(all(agent.running for agent in agents), "an agent ended by itself")
    row.remarks.append(f"{killed} killed, with a lease of 600 s")
    row.remarks.append(
        f"{sum(r.crashes > 0 for r in recorded):,} tasks ran again, {crashed_twice(recorded)} twice"
    )
    return row
