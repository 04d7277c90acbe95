"""arq.

Settings: `max_jobs` 32 and 32 enqueues at once, as in the benchmark of streaQ's repository. `poll_delay` is 10 ms
instead of 0.5 s, which drains a backlog four times as fast. `keep_result=0` for runs without results.
"""

from __future__ import annotations

import asyncio

import kit
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

OPTIONS = kit.OPTIONS
settings = RedisSettings.from_dsn(OPTIONS.url)
KEEP = 3600 if OPTIONS.results else 0


def registered(name: str):
    function = kit.COROUTINES[name]

    async def run(_ctx, task):
        return await function(task)

    return func(run, name=name, keep_result=KEEP)


def work() -> None:
    asyncio.set_event_loop(asyncio.new_event_loop())
    Worker(
        [registered(name) for name in kit.COROUTINES],
        redis_settings=settings,
        max_jobs=OPTIONS.concurrency or 32,
        poll_delay=0.01,
        keep_result=KEEP,
    ).run()


async def feed() -> None:
    pool = await create_pool(settings)
    await kit.time_feed_async(
        lambda source: kit.send_concurrently(lambda item: pool.enqueue_job(OPTIONS.function, item), source)
    )


async def trickle() -> None:
    pool = await create_pool(settings)

    async def send(index: int) -> tuple[str, ...]:
        job = await pool.enqueue_job("stamp", index)
        return "EXISTS", f"arq:result:{job.job_id}"

    await kit.trickle_async(send)


if __name__ == "__main__":
    kit.run(work=work, feed=lambda: asyncio.run(feed()), trickle=lambda: asyncio.run(trickle()))
