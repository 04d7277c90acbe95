"""Servers killed with `kill -9` at random moments, also during their start, and resumed."""

from __future__ import annotations

import time

from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, judge, numbers
from tests.support.waiting import wait_until

RESUMED = ("--lease", "600", "--resume")


@scenario("servers-killed", "servers killed with `kill -9`, each restarted with `--resume`")
def servers_killed(context: Context) -> Row:
    """Kill every fifth server at a random moment of its start, the others while they feed."""
    count, kills = context.size(3_000, 30_000), context.size(4, 100)
    random = context.random
    fleet = context.fleet()
    fleet.job(numbers(count))
    server = fleet.serve("--lease", "600", "--capacity", "200")
    agents = [fleet.agent("--device", device) for device in ("0", "1")]
    marks = sorted(random.randrange(int(count * 0.9)) for _ in range(kills))
    moments = [random.uniform(0, 1.0) if random.random() < 0.2 else None for _ in marks]
    with Watch(fleet) as watch:
        for mark, moment in zip(marks, moments, strict=True):
            if moment is not None:
                time.sleep(moment)
            else:
                feeding = server
                wait_until(lambda s=feeding: s.stderr.count("\n") >= 2, 60, what="the server feeds")
                fleet.wait_for(lambda counters, mark=mark: counters.allotted >= mark, 60)
                time.sleep(random.uniform(0, 0.1))
            assert server.running, server
            server.kill()
            server = fleet.newcomer(*RESUMED)
        row = judge(context, fleet, watch, count, times=kills)
    row.expect(all(program.running for program in (server, *agents)), "an agent or the last server ended")
    row.remarks.append(f"{sum(m is not None for m in moments)} of them during their start")
    return row
