"""Measure what a failover costs and loses: `python -m tests.cluster.measure [ROUNDS]`."""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.fleets import counting_job, read_counters, runs, wait_for, wait_until_done
from tests.crashes.fleet import Fleet
from tests.support.programs import Program
from tests.support.redis_cluster import RealCluster
from tests.support.redis_sentinel import RealSentinels

COUNT = 6_000
FED = re.compile(r"fed up to item (\d+), and Redis knows of (\d+)")


def failover(place: Any, kill: Callable[[], None], folder: Path) -> tuple[float, int, int]:
    """Cause a failover under load. Return the seconds without a result, the lost items and the tasks that ran again."""
    programs: list[Program] = []

    def spawn(args: Sequence[str | Path], env: Mapping[str, str | Path] | None = None) -> Program:
        programs.append(Program(args, env, folder / "programs" / str(len(programs)), None))
        return programs[-1]

    fleet = Fleet(place, spawn, folder)
    try:
        counting_job(fleet, COUNT, 0.001)
        server = fleet.serve("--capacity", "1000")
        for device in (0, 1, 2, 3):
            fleet.agent("--device", str(device))
        wait_for(fleet, lambda counters: counters.done >= COUNT // 5)
        kill()
        killed = time.monotonic()
        while (before := read_counters(fleet)) is None:
            time.sleep(0.01)
        wait_for(fleet, lambda counters: counters.done > before.done)
        pause = time.monotonic() - killed
        wait_until_done(fleet, server, COUNT, "--capacity", "1000")
        fleet.expect_each_once([-number for number in range(COUNT)])
        told = FED.search(server.stderr)
        lost = int(told[1]) - int(told[2]) if told else 0
        return pause, lost, len(runs(folder)) - COUNT
    finally:
        for program in programs:
            program.kill_session()
        fleet.close()


def main(rounds: int) -> None:
    print(
        "| failover | rounds | seconds without a result | items fed and lost | tasks run again | lost at the end |"
    )
    print("|---|---|---|---|---|---|")
    kinds: dict[str, Callable[[], Any]] = {
        "Sentinel, master killed": lambda: RealSentinels(durable=True),
        "cluster, the shard's master killed": lambda: RealCluster(replicas=1, durable=True),
    }
    for name, make in kinds.items():
        found = []
        for _ in range(rounds):
            place = make()
            with tempfile.TemporaryDirectory() as folder:
                try:
                    place.start()
                    if isinstance(place, RealSentinels):
                        kill = place.master().kill
                    else:
                        kill = place.owner("{mt:crash}:meta").kill
                    found.append(failover(place, kill, Path(folder)))
                finally:
                    place.remove()
        pauses, lost, again = zip(*found, strict=True)
        print(
            f"| {name} | {rounds} | {statistics.median(pauses):.1f}, at most {max(pauses):.1f} "
            f"| {sum(lost)} (at most {max(lost)}) | {sum(again)} (at most {max(again)}) of {rounds * COUNT:,} | 0 |",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
