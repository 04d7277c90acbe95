"""Agents, server and Redis killed in one schedule."""

from __future__ import annotations

import time

from tests.chaos.agents import wait_for_done, wait_for_place
from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, crashed_twice, judge, numbers

VICTIMS = ("agent", "agent", "agent", "server", "redis")
AGENTS = 3


@scenario("everything-killed", "agents, server and Redis killed in one schedule, each started again at once")
def everything_killed(context: Context) -> Row:
    count, kills = context.size(3_000, 60_000), context.size(8, 200)
    random = context.random
    fleet = context.fleet(on=context.redis(durable=True, fsync="always"))
    fleet.job(numbers(count))
    server = fleet.serve("--lease", "600", "--capacity", "400")
    agents = [fleet.agent("--device", str(device)) for device in range(AGENTS)]
    schedule = [
        (mark, random.choice(VICTIMS), random.randrange(AGENTS), random.uniform(0, 0.1))
        for mark in sorted(random.randrange(int(count * 0.9)) for _ in range(kills))
    ]
    with Watch(fleet) as watch:
        for mark, victim, device, delay in schedule:
            wait_for_done(fleet, mark)
            time.sleep(delay)
            if victim == "redis":
                fleet.redis.kill()
                fleet.redis.start()
            elif victim == "server":
                server.kill()
                server = fleet.newcomer("--lease", "600", "--resume")
            else:
                wait_for_place(agents[device])
                agents[device].kill()
                agents[device] = fleet.candidate("--device", str(device))
        row = judge(context, fleet, watch, count, times=kills)
    row.expect(all(program.running for program in (server, *agents)), f"one ended: {server} {agents}")
    victims = [victim for _, victim, _, _ in schedule]
    row.remarks.append(
        ", ".join(f"{each} {victims.count(each)} times" for each in ("agent", "server", "redis"))
    )
    row.remarks.append(f"{crashed_twice(fleet.results())} tasks ran three times")
    return row
