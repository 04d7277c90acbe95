"""States in which a Redis is there and does not do what it is asked: each a context, and what is said in it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import redis

from tests.support.redis_server import RealServer, free_port
from tests.support.waiting import wait_until


@contextmanager
def out_of_memory(server: RealServer) -> Iterator[None]:
    """`maxmemory` is reached, and nothing may be evicted."""
    with server.client() as admin:
        admin.config_set("maxmemory", 1)
        yield
        admin.config_set("maxmemory", 0)


@contextmanager
def read_only(server: RealServer) -> Iterator[None]:
    """It was made a replica of a primary that is not there, as in a failover."""
    with server.client() as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
        yield
        admin.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def without_a_master(server: RealServer) -> Iterator[None]:
    """The same, and it does not answer reads either."""
    with server.client() as admin:
        admin.config_set("replica-serve-stale-data", "no")
        with read_only(server):
            yield


@contextmanager
def too_few_replicas(server: RealServer) -> Iterator[None]:
    """It takes no writes while fewer replicas follow than it is told to have."""
    with server.client() as admin:
        admin.config_set("min-replicas-to-write", 1)
        yield
        admin.config_set("min-replicas-to-write", 0)


@contextmanager
def busy(server: RealServer) -> Iterator[None]:
    """Another program's script does not end."""
    with server.client() as admin, server.client(socket_timeout=120.0) as other:
        admin.config_set("busy-reply-threshold", 20)

        def run() -> None:
            with contextlib.suppress(redis.ResponseError):  # Which says that it was killed.
                other.eval("while true do end", 0)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        wait_until(lambda: _is_busy(admin), what="it is busy")
        yield
        admin.script_kill()
        thread.join(10)


def _is_busy(admin: redis.Redis) -> bool:
    try:
        admin.ping()
    except redis.ResponseError:
        return True
    return False


@contextmanager
def loading(server: RealServer) -> Iterator[None]:
    """It was killed and reads its append-only file, slowly; it listens to others after each 1,024 commands."""
    with server.client() as admin:
        admin.bgrewriteaof()
        wait_until(
            lambda: not admin.info("persistence")["aof_rewrite_in_progress"], 20, what="it is rewritten"
        )
        filling = admin.pipeline(transaction=False)
        for number in range(5_000):
            filling.set(f"filler:{number % 10}", number)
        filling.execute()
    server.kill()
    server.start(until=server.listens, key_load_delay=300)
    yield
    wait_until(server.answers, 60, what="it has read its data")


@dataclass(frozen=True)
class State:
    """A state, and what a server and an agent say in it."""

    name: str
    enter: Callable[[RealServer], AbstractContextManager[None]]
    said: str

    def __str__(self) -> str:
        return self.name


STATES = [
    State("out of memory", out_of_memory, "is out of memory (maxmemory); raise it or drain results"),
    State("read-only", read_only, "is a replica and takes no writes"),
    State("without a master", without_a_master, "is not ready: Link with MASTER is down"),
    State("too few replicas", too_few_replicas, "is not ready: NOREPLICAS"),
    State("busy", busy, "is busy with a script of another program; `SCRIPT KILL` there ends that script"),
    State("loading", loading, "is loading the dataset in memory"),
]


def frozen_answers(seconds: float) -> State:
    """A state that ends by itself: no client's command is carried out for so long; later, each one that waited is."""

    @contextmanager
    def paused(server: RealServer) -> Iterator[None]:
        with server.client(socket_timeout=seconds + 10) as admin:
            admin.execute_command("CLIENT", "PAUSE", str(round(seconds * 1000)), "ALL")
            yield
            admin.ping()

    return State("slow", paused, "did not answer in time")
