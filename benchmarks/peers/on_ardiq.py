"""ArdiQ, whose worker loop is written in Rust.

Settings: its command-line worker with its default concurrency of 16 and prefetch of 32 (ardiq.bytay.dev, reference,
"Configuration"; 64 is measured beside it), `enqueue_many` of prepared tasks for feeding. Results cannot be turned off;
they are kept for `result_ttl_ms`.
"""

from __future__ import annotations

import asyncio
import os
import sys

import kit
from ardiq import Ardiq

OPTIONS = kit.OPTIONS
MANY = {"concurrency": OPTIONS.concurrency} if OPTIONS.concurrency else {}
app = Ardiq(redis_url=OPTIONS.url, queue_name="benchmark", **MANY)
TASKS = {name: app.task(name=name)(function) for name, function in kit.COROUTINES.items()}


def work() -> None:
    kit.become("ardiq", "run", "on_ardiq:app", "--quiet")


async def feed() -> None:
    task = TASKS[OPTIONS.function]

    async def send_all(source) -> None:
        for chunk in kit.chunks(source, 1000):
            await app.enqueue_many([task.prepare(item) for item in chunk])

    await kit.fed_async(send_all)
    # Its Rust runtime has been seen to crash the interpreter while that ends, after large payloads.
    sys.stdout.flush()
    os._exit(0)


async def trickle() -> None:
    async def send(index: int) -> tuple[str, ...]:
        job = await TASKS["stamp"].enqueue(index)
        return "EXISTS", f"ardiq:benchmark:task:results:{job.id}"

    await kit.trickle_async(send)


if __name__ == "__main__":
    kit.run(work=work, feed=lambda: asyncio.run(feed()), trickle=lambda: asyncio.run(trickle()))
