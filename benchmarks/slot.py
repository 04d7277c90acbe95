"""Measures the Python code of an agent for a no-op, without Redis: `python -m benchmarks.slot [--rounds N]`.

It prints the us per task, the minimum of all rounds: to add a claim, to run a task in a slot (take, unpack, call, pack,
finish) and to encode the settlements. For comparison it prints the same work in a plain loop, like the bare loop.
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
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.broker import Claim
from worker_agent.protocol.settlements import encode_runs

TASKS = 1_000
ITEMS = [list_item.header("benchmrk", number) + wire.pack(number) for number in range(TASKS)]
PACKED = msgpack.packb(ITEMS)


def no_op(task: int) -> int:
    """Return the task."""
    return task


def agent_steps() -> list[float]:
    """Return the seconds of each step for all tasks: add the claim, run the tasks, encode the settlements."""
    in_flight, runner = InFlight(1), Runner(lambda _channel: (no_op, None), 0)
    marks = [time.perf_counter()]
    in_flight.add_claim(Claim(list_item.unpack_items(PACKED), 1, 1, 0), 0)
    marks.append(time.perf_counter())
    for _ in range(TASKS):
        entry = in_flight.take(0)
        assert entry is not None
        in_flight.finish(0, runner.run(entry[3], entry[4]))
    marks.append(time.perf_counter())
    hiredis.pack_command(("EVALSHA", *encode_runs(in_flight.take_settlements())))
    marks.append(time.perf_counter())
    return [later - earlier for earlier, later in pairwise(marks)]


def plain_loop() -> list[float]:
    """Return the seconds for the same work without an agent."""
    started = time.perf_counter()
    for item in list_item.unpack_items(PACKED):
        value = no_op(wire.unpack(item[list_item.HEADER_BYTES :]))
        _ = item[: list_item.HEADER_BYTES] + wire.pack([0, 0, value])
    return [time.perf_counter() - started]


def minimum(measure: Callable[[], list[float]], rounds: int) -> list[float]:
    """Return the minimum of each step over all rounds, in us per task."""
    return [min(step) / TASKS * 1e6 for step in zip(*(measure() for _ in range(rounds)), strict=True)]


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=200)
    rounds = options.parse_args().rounds
    add, run, encode = minimum(agent_steps, rounds)
    [plain] = minimum(plain_loop, rounds)
    for label, us in (
        ("add the claim", add), ("run a task in a slot", run), ("encode the settlements", encode),
        ("the same work in a plain loop", plain),
    ):  # fmt: skip
        print(f"{label:33} {us:5.2f} us")


if __name__ == "__main__":
    main()
