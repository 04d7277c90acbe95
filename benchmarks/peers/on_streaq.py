"""streaQ.

Settings: concurrency 32, uvloop, coredis in optimized mode and `enqueue_many`, as in the benchmark of its own
repository (benchmarks/bench_streaq.py). `ttl=0` for runs without results.
"""

from __future__ import annotations

import anyio
import coredis
import kit
from streaq import Worker

OPTIONS = kit.OPTIONS
coredis.Config.optimized = True
UVLOOP = {"use_uvloop": True}
worker = Worker(redis_url=OPTIONS.url, concurrency=OPTIONS.concurrency or 32, anyio_kwargs=UVLOOP)
TTL = 300 if OPTIONS.results else 0
TASKS = {name: worker.task(name=name, ttl=TTL)(function) for name, function in kit.COROUTINES.items()}


async def feed() -> None:
    task = TASKS[OPTIONS.function]

    async def send_all(source) -> None:
        for chunk in kit.chunks(source, 20_000):
            await worker.enqueue_many([task.enqueue(item) for item in chunk])

    async with worker:
        await kit.time_feed_async(send_all)


async def trickle() -> None:
    async def send(index: int) -> tuple[str, ...]:
        task = await TASKS["stamp"].enqueue(index)
        return "EXISTS", worker.results_key + task.id

    async with worker:
        await kit.trickle_async(send)


if __name__ == "__main__":
    kit.run(
        work=worker.run_sync,
        feed=lambda: anyio.run(feed, backend_options=UVLOOP),
        trickle=lambda: anyio.run(trickle, backend_options=UVLOOP),
    )
