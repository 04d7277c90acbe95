"""The bare loop: moves the same bytes through the same Redis in the same batches, without any task lifecycle.

It is the limit that a task queue can reach.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis

from worker_agent.protocol import list_item, wire
from worker_agent.protocol.connection.connect import connect

# Settle the claimed tasks, save their results and claim the next. Every queue that loses no task must do this.
BARE = """
local results = {}
for i = 2, #ARGV do results[#results + 1] = ARGV[i] end
if #results > 0 then
  redis.call('DEL', KEYS[2])
  redis.call('RPUSH', KEYS[3], unpack(results))
end
local items = redis.call('LPOP', KEYS[1], ARGV[1])
if items then redis.call('SET', KEYS[2], table.concat(items)) end
return items or {}
"""


def fill(url: str, tasks: int, batch: int, payload: int = 0) -> float:
    """Pack tasks and push them in batches. Return the tasks per second. `payload` is the size of each in bytes."""
    client: redis.Redis = connect(url)
    started = time.perf_counter()
    for first in range(0, tasks, batch):
        numbers = range(first, min(tasks, first + batch))
        items = [
            list_item.header("benchmrk", number) + wire.pack(payload * b"x" or number) for number in numbers
        ]
        client.rpush("limit:waiting", *items)
    return tasks / (time.perf_counter() - started)


def fill_apart(url: str, tasks: int, batch: int, payload: int) -> float:
    """Do the same with bodies that are stored apart from their items, as in `drain_apart`."""
    client: redis.Redis = connect(url)
    started = time.perf_counter()
    for first in range(0, tasks, batch):
        numbers = range(first, min(tasks, first + batch))
        headers = [list_item.header("benchmrk", number) for number in numbers]
        client.mset({b"limit:t:" + header: wire.pack(payload * b"x") for header in headers})
        client.rpush("limit:waiting", *headers)
    return tasks / (time.perf_counter() - started)


def drain(url: str, tasks: int, batch: int, function: Callable[[Any], Any] = lambda task: task) -> float:
    """Run all tasks that `fill` pushed. Return the tasks per second. Raises `SystemExit` if results are missing."""
    client: redis.Redis = connect(url)
    started = time.perf_counter()
    sha = client.script_load(BARE)
    results: list[bytes] = []
    while True:
        claimed = client.evalsha(sha, 3, "limit:waiting", "limit:claims", "limit:results", batch, *results)
        if not claimed:
            break
        results = []
        for item in claimed:
            value = function(wire.unpack(item[list_item.HEADER_BYTES :]))
            results.append(item[: list_item.HEADER_BYTES] + wire.pack([0, 0, value]))
    took = time.perf_counter() - started
    saved = client.llen("limit:results")
    if saved != tasks:
        raise SystemExit(f"broken run: the bare loop saved {saved} of {tasks} results")
    client.delete("limit:waiting", "limit:claims", "limit:results")
    return tasks / took


def drain_apart(
    url: str, tasks: int, batch: int, function: Callable[[Any], Any] = lambda task: task
) -> float:
    """Run all tasks that `fill_apart` pushed: their bodies and their results' bodies go by plain commands.

    Return the tasks per second. Raises `SystemExit` if results are missing.
    """
    client: redis.Redis = connect(url)
    started = time.perf_counter()
    sha = client.script_load(BARE)
    headers: list[bytes] = []
    removed: list[bytes] = []
    while True:
        claimed = client.evalsha(sha, 3, "limit:waiting", "limit:claims", "limit:results", batch, *headers)
        if not claimed:
            break
        wanted = [b"limit:t:" + header for header in claimed]
        with client.pipeline(transaction=False) as packet:
            if removed:
                packet.unlink(*removed)
            packet.mget(wanted)
            bodies = packet.execute()[-1]
        client.mset(
            {
                b"limit:r:" + header: wire.pack([0, 0, function(wire.unpack(body))])
                for header, body in zip(claimed, bodies, strict=True)
            }
        )
        headers, removed = claimed, wanted
    took = time.perf_counter() - started
    saved = client.llen("limit:results")
    if saved != tasks:
        raise SystemExit(f"broken run: the bare loop saved {saved} of {tasks} results")
    client.flushdb()
    return tasks / took
