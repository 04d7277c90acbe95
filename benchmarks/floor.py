"""What Valkey's CPU for a task is made of: `python -m benchmarks.floor --batch 100`.

Each row moves the same items through the same Valkey in the same batches and does a little more than the row before;
the last is MutiTask's own call.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import redis

from benchmarks import limit
from benchmarks.valkey import valkey
from worker_agent.protocol import wire
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.identity import this_process
from worker_agent.protocol.membership import RunPlan
from worker_agent.protocol.settlements import Settlement

Drain = Callable[[redis.Redis, int], None]
"""Takes all that was put there, in batches of that many."""

POP = "return redis.call('LPOP', KEYS[1], ARGV[1]) or {}"
KEEP_RESULTS = """
if #ARGV > 1 then redis.call('RPUSH', KEYS[3], unpack(ARGV, 2)) end
return redis.call('LPOP', KEYS[1], ARGV[1]) or {}
"""
BY_ID_TOGETHER = """
local ids, results = {}, {}
for i = 2, #ARGV do
  ids[#ids + 1] = string.sub(ARGV[i], 3, 22)
  results[#results + 1] = ARGV[i]
end
if #ids > 0 then
  redis.call('HDEL', KEYS[2], unpack(ids))
  redis.call('RPUSH', KEYS[3], unpack(results))
end
local items, pairs_ = redis.call('LPOP', KEYS[1], ARGV[1]) or {}, {}
for i, item in ipairs(items) do
  pairs_[2 * i - 1] = string.sub(item, 3, 22)
  pairs_[2 * i] = item
end
if #items > 0 then redis.call('HSET', KEYS[2], unpack(pairs_)) end
return items
"""
BY_ID = """
for i = 2, #ARGV do
  redis.call('HDEL', KEYS[2], string.sub(ARGV[i], 3, 22))
  redis.call('RPUSH', KEYS[3], ARGV[i])
end
local items = redis.call('LPOP', KEYS[1], ARGV[1]) or {}
for _, item in ipairs(items) do redis.call('HSET', KEYS[2], string.sub(item, 3, 22), item) end
return items
"""


def results_of(items: list[bytes]) -> list[bytes]:
    """The results of a batch that was run."""
    result = wire.pack([0, 0, 0])
    return [item[: wire.HEADER_BYTES] + result for item in items]


def by_script(text: str) -> Drain:
    """Drain by a script that takes results and returns claimed items, as `limit.BARE` does."""

    def drain(client: redis.Redis, batch: int) -> None:
        sha = client.script_load(text)
        claimed: list[bytes] = []
        while claimed := client.evalsha(
            sha, 3, "limit:waiting", "limit:claims", "limit:results", batch, *results_of(claimed)
        ):
            pass

    return drain


def by_mutitask(client: redis.Redis, batch: int) -> None:
    """Drain by an agent's one call, without an agent."""
    agent = Broker(client, "floor", Actor.agent(0), address="here")
    agent.join(0, 0, this_process())
    agent.heartbeat(0, 0, "running", b"heartbeat")
    settlements: list[Settlement] = []
    while (claim := agent.settle_and_claim(0, settlements, batch)).items:
        results = results_of(claim.items)
        settlements = [(claim.number, place, b"d", result) for place, result in enumerate(results, 1)]


def fill(url: str, tasks: int) -> None:
    """Push the items of all rows but the last."""
    limit.fill(url, tasks, 1000)


def feed(url: str, tasks: int) -> None:
    """Allot as many items to MutiTask."""
    feeder = Broker(connect(url), "floor", Actor.server(), address="here")
    plan = RunPlan(channels=1, devices=1, capacity=tasks, autostart=True)
    run = feeder.open_run(plan, this_process())
    for first in range(0, tasks, 1000):
        numbers = range(first, min(tasks, first + 1000))
        feeder.allot(0, first, [wire.header(run.id, number) + wire.pack(number) for number in numbers])


ROWS: dict[str, tuple[Callable[[str, int], None], Drain]] = {
    "pop alone": (fill, by_script(POP)),
    "and keep results": (fill, by_script(KEEP_RESULTS)),
    "and claims, one value a batch (bare loop)": (fill, by_script(limit.BARE)),
    "the same with claims by id, one command a batch": (fill, by_script(BY_ID_TOGETHER)),
    "the same with claims by id, one command a task": (fill, by_script(BY_ID)),
    "MutiTask's settle_and_claim": (feed, by_mutitask),
}


def cpu_us(label: str, tasks: int, batch: int) -> float:
    """Valkey's CPU for a task of that row, in us, on a server of its own."""
    put, drain = ROWS[label]
    with valkey() as server:
        put(server.url, tasks)
        idle = server.cpu_s()
        drain(connect(server.url), batch)
        return (server.cpu_s() - idle) / tasks * 1e6


def main() -> None:
    """Measure the rows in turn, several times, and print the medians."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--batch", type=int, default=100)
    options.add_argument("--tasks", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    found: dict[str, list[float]] = {label: [] for label in ROWS}
    for _ in range(chosen.rounds):
        for label in ROWS:
            found[label].append(cpu_us(label, chosen.tasks, chosen.batch))
    print(
        f"Valkey's CPU, us/task, {chosen.tasks:,} tasks in batches of {chosen.batch}: median (least to most)\n"
    )
    for label, values in found.items():
        print(f"{label:50} {statistics.median(values):6.2f}   ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
