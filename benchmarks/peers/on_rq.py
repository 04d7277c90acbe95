"""RQ.

Settings: `SimpleWorker`, which runs jobs in its own process. RQ's notes on performance (docs/benchmark.md) say that it
is six times faster than the forking worker. `enqueue_many` in chunks. `result_ttl=0` for runs without results.
"""

from __future__ import annotations

import logging

import kit
from redis import Redis
from rq import Queue, SimpleWorker

OPTIONS = kit.OPTIONS
connection = Redis.from_url(OPTIONS.url)
queue = Queue(connection=connection)
TTL = 500 if OPTIONS.results else 0


def work() -> None:
    logging.disable(logging.INFO)
    SimpleWorker([queue], connection=connection).work(logging_level="WARNING")


def feed() -> None:
    function = kit.BLOCKING[OPTIONS.function]

    def send_all(source) -> None:
        for chunk in kit.chunks(source, 1000):
            queue.enqueue_many([Queue.prepare_data(function, (item,), result_ttl=TTL) for item in chunk])

    kit.time_feed(send_all)


def trickle() -> None:
    def send(index: int) -> tuple[str, ...]:
        return "EXISTS", f"rq:results:{queue.enqueue(kit.stamp, index).id}"

    kit.trickle(send)


if __name__ == "__main__":
    kit.run(work=work, feed=feed, trickle=trickle)
