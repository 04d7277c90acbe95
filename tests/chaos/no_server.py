"""A time without a server: agents recover the tasks of dead agents and promote delayed tasks (law 8)."""

from __future__ import annotations

import time

from tests.chaos.agents import AGENTS, kill_again_and_again
from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, judge

FAILS_FIRST = 7
"""Every seventh task fails in its first run and is delayed."""


def job(count: int, seconds: float) -> str:
    """Return a job of tasks 0, 1, 2, ..., in which some tasks succeed only in their second run."""
    return f"""
        import time
        from worker_agent import current_task

        def tasks():
            yield from range({count})

        def task_function(task):
            time.sleep({seconds})
            if task % {FAILS_FIRST} == 0 and current_task().attempt == 0:
                raise ValueError("not yet")
            return task
        """


@scenario("no-server", "the server killed for good, then agents, while failed tasks are delayed")
def no_server(context: Context) -> Row:
    count, kills = context.size(1_500, 40_000), context.size(4, 40)
    fleet = context.fleet()
    path = fleet.job(job(count, context.size(2, 10) / 1000))
    server = fleet.serve("--lease", "2", "--capacity", str(count), "--retry-delay", "1")
    fleet.wait_for(lambda counters: counters.exhausted)
    server.kill()
    with Watch(fleet) as watch:
        started_at = time.monotonic()
        recovery = kill_again_and_again(context, fleet, ["worker-agent", str(path)], count, kills)
        row = judge(context, fleet, watch, count, times=kills, timeout=300, fail_first=FAILS_FIRST)
        took = time.monotonic() - started_at
    row.expect(fleet.snapshot().server is None, "there is a server")
    row.remarks.append(f"{took:.0f} s without a server, with {AGENTS} agents")
    row.remarks.append(f"recovered after at most {recovery.longest_s:.1f} s")
    return row
