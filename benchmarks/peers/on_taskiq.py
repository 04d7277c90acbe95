"""taskiq with taskiq-redis.

Settings: a stream broker that reads 100 messages at once (its default), one worker process of 100 tasks at once (its
default), uvloop, the Redis result backend where results are kept, 32 enqueues at once as in the benchmark of streaQ's
repository.
"""

from __future__ import annotations

import kit
import uvloop
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

OPTIONS = kit.OPTIONS
broker = RedisStreamBroker(OPTIONS.url)
if OPTIONS.results:
    broker = broker.with_result_backend(RedisAsyncResultBackend(OPTIONS.url))
TASKS = {name: broker.task(task_name=name)(function) for name, function in kit.COROUTINES.items()}


def work() -> None:
    many = str(OPTIONS.concurrency or 100)
    kit.become(
        "taskiq", "worker", "on_taskiq:broker", "--workers", "1", "--max-async-tasks", many, "--log-level", "WARNING"
    )  # fmt: skip


async def feed() -> None:
    await broker.startup()
    await kit.fed_async(lambda source: kit.one_by_one(TASKS[OPTIONS.function].kiq, source))
    await broker.shutdown()


async def trickle() -> None:
    await broker.startup()

    async def send(index: int) -> tuple[str, ...]:
        return "EXISTS", (await TASKS["stamp"].kiq(index)).task_id

    await kit.trickle_async(send)
    await broker.shutdown()


if __name__ == "__main__":
    kit.run(work=work, feed=lambda: uvloop.run(feed()), trickle=lambda: uvloop.run(trickle()))
