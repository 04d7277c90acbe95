"""taskiq with taskiq-redis.

Settings: a stream broker that reads 100 messages at once (the default), one worker process that runs 100 tasks at once
(the default), uvloop, and 32 enqueues at once, as in the benchmark of streaQ's repository. Runs with results use the
Redis result backend.
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
    concurrency = str(OPTIONS.concurrency or 100)
    kit.exec_command(
        "taskiq", "worker", "on_taskiq:broker", "--workers", "1", "--max-async-tasks", concurrency,
        "--log-level", "WARNING",
    )  # fmt: skip


async def feed() -> None:
    await broker.startup()
    await kit.time_feed_async(lambda source: kit.send_concurrently(TASKS[OPTIONS.function].kiq, source))
    await broker.shutdown()


async def trickle() -> None:
    await broker.startup()

    async def send(index: int) -> tuple[str, ...]:
        return "EXISTS", (await TASKS["stamp"].kiq(index)).task_id

    await kit.trickle_async(send)
    await broker.shutdown()


if __name__ == "__main__":
    kit.run(work=work, feed=lambda: uvloop.run(feed()), trickle=lambda: uvloop.run(trickle()))
