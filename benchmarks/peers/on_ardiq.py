"""ArdiQ, whose worker loop is written in Rust.

Settings: its command-line worker with the default concurrency of 16 and prefetch of 32 (ardiq.bytay.dev, reference,
"Configuration"), and `enqueue_many` of prepared tasks. A concurrency of 64 is measured too, and one task in flight.
Results cannot be turned off; ArdiQ keeps them for `result_ttl_ms`.
"""

from __future__ import annotations

import asyncio
import os
import sys

import kit
from ardiq import Ardiq

OPTIONS = kit.OPTIONS
CONCURRENCY = {"concurrency": OPTIONS.concurrency} if OPTIONS.concurrency else {}
if OPTIONS.concurrency == 1:
    CONCURRENCY["prefetch"] = 1
app = Ardiq(redis_url=OPTIONS.url, queue_name="benchmark", **CONCURRENCY)
TASKS = {name: app.task(name=name)(function) for name, function in kit.COROUTINES.items()}


def work() -> None:
    kit.exec_command("ardiq", "run", "on_ardiq:app", "--quiet")


async def feed() -> None:
    task = TASKS[OPTIONS.function]

    async def send_all(source) -> None:
        for chunk in kit.chunks(source, 1000):
            await app.enqueue_many([task.prepare(item) for item in chunk])

    await kit.time_feed_async(send_all)
    # After large payloads its Rust runtime sometimes crashes the interpreter at exit.
    sys.stdout.flush()
    os._exit(0)


async def trickle() -> None:
    async def send(index: int) -> tuple[str, ...]:
        job = await TASKS["stamp"].enqueue(index)
        return "EXISTS", f"ardiq:benchmark:task:results:{job.id}"

    await kit.trickle_async(send)


if __name__ == "__main__":
    kit.run(work=work, feed=lambda: asyncio.run(feed()), trickle=lambda: asyncio.run(trickle()))
