"""Dask distributed: its own scheduler, no Redis.

Settings: a scheduler and one worker process of two threads, one for each core of the machine that this was written on
(distributed.dask.org, "Worker": threads for functions that release the lock, processes otherwise), `client.map` with
`batch_size` (distributed.dask.org, API), `pure=False` so that equal tasks are run each time.
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
    """Feed and run at once; the results stay on the worker until they are gathered."""
    with cluster() as at, Client(at) as client:
        function = kit.BLOCKING[OPTIONS.function]
        wait(client.map(function, range(100), pure=False))
        began = time.monotonic()
        futures = client.map(function, list(kit.items(OPTIONS)), pure=False, batch_size=BATCH)
        if OPTIONS.results:
            client.gather(futures)
        else:
            wait(futures)
        print(json.dumps({"seconds": time.monotonic() - began}))


def trickle() -> None:
    with cluster() as at, Client(at) as client:
        wait(client.map(kit.noop, range(100), pure=False))
        futures = []
        for index, at_s in kit.due():
            time.sleep(max(0.0, at_s - time.monotonic()))
            yielded = time.monotonic()
            future = client.submit(kit.stamp, index, pure=False)
            future.add_done_callback(
                lambda _done, index=index, yielded=yielded: kit.told(
                    index, yielded, "READ-AT", repr(time.monotonic())
                )
            )
            futures.append(future)
        wait(futures)
        time.sleep(0.5)


if __name__ == "__main__":
    kit.run(whole=whole, trickle=trickle)
