"""Agents, server and Redis killed in one schedule."""

from __future__ import annotations

import time

from tests.chaos.agents import wait_for_done, wait_for_place
from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, crashed_twice, judge, numbers
from tests.crashes.fleet import Fleet

VICTIMS = ("agent", "agent", "agent", "server", "Redis")
OPTIONS = ("--lease", "600")
AGENTS = 3


class RestartedServer:
    """A server that is restarted after each kill, and if it could not start because Redis was away (status 3)."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.program = fleet.serve(*OPTIONS, "--capacity", "400")
        self.refused = 0

    def kill(self) -> None:
        self.program.kill()
        self.program = self._fleet.newcomer(*OPTIONS, "--resume")

    def look(self) -> None:
        if self.program.running:
            return
        assert self.program.wait() == 3, self.program
        self.refused += 1
        self.program = self._fleet.newcomer(*OPTIONS, "--resume")


@scenario("everything-killed", "agents, server and Redis killed in one schedule, each restarted at once")
def everything_killed(context: Context) -> Row:
    count, kills = context.size(3_000, 45_000), context.size(8, 150)
    random = context.random
    fleet = context.fleet(on=context.redis(durable=True, fsync="always"))
    fleet.job(numbers(count))
    server = RestartedServer(fleet)
    agents = [fleet.agent("--device", str(device)) for device in range(AGENTS)]
    schedule = [
        (mark, random.choice(VICTIMS), random.randrange(AGENTS), random.uniform(0, 0.1))
        for mark in sorted(random.randrange(int(count * 0.9)) for _ in range(kills))
    ]
    with Watch(fleet) as watch:
        for mark, victim, device, delay in schedule:
            wait_for_done(fleet, mark, server.look)
            time.sleep(delay)
            if victim == "Redis":
                fleet.redis.kill()
                fleet.redis.start()
            elif victim == "server":
                server.kill()
            else:
                wait_for_place(agents[device])
                agents[device].kill()
                agents[device] = fleet.candidate("--device", str(device))
        wait_for_done(fleet, count, server.look)
        row = judge(context, fleet, watch, count, times=kills)
    row.expect(all(agent.running for agent in agents), f"one ended: {agents}")
    victims = [victim for _, victim, _, _ in schedule]
    row.remarks.append(
        ", ".join(f"{each} {victims.count(each)} times" for each in ("agent", "server", "Redis"))
    )
    row.remarks.append(f"{crashed_twice(fleet.results())} tasks ran three times")
    if server.refused:
        row.remarks.append(f"{server.refused} servers started while Redis was away, and were restarted")
    return row
