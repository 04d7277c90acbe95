"""Dramatiq on Redis.

Settings: one process of 8 threads (`-p 1`; 8 threads a process is its default: dramatiq.io, guide, "Workers"), the
Results middleware with its Redis backend where results are kept. As many threads as asked for where tasks sleep.
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
KEPT = {"store_results": True} if OPTIONS.results else {}
ACTORS = {name: dramatiq.actor(function, actor_name=name, **KEPT) for name, function in kit.BLOCKING.items()}


def work() -> None:
    kit.become("dramatiq", "on_dramatiq", "-p", "1", "-t", str(OPTIONS.concurrency or 8), "--skip-logging")


def feed() -> None:
    actor = ACTORS[OPTIONS.function]

    def send_all(source) -> None:
        for item in source:
            actor.send(item)

    kit.fed(send_all)


def trickle() -> None:
    def send(index: int) -> tuple[str, ...]:
        return "EXISTS", backend.build_message_key(ACTORS["stamp"].send(index))

    kit.trickle(send)


if __name__ == "__main__":
    kit.run(work=work, feed=feed, trickle=trickle)
