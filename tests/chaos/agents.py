"""Agents killed with `kill -9`: detected at once on the same machine, by their lease on another machine."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, coroutines, crashed_twice, judge, numbers
from tests.crashes.fleet import Fleet
from tests.support.programs import Program
from tests.support.waiting import wait_until

AGENTS = 4


class RecoveryTimer:
    """Measure how long the tasks of each killed agent stay claimed by it. All times are in seconds."""

    def __init__(self, fleet: Fleet) -> None:
        self.longest_s = 0.0
        self.with_tasks = 0
        """The number of killed agents that had tasks in flight."""
        self._fleet = fleet
        self._dead: dict[bytes | str, float] = {}

    def add(self, actor: bytes | str | None) -> None:
        """Note that an agent was killed just now."""
        if actor is not None and self._fleet.client.hexists(self._fleet.at().claim_counts, actor):
            self._dead[actor] = time.monotonic()
            self.with_tasks += 1

    def look(self) -> bool:
        """Remove the agents whose tasks are recovered. Return whether none is left."""
        if not self._dead:
            return True
        holders = set(self._fleet.client.hkeys(self._fleet.at().claim_counts))
        now = time.monotonic()
        for actor in [actor for actor in self._dead if actor not in holders]:
            self.longest_s = max(self.longest_s, now - self._dead.pop(actor))
        return not self._dead


def wait_for_place(agent: Program, look: Callable[[], object] = lambda: None) -> None:
    """Wait until an agent has its device. Call `look` all the time."""

    def placed() -> bool:
        look()
        return " serves " in agent.stderr or not agent.running

    wait_until(placed, 60, what="the agent has its device")
    assert agent.running, agent


def kill_again_and_again(
    context: Context, fleet: Fleet, start: list[str], count: int, kills: int
) -> RecoveryTimer:
    """Kill one of four agents at each of `kills` random marks of done tasks, and restart it at once."""
    agents = [fleet.start(*start, "--device", str(device)) for device in range(AGENTS)]
    for agent in agents:
        wait_for_place(agent)
    random, recovery = context.random, RecoveryTimer(fleet)
    schedule = [
        (mark, random.randrange(AGENTS), random.uniform(0, 0.05))
        for mark in sorted(random.randrange(int(count * 0.8)) for _ in range(kills))
    ]
    for mark, device, delay in schedule:
        wait_for_done(fleet, mark, recovery.look)
        wait_for_place(agents[device], recovery.look)
        time.sleep(delay)
        actor = fleet.client.hget(fleet.keys.agents, str(device))
        agents[device].kill()
        recovery.add(actor)
        agents[device] = fleet.start(*start, "--device", str(device))
    wait_until(recovery.look, 120, what="the tasks of the last agent are recovered")
    return recovery


def wait_for_done(fleet: Fleet, mark: int, look: Callable[[], object]) -> None:
    """Wait until `mark` tasks are done. Call `look` all the time."""

    def reached() -> bool:
        look()
        return done(fleet) >= mark

    wait_until(reached, 120, what=f"{mark} tasks are done")


def done(fleet: Fleet) -> int:
    """Return the number of done tasks."""
    return int(fleet.client.hget(fleet.at().agent_counters, "done") or 0)


@scenario("agents-killed", "agents killed with `kill -9`, each restarted at once")
def agents_killed(context: Context) -> Row:
    """The lease is ten minutes, so tasks return in time only because another process sees that the agent is gone."""
    count, kills = context.size(4_000, 200_000), context.size(6, 500)
    fleet = context.fleet()
    # With many deaths a second, one task may be in flight in three of them by chance. It would then look like a killer.
    job = fleet.job(numbers(count, context.size(1, 5) / 1000))
    fleet.serve("--lease", "600", "--capacity", "1000")
    with Watch(fleet) as watch:
        recovery = kill_again_and_again(context, fleet, ["worker-agent", str(job)], count, kills)
        row = judge(context, fleet, watch, count, times=kills)
    recorded = fleet.results()
    row.remarks.append(f"{recovery.with_tasks} with tasks in flight")
    row.remarks.append(f"recovered after at most {recovery.longest_s:.1f} s, with a lease of 600 s")
    row.remarks.append(
        f"{sum(r.crashes > 0 for r in recorded):,} tasks ran again, {crashed_twice(recorded)} twice"
    )
    return row


@scenario("coroutines-killed", "agents of 20 coroutines killed with `kill -9`, each restarted at once")
def coroutines_killed(context: Context) -> Row:
    """Each killed agent had many tasks on its loop. All of them run again, each alone."""
    count, kills = context.size(4_000, 100_000), context.size(4, 40)
    fleet = context.fleet()
    job = fleet.job(coroutines(count, 0.005))
    fleet.serve("--lease", "600", "--capacity", "1000")
    with Watch(fleet) as watch:
        recovery = kill_again_and_again(
            context, fleet, ["worker-agent", str(job), "--concurrency", "20"], count, kills
        )
        row = judge(context, fleet, watch, count, times=kills)
    recorded = fleet.results()
    row.remarks.append(f"{recovery.with_tasks} with tasks in flight")
    row.remarks.append(f"{sum(r.crashes > 0 for r in recorded):,} tasks ran again")
    return row


@scenario("agents-elsewhere", "agents on other machines killed, each restarted at once")
def agents_elsewhere(context: Context) -> Row:
    """No process can see that these agents are gone, so their tasks return when their lease expires."""
    lease = context.size(2, 10)
    count, kills = context.size(4_000, 60_000), context.size(3, 20)
    fleet = context.fleet()
    job = fleet.job(numbers(count, 0.002))
    fleet.serve("--lease", str(lease), "--capacity", "1000")
    start = ["python", "-m", "tests.chaos.elsewhere", str(job)]
    with Watch(fleet) as watch:
        recovery = kill_again_and_again(context, fleet, start, count, kills)
        row = judge(context, fleet, watch, count, times=kills)
    row.remarks.append(f"{recovery.with_tasks} with tasks in flight")
    row.remarks.append(f"recovered after at most {recovery.longest_s:.1f} s, with a lease of {lease} s")
    late = f"recovered {recovery.longest_s:.1f} s after the kill, more than the lease and 2 s"
    row.expect(not context.long or recovery.longest_s <= lease + 2, late)
    return row
