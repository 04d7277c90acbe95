"""A thousand agents that start in the same second, lose Redis, and reconnect in the same second.

A few processes (`benchmarks/simulated.py`) simulate them. Each process speaks the real protocol for its agents.
"""

from __future__ import annotations

import time

from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, enough, judge, until_enough
from tests.crashes.fleet import Fleet
from tests.support.programs import Program
from tests.support.waiting import wait_until

PROCESSES = 4
TASK_MS = 200
START_S = 2.0
"""The time in which the processes start. Then all agents register."""


def reported_ms(fleet: Fleet) -> list[int]:
    """Return the time of each device's last report, by Redis's clock, in ms."""
    return [int(line[:13]) for line in fleet.client.hvals(fleet.keys.devices)]


def now_ms(fleet: Fleet) -> int:
    seconds, micros = fleet.client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def start_all(fleet: Fleet, agents: int, task_ms: int = TASK_MS) -> tuple[list[Program], float]:
    """Start all agents. Return the processes, and the seconds between the first and the last registration."""
    each, at = agents // PROCESSES, time.time() + START_S
    processes = [
        fleet.start(
            "python", "-m", "benchmarks.simulated", "--first", str(number * each), "--count", str(each),
            "--task-ms", str(task_ms), "--batch", "5", "--results", "--at", str(at),
            # Without this option they yield the CPU to other processes and could miss their leases.
            "--eager",
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    wait_until(lambda: fleet.client.hlen(fleet.keys.devices) == agents, 60, what="every agent has reported")
    actors = fleet.client.hvals(fleet.keys.agents)
    came = [int(fleet.client.hget(fleet.keys.actor(actor.decode()), "since_ms") or 0) for actor in actors]
    return processes, (max(came) - min(came)) / 1000


@scenario("thousand", "simulated agents that start at once, lose Redis (`kill -9`) and reconnect at once")
def thousand(context: Context) -> Row:
    agents, kills = context.size(300, 1_000), context.size(1, 5)
    fleet = context.fleet(on=context.redis(durable=True, fsync="always"))
    fleet.job(until_enough())
    server = fleet.serve("--capacity", str(3 * agents), "--devices", str(agents))
    processes, joined_s = start_all(fleet, agents)
    back_s = 0.0
    with Watch(fleet, look_s=0.25) as watch:
        for _ in range(kills):
            mark = fleet.counters().done + context.random.randrange(agents, 5 * agents)
            fleet.wait_for(lambda counters, mark=mark: counters.done >= mark, 60)
            fleet.redis.kill()
            time.sleep(context.random.uniform(0, context.size(1, 10)))
            fleet.redis.start()
            started_at = now_ms(fleet)
            wait_until(
                lambda since=started_at: min(reported_ms(fleet)) >= since,
                60,
                what="every agent reports again",
            )
            back_s = max(back_s, (now_ms(fleet) - started_at) / 1000)
        row = judge(context, fleet, watch, enough(fleet), times=kills, timeout=120)
    row.fault = f"{agents:,} {row.fault}"
    row.expect(all(program.running for program in (server, *processes)), f"one ended: {server} {processes}")
    crashed = sum(each.crashes > 0 for each in fleet.results())
    row.expect(crashed == 0, f"{crashed} tasks were taken from agents that lived")
    row.remarks.append(
        f"{agents:,} agents registered within {joined_s:.1f} s; all reported again after at most {back_s:.1f} s"
    )
    return row
