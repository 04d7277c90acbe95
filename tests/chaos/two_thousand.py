"""Two thousand agents that lose Redis at once: it is killed and restarted with its file, or frozen.

All of them must come back, and not in the same instant. While they do, Redis must answer others too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from redis.exceptions import RedisError

from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.thousand import now_ms, start_all
from tests.chaos.watching import Watch, enough, judge, until_enough
from tests.crashes.fleet import Fleet
from tests.support.waiting import wait_until

TASK_MS = 1_000
BACK_S = 60.0
LOOK_S = 0.1
MOST_AT_ONCE = 0.7
"""The largest part of the agents that may connect to a restarted Redis in the same tenth of a second."""
SLOWEST_PING_S = 2.0


class Return(threading.Thread):
    """Watches how the agents come back: how many at once, how soon all, and how long a ping takes meanwhile."""

    def __init__(self, fleet: Fleet, agents: int) -> None:
        super().__init__(daemon=True)
        self._fleet, self._agents = fleet, agents
        self._since = now_ms(fleet)
        self.at_once = 0
        self.slowest_ping_s = self.took_s = 0.0

    def run(self) -> None:
        started_at, back = time.monotonic(), 0
        while back < self._agents and time.monotonic() - started_at < BACK_S:
            looked_at = time.monotonic()
            try:
                now_back = self._fleet.client.zcount(self._fleet.keys.heard, self._since, "+inf")
            except RedisError:
                continue
            self.slowest_ping_s = max(self.slowest_ping_s, time.monotonic() - looked_at)
            self.at_once, back = max(self.at_once, now_back - back), now_back
            time.sleep(LOOK_S)
        self.took_s = time.monotonic() - started_at


def kill_and_restart(fleet: Fleet, seconds: float) -> None:
    """Kill Redis, and restart it with its file."""
    fleet.redis.kill()
    time.sleep(seconds)
    fleet.redis.start()


def freeze(fleet: Fleet, seconds: float) -> None:
    """Stop Redis for some seconds. Whatever was sent meanwhile then arrives at once."""
    fleet.redis.freeze()
    time.sleep(seconds)
    fleet.redis.thaw()


@scenario(
    "two-thousand", "simulated agents that lose Redis at once: killed and restarted with its file, or frozen"
)
def two_thousand(context: Context) -> Row:
    agents, rounds = context.size(400, 2_000), context.size(1, 3)
    fleet = context.fleet(on=context.redis(durable=True))
    fleet.job(until_enough())
    server = fleet.serve("--capacity", str(10 * agents), "--devices", str(agents))
    processes, _ = start_all(fleet, agents, TASK_MS)
    faults: list[Callable[[Fleet, float], None]] = [kill_and_restart, freeze]
    returns: list[tuple[Callable[[Fleet, float], None], Return]] = []
    with Watch(fleet, look_s=0.5) as watch:
        for fault in faults * rounds:
            mark = fleet.counters().done + agents
            fleet.wait_for(lambda counters, mark=mark: counters.done >= mark, 60)
            fault(fleet, context.random.uniform(0.5, context.size(2, 12)))
            back = Return(fleet, agents)
            returns.append((fault, back))
            back.start()
            back.join()
            wait_until(lambda: fleet.counters().claimed > 0, 30, what="the agents claim again")
        row = judge(context, fleet, watch, enough(fleet), times=len(returns), timeout=120)
    row.fault = f"{agents:,} {row.fault}"
    row.expect(all(program.running for program in (server, *processes)), f"one ended: {server} {processes}")
    crashed = sum(each.crashes > 0 for each in fleet.results())
    row.expect(crashed == 0, f"{crashed} tasks were taken from agents that lived")
    slowest, took_s = max(r.slowest_ping_s for _, r in returns), max(r.took_s for _, r in returns)
    # The connections to a frozen Redis last, so all calls that it has kept are answered at once.
    at_once = max(r.at_once for fault, r in returns if fault is kill_and_restart)
    row.expect(took_s < BACK_S, f"not all agents were back after {took_s:.0f} s")
    row.expect(at_once <= MOST_AT_ONCE * agents, f"{at_once} agents came back within {LOOK_S} s")
    row.expect(slowest < SLOWEST_PING_S, f"Redis took {slowest:.1f} s for a call while the agents came back")
    row.remarks.append(
        f"all agents were back after at most {took_s:.1f} s; at most {at_once:,} of them reached a restarted Redis "
        f"within {LOOK_S} s; a call took {slowest * 1000:.0f} ms at most meanwhile"
    )
    return row
