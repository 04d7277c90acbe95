"""SAQ on Redis.

Settings: concurrency 32, `dequeue_timeout` 1 and 32 enqueues at once, as in the benchmark of streaQ's repository, and
hiredis, as in its own benchmarks/README. `ttl=-1` (drops results at once) for runs without results.
"""

from __future__ import annotations

import asyncio

import kit
from saq import Queue, Worker

OPTIONS = kit.OPTIONS
TTL = 600 if OPTIONS.results else -1


def registered(name: str):
    function = kit.COROUTINES[name]

    async def run(_ctx, *, task):
        return await function(task)

    return name, run


async def work() -> None:
    worker = Worker(
        Queue.from_url(OPTIONS.url),
        [registered(name) for name in kit.COROUTINES],
        concurrency=OPTIONS.concurrency or 32,
        dequeue_timeout=1,
    )
    await worker.start()


async def feed() -> None:
    queue = Queue.from_url(OPTIONS.url)
    await kit.time_feed_async(
        lambda source: kit.send_concurrently(
            lambda item: queue.enqueue(OPTIONS.function, task=item, ttl=TTL), source
        )
    )


async def trickle() -> None:
    queue = Queue.from_url(OPTIONS.url)

    async def send(index: int) -> tuple[str, ...]:
        job = await queue.enqueue("stamp", task=index, ttl=TTL)
        # The job itself holds the result. It is readable when the job leaves the set of incomplete jobs.
        return "ZSCORE-GONE", "saq:default:incomplete", job.id

    await kit.trickle_async(send)


if __name__ == "__main__":
    kit.run(
        work=lambda: asyncio.run(work()),
        feed=lambda: asyncio.run(feed()),
        trickle=lambda: asyncio.run(trickle()),
    )
