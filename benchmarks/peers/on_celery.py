"""Celery on Redis.

Settings: `worker_prefetch_multiplier` 128 and no rate limits, for throughput with many short tasks. Results are ignored
in runs without results (docs.celeryq.dev, userguide/optimizing and userguide/tasks, "Tips and Best Practices"). The
pool is prefork with one child per core (the default), or threads for tasks that sleep. Early acknowledgement is the
default.
"""

from __future__ import annotations

import kit
from celery import Celery

OPTIONS = kit.OPTIONS
app = Celery("on_celery", broker=OPTIONS.url, backend=OPTIONS.url if OPTIONS.results else None)
app.conf.update(
    worker_prefetch_multiplier=128,
    worker_disable_rate_limits=True,
    task_ignore_result=not OPTIONS.results,
    worker_hijack_root_logger=False,
)
TASKS = {name: app.task(name=name)(function) for name, function in kit.BLOCKING.items()}


def work() -> None:
    pool = ["-P", "threads", "-c", str(OPTIONS.concurrency)] if OPTIONS.concurrency else ["-P", "prefork"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING"]
    kit.exec_command("celery", "-A", "on_celery", "worker", *pool, *quiet)


def feed() -> None:
    task = TASKS[OPTIONS.function]

    def send_all(source) -> None:
        # One producer for all messages: userguide/calling, "Connections".
        with app.producer_pool.acquire(block=True) as producer:
            for item in source:
                task.apply_async((item,), producer=producer)

    kit.time_feed(send_all)


def trickle() -> None:
    def send(index: int) -> tuple[str, ...]:
        return "EXISTS", f"celery-task-meta-{TASKS['stamp'].delay(index).id}"

    kit.trickle(send)


if __name__ == "__main__":
    kit.run(work=work, feed=feed, trickle=trickle)
