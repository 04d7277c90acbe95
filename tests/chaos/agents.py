"""Agents killed with `kill -9`: found dead at once on the same machine, by their lease from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, crashed_twice, judge, numbers
from tests.crashes.fleet import Fleet
from tests.support.programs import Program
from tests.support.waiting import wait_until

AGENTS = 4


class Mourning:
    """Measures how long the tasks of each killed agent lie in its dead hands. All times in s."""

    def __init__(self, fleet: Fleet) -> None:
        self.longest_s = 0.0
        self.with_tasks = 0
        """How many of them had tasks in hand."""
        self._fleet = fleet
        self._dead: dict[bytes | str, float] = {}

    def add(self, actor: bytes | str | None) -> None:
        """An agent was killed now."""
        if actor is not None and self._fleet.client.hexists(self._fleet.at().holders, actor):
            self._dead[actor] = time.monotonic()
            self.with_tasks += 1

    def look(self) -> bool:
        """Take those away whose tasks are recovered; whether that is all of them."""
        if not self._dead:
            return True
        holders = set(self._fleet.client.hkeys(self._fleet.at().holders))
        now = time.monotonic()
        for actor in [actor for actor in self._dead if actor not in holders]:
            self.longest_s = max(self.longest_s, now - self._dead.pop(actor))
        return not self._dead


def wait_for_place(agent: Program, look: Callable[[], object] = lambda: None) -> None:
    """Wait until an agent has its device, calling `look` all the time."""

    def placed() -> bool:
        look()
        return " serves " in agent.stderr or not agent.running

    wait_until(placed, 60, what="the agent has its device")
    assert agent.running, agent


def kill_again_and_again(
    context: Context, fleet: Fleet, start: list[str], count: int, kills: int
) -> Mourning:
    """Kill one of four agents whenever so many tasks are done, and start another in its place at once."""
    agents = [fleet.start(*start, "--device", str(device)) for device in range(AGENTS)]
    for agent in agents:
        wait_for_place(agent)
    random, mourning = context.random, Mourning(fleet)
    schedule = [
        (mark, random.randrange(AGENTS), random.uniform(0, 0.05))
        for mark in sorted(random.randrange(int(count * 0.8)) for _ in range(kills))
    ]
    for mark, device, delay in schedule:
        wait_for_done(fleet, mark, mourning.look)
        wait_for_place(agents[device], mourning.look)
        time.sleep(delay)
        actor = fleet.client.hget(fleet.keys.agents, str(device))
        agents[device].kill()
        mourning.add(actor)
        agents[device] = fleet.start(*start, "--device", str(device))
    wait_until(mourning.look, 120, what="the last one's tasks are recovered")
    return mourning


def wait_for_done(fleet: Fleet, mark: int, look: Callable[[], object]) -> None:
    """Wait until so many tasks are done, calling `look` all the time."""

    def reached() -> bool:
        look()
        return done(fleet) >= mark

    wait_until(reached, 120, what=f"{mark} tasks are done")


def done(fleet: Fleet) -> int:
    """How many tasks are done."""
    return int(fleet.client.hget(fleet.at().tally, "done") or 0)


@scenario("agents-killed", "agents killed with `kill -9`, each started again at once")
def agents_killed(context: Context) -> Row:
    """A lease of ten minutes: whatever comes back in time came back because the process is seen to be gone."""
    count, kills = context.size(4_000, 200_000), context.size(6, 500)
    fleet = context.fleet()
    # The more of them die in a second, the likelier one task is in three dead hands by chance, and taken for a killer.
    job = fleet.job(numbers(count, context.size(1, 5) / 1000))
    fleet.serve("--lease", "600", "--capacity", "1000")
    with Watch(fleet) as watch:
        mourning = kill_again_and_again(context, fleet, ["worker-agent", str(job)], count, kills)
        row = judge(context, fleet, watch, count, times=kills)
    recorded = fleet.results()
    row.remarks.append(f"{mourning.with_tasks} with tasks in hand")
    row.remarks.append(f"recovered after {mourning.longest_s:.1f} s at most, with a lease of 600 s")
    row.remarks.append(
        f"{sum(r.crashes > 0 for r in recorded):,} tasks ran again, {crashed_twice(recorded)} twice"
    )
    return row


@scenario("agents-elsewhere", "agents of other machines killed, each started again at once")
def agents_elsewhere(context: Context) -> Row:
    """Nobody can see that their processes are gone: what they held comes back when their lease has run out."""
    lease = context.size(2, 10)
    count, kills = context.size(4_000, 60_000), context.size(3, 20)
    fleet = context.fleet()
    job = fleet.job(numbers(count, 0.002))
    fleet.serve("--lease", str(lease), "--capacity", "1000")
    start = ["python", "-m", "tests.chaos.elsewhere", str(job)]
    with Watch(fleet) as watch:
        mourning = kill_again_and_again(context, fleet, start, count, kills)
        row = judge(context, fleet, watch, count, times=kills)
    row.remarks.append(f"{mourning.with_tasks} with tasks in hand")
    row.remarks.append(f"recovered after {mourning.longest_s:.1f} s at most, with a lease of {lease} s")
    late = f"recovered {mourning.longest_s:.1f} s after the kill, more than the lease and 2 s"
    row.expect(not context.long or mourning.longest_s <= lease + 2, late)
    return row
