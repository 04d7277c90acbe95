"""Dramatiq on Redis.

Settings: one process (`-p 1`) of 8 threads, the default number of threads (dramatiq.io, guide, "Workers"), or as many
threads as the options ask for. Runs with results use the Results middleware with its Redis backend.
"""

from __future__ import annotations

import dramatiq
import kit
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

OPTIONS = kit.OPTIONS
broker = RedisBroker(url=OPTIONS.url)
backend = RedisBackend(url=OPTIONS.url)
if OPTIONS.results:
    broker.add_middleware(Results(backend=backend))
dramatiq.set_broker(broker)
STORE_RESULTS = {"store_results": True} if OPTIONS.results else {}
ACTORS = {
    name: dramatiq.actor(function, actor_name=name, **STORE_RESULTS)
    for name, function in kit.BLOCKING.items()
}


def work() -> None:
    kit.exec_command(
        "dramatiq", "on_dramatiq", "-p", "1", "-t", str(OPTIONS.concurrency or 8), "--skip-logging"
    )


def feed() -> None:
    actor = ACTORS[OPTIONS.function]

    def send_all(source) -> None:
        for item in source:
            actor.send(item)

    kit.time_feed(send_all)


def trickle() -> None:
    def send(index: int) -> tuple[str, ...]:
        return "EXISTS", backend.build_message_key(ACTORS["stamp"].send(index))

    kit.trickle(send)


if __name__ == "__main__":
    kit.run(work=work, feed=feed, trickle=trickle)
