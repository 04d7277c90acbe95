"""Huey on Redis.

Settings: one consumer of 2 threads and no periodic tasks (huey.readthedocs.io, "Consuming Tasks": threads are the
default worker type, and more workers help only tasks that wait). No-ops were slower with 1, 4 or 8 threads on 2 cores.
`results=False` for runs without results.
"""

from __future__ import annotations

import kit
from huey import RedisHuey

OPTIONS = kit.OPTIONS
huey = RedisHuey("benchmark", url=OPTIONS.url, results=OPTIONS.results)
TASKS = {name: huey.task(name=name)(function) for name, function in kit.BLOCKING.items()}


def work() -> None:
    huey.create_consumer(workers=OPTIONS.concurrency or 2, worker_type="thread", periodic=False).run()


def feed() -> None:
    task = TASKS[OPTIONS.function]

    def send_all(source) -> None:
        for item in source:
            task(item)

    kit.time_feed(send_all)


def trickle() -> None:
    def send(index: int) -> tuple[str, ...]:
        return "HEXISTS", huey.storage.result_key, TASKS["stamp"](index).id

    kit.trickle(send)


if __name__ == "__main__":
    kit.run(work=work, feed=feed, trickle=trickle)
