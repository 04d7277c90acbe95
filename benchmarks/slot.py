"""What an agent's Python costs for a no-op, without Redis: `python -m benchmarks.slot [--rounds N]`.

Prints us for a task, the least of some rounds: laying a claim before the slots, a slot's way of a task (take, unpack,
call, pack, report), making the arguments of the settling call, and the same work in a plain loop, as the limit does it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import pairwise

import hiredis
import msgpack

from worker_agent.execution.in_flight import InFlight
from worker_agent.execution.runner import Runner
from worker_agent.protocol import wire
from worker_agent.protocol.broker import Claim
from worker_agent.protocol.settlements import encode_runs

TASKS = 1_000
ITEMS = [wire.header("benchmrk", number) + wire.pack(number) for number in range(TASKS)]
PACKED = msgpack.packb(ITEMS)


def no_op(task: int) -> int:
    """The task function."""
    return task


def agents_way() -> list[float]:
    """Seconds for all tasks: laid before the slot, run by it, settled."""
    in_flight, runner = InFlight(1), Runner(no_op, None, 0, 0)
    marks = [time.perf_counter()]
    in_flight.add_claim(Claim(wire.unpack_items(PACKED), 1, 1, 0))
    marks.append(time.perf_counter())
    for _ in range(TASKS):
        entry = in_flight.take(0)
        assert entry is not None
        in_flight.finish(0, runner.run(entry[3]))
    marks.append(time.perf_counter())
    hiredis.pack_command(("EVALSHA", *encode_runs(in_flight.take_settlements())))
    marks.append(time.perf_counter())
    return [later - earlier for earlier, later in pairwise(marks)]


def plain_loop() -> list[float]:
    """Seconds for the same without an agent."""
    began = time.perf_counter()
    for item in wire.unpack_items(PACKED):
        value = no_op(wire.unpack(item[wire.HEADER_BYTES :]))
        _ = item[: wire.HEADER_BYTES] + wire.pack([0, 0, value])
    return [time.perf_counter() - began]


def least(work: Callable[[], list[float]], rounds: int) -> list[float]:
    """The least of each part, in us for a task."""
    return [min(part) / TASKS * 1e6 for part in zip(*(work() for _ in range(rounds)), strict=True)]


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=200)
    rounds = options.parse_args().rounds
    laid, run, settled = least(agents_way, rounds)
    [plain] = least(plain_loop, rounds)
    for label, us in (
        ("laid before the slots", laid), ("a slot's way of a task", run), ("made ready to settle", settled),
        ("the work alone, in a plain loop", plain),
    ):  # fmt: skip
        print(f"{label:33} {us:5.2f} us")


if __name__ == "__main__":
    main()
