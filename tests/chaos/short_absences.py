"""Redis away for less than a moment of the shortest lease, or a little more: living agents keep what they have."""

from __future__ import annotations

import time

from tests.chaos.network import expect_no_crash, expect_running
from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, enough, judge, until_enough
from tests.crashes.fleet import Fleet
from tests.support.waiting import wait_until

LEASE_S = 2
LONG = """
        plain = task_function

        def task_function(task):
            if task % 20 == 0 and not Path(FOLDER, "enough").exists():
                time.sleep(2.5)
            return plain(task)
        """
"""A task that outlasts the lease: only reports renew it meanwhile."""


def go_away(fleet: Fleet, seconds: float, *, killed: bool) -> None:
    """Kill Redis and start it again, or freeze and thaw it, after so long."""
    if killed:
        fleet.redis.kill()
        time.sleep(seconds)
        fleet.redis.start()
    else:
        fleet.redis.freeze()
        time.sleep(seconds)
        fleet.redis.thaw()


def wait_for_reports(fleet: Fleet, actors: int) -> None:
    """Wait until everybody has renewed its lease since now, as whoever lives does within a second."""
    seconds, microseconds = fleet.client.time()
    fresh = seconds * 1000 + microseconds // 1000 + LEASE_S * 1000
    leases = (fleet.keys.leases, fleet.keys.server_lease)
    wait_until(
        lambda: sum(fleet.client.zcount(key, fresh, "+inf") for key in leases) >= actors,
        what="everybody has reported",
    )


@scenario("redis-away-shortly", "Redis killed or frozen for 0.8 to 3 s, with the shortest lease, 2 s")
def redis_away_shortly(context: Context) -> Row:
    """Every moment between two reports, so that an absence that no sweep notices is among them.

    Everybody reports between two absences: where Redis comes only to go again, no lease can tell who lives.
    """
    times = context.size(2, 40)
    fleet = context.fleet(on=context.redis(durable=True))
    fleet.job(until_enough() + LONG)
    programs = [fleet.serve("--lease", str(LEASE_S), "--capacity", "200")]
    programs += [fleet.agent("--device", str(device), "--concurrency", "2") for device in range(3)]
    with Watch(fleet) as watch:
        for number in range(times):
            wait_for_reports(fleet, len(programs))
            before = fleet.books()
            fleet.wait_for(lambda books, before=before: books.done > before.done + 20 and books.claimed > 0)
            time.sleep(context.random.uniform(0, 1))
            seconds = context.random.uniform(0.8, context.random.choice((1.6, 3.0)))
            go_away(fleet, seconds, killed=number % 3 < 2)
        row = judge(context, fleet, watch, enough(fleet), times=times)
    expect_running(row, programs)
    expect_no_crash(row, fleet)
    lost = [
        program
        for program in programs
        if "declared dead" in program.stderr or "longer than its" in program.stderr
    ]
    row.expect(not lost, f"a lease ran out: {lost}")
    row.remarks.append("no lease expired; no task ran twice")
    return row
