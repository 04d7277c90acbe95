"""Shows what Valkey's CPU per task consists of: `python -m benchmarks.floor --batch 100`.

Each row moves the same items through the same Valkey in the same batches, and does a little more than the row before.
The last row is MutiTask's own call.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import redis

from benchmarks import limit
from benchmarks.valkey import valkey
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.identity import this_process
from worker_agent.protocol.membership import RunPlan
from worker_agent.protocol.settlements import Settlement

Drain = Callable[[redis.Redis, int], None]
"""Takes all waiting items in batches of the given size."""

POP = "return redis.call('LPOP', KEYS[1], ARGV[1]) or {}"
SAVE_RESULTS = """
if #ARGV > 1 then redis.call('RPUSH', KEYS[3], unpack(ARGV, 2)) end
return redis.call('LPOP', KEYS[1], ARGV[1]) or {}
"""
CLAIMS_BY_ID_BATCHED = """
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
CLAIMS_BY_ID = """
for i = 2, #ARGV do
  redis.call('HDEL', KEYS[2], string.sub(ARGV[i], 3, 22))
  redis.call('RPUSH', KEYS[3], ARGV[i])
end
local items = redis.call('LPOP', KEYS[1], ARGV[1]) or {}
for _, item in ipairs(items) do redis.call('HSET', KEYS[2], string.sub(item, 3, 22), item) end
return items
"""


def results_of(items: list[bytes]) -> list[bytes]:
    """Return the results of a batch of items."""
    result = wire.pack([0, 0, 0])
    return [item[: list_item.HEADER_BYTES] + result for item in items]


def script_drain(text: str) -> Drain:
    """Return a drain that calls a script. The script takes results and returns claimed items, like `limit.BARE`."""

    def drain(client: redis.Redis, batch: int) -> None:
        sha = client.script_load(text)
        claimed: list[bytes] = []
        while claimed := client.evalsha(
            sha, 3, "limit:waiting", "limit:claims", "limit:results", batch, *results_of(claimed)
        ):
            pass

    return drain


def mutitask_drain(client: redis.Redis, batch: int) -> None:
    """Drain with the call that an agent uses, but without an agent."""
    agent = Broker(client, "floor", Actor.agent(), address="here")
    agent.join(0, None, this_process())
    agent.heartbeat(0, b"heartbeat", claims_from=[0])
    settlements: list[Settlement] = []
    while (claim := agent.settle_and_claim(0, settlements, batch)).items:
        results = results_of(claim.items)
        settlements = [(claim.number, place, b"d", result) for place, result in enumerate(results, 1)]


def fill(url: str, tasks: int) -> None:
    """Push the items for all rows except the last."""
    limit.fill(url, tasks, 1000)


def feed(url: str, tasks: int) -> None:
    """Allot the same number of items to MutiTask."""
    feeder = Broker(connect(url), "floor", Actor.server(), address="here")
    plan = RunPlan(channels=1, devices=1, capacity=tasks, autostart=True)
    run = feeder.open_run(plan, this_process())
    for first in range(0, tasks, 1000):
        numbers = range(first, min(tasks, first + 1000))
        feeder.allot(0, first, [list_item.header(run.id, number) + wire.pack(number) for number in numbers])


ROWS: dict[str, tuple[Callable[[str, int], None], Drain]] = {
    "pop items": (fill, script_drain(POP)),
    "and save results": (fill, script_drain(SAVE_RESULTS)),
    "and save claims, one value per batch (bare loop)": (fill, script_drain(limit.BARE)),
    "the same, claims by id, one command per batch": (fill, script_drain(CLAIMS_BY_ID_BATCHED)),
    "the same, claims by id, one command per task": (fill, script_drain(CLAIMS_BY_ID)),
    "MutiTask's settle_and_claim": (feed, mutitask_drain),
}


def cpu_us(label: str, tasks: int, batch: int) -> float:
    """Return Valkey's CPU per task of a row in us, measured on a new server."""
    fill_or_feed, drain = ROWS[label]
    with valkey() as server:
        fill_or_feed(server.url, tasks)
        idle = server.cpu_s()
        drain(connect(server.url), batch)
        return (server.cpu_s() - idle) / tasks * 1e6


def main() -> None:
    """Measure the rows in turn, several times. Print the medians."""
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
        f"Valkey's CPU, us/task, {chosen.tasks:,} tasks in batches of {chosen.batch}: median (minimum to maximum)\n"
    )
    for label, values in found.items():
        print(f"{label:50} {statistics.median(values):6.2f}   ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
