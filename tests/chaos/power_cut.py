"""A power cut under a Redis with `appendfsync everysec`: its file ends a second before its last answer.

`kill -9` loses no answered write, because the operating system already has it. So the test simulates the loss of a
power cut: it cuts the append-only file back to its length of a second before the kill. `everysec` may lose that much
(two seconds if the disk is slow). With `--fsync always`, the write is on the disk before the answer.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, judge, numbers
from tests.support.redis_server import RealServer
from tests.support.waiting import wait_until

LOST_S = 1.0


class Disk:
    """Record the length of the append-only file over time, so that the file can be cut back."""

    def __init__(self, server: RealServer) -> None:
        self._server = server
        self._lengths: deque[tuple[float, int]] = deque(maxlen=1_000)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)

    def __enter__(self) -> Disk:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def cut_power(self) -> None:
        """Kill the server and cut off the last second of its file."""
        wait_until(
            lambda: self._lengths[0][0] <= time.monotonic() - LOST_S, what="a second to lose has passed"
        )
        at = time.monotonic()
        self._server.kill()
        self._server.lose_writes(
            next(length for when, length in reversed(self._lengths) if when <= at - LOST_S)
        )
        self._lengths.clear()

    def _run(self) -> None:
        while not self._ended.wait(0.02):
            self._lengths.append((time.monotonic(), self._server.written()))


@scenario(
    "power-cut", "a power cut under a Redis with `appendfsync everysec`: its last second of writes is lost"
)
def power_cut(context: Context) -> Row:
    """The server reports that writes were lost and ends. After `--resume` it allots the lost items again."""
    count, times = context.size(1_800, 15_000), context.size(1, 5)
    fleet = context.fleet(on=context.redis(durable=True))
    fleet.job(numbers(count, 0.004))
    server = fleet.serve("--capacity", "200")
    agents = [fleet.agent("--device", device) for device in ("0", "1")]
    forgotten = 0
    marks = [int(count * context.random.uniform(each + 0.4, each + 0.8) / times) for each in range(times)]
    with Watch(fleet) as watch, Disk(fleet.redis) as disk:
        for mark in marks:
            before = fleet.wait_for(lambda counters, mark=mark: counters.done >= mark, 60)
            disk.cut_power()
            watch.forget()
            fleet.redis.start()
            forgotten += before.done - fleet.counters().done
            assert server.wait() != 0, server
            assert "it lost its last writes; start the server again with --resume" in server.stderr, server
            server = fleet.serve("--resume")
        row = judge(context, fleet, watch, count, times=times)
    row.expect(all(agent.running for agent in agents), f"an agent ended: {agents}")
    row.remarks.append(
        f"{forgotten:,} acknowledged results lost and produced again; the server reports it and ends"
    )
    return row
