"""Dask distributed, which has its own scheduler and does not use Redis.

Settings: a scheduler and one worker process of two threads, one per core of the reference machine
(distributed.dask.org, "Worker": threads for functions that release the GIL, processes otherwise). `client.map` with
`batch_size` (distributed.dask.org, API). `pure=False`, so that equal tasks run each time.
"""

from __future__ import annotations

import json
import logging
import time

import kit
from distributed import Client, LocalCluster, wait

OPTIONS = kit.OPTIONS
BATCH = 1000


def cluster() -> LocalCluster:
    return LocalCluster(
        n_workers=1,
        threads_per_worker=OPTIONS.concurrency or 2,
        processes=True,
        dashboard_address=None,
        silence_logs=logging.ERROR,
    )


def whole() -> None:
    """Feed and run the tasks local_cluster the same time. The results stay on the worker until `gather`."""
    with cluster() as local_cluster, Client(local_cluster) as client:
        function = kit.BLOCKING[OPTIONS.function]
        wait(client.map(function, range(100), pure=False))
        started = time.monotonic()
        futures = client.map(function, list(kit.items(OPTIONS)), pure=False, batch_size=BATCH)
        if OPTIONS.results:
            client.gather(futures)
        else:
            wait(futures)
        print(json.dumps({"seconds": time.monotonic() - started}))


def trickle() -> None:
    with cluster() as local_cluster, Client(local_cluster) as client:
        wait(client.map(kit.noop, range(100), pure=False))
        futures = []
        for index, at_s in kit.schedule():
            time.sleep(max(0.0, at_s - time.monotonic()))
            yielded = time.monotonic()
            future = client.submit(kit.stamp, index, pure=False)
            future.add_done_callback(
                lambda _done, index=index, yielded=yielded: kit.report_sent(
                    index, yielded, "READ-AT", repr(time.monotonic())
                )
            )
            futures.append(future)
        wait(futures)
        time.sleep(0.5)


if __name__ == "__main__":
    kit.run(whole=whole, trickle=trickle)
