"""States in which Redis runs and refuses commands: each with a context manager and the message it causes."""

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
    """`maxmemory` is reached, and Redis may not evict keys."""
    with server.client() as admin:
        admin.config_set("maxmemory", 1)
        yield
        admin.config_set("maxmemory", 0)


@contextmanager
def read_only(server: RealServer) -> Iterator[None]:
    """The server is a replica of a primary that does not exist, as during a failover."""
    with server.client() as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
        yield
        admin.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def without_a_master(server: RealServer) -> Iterator[None]:
    """The same, and the server does not answer reads either."""
    with server.client() as admin:
        admin.config_set("replica-serve-stale-data", "no")
        with read_only(server):
            yield


@contextmanager
def too_few_replicas(server: RealServer) -> Iterator[None]:
    """The server takes no writes because it has fewer replicas than required."""
    with server.client() as admin:
        admin.config_set("min-replicas-to-write", 1)
        yield
        admin.config_set("min-replicas-to-write", 0)


@contextmanager
def busy(server: RealServer) -> Iterator[None]:
    """A script of another program does not end."""
    with server.client() as admin, server.client(socket_timeout=120.0) as other:
        admin.config_set("busy-reply-threshold", 20)

        def run() -> None:
            with contextlib.suppress(redis.ResponseError):  # The script was killed.
                other.eval("while true do end", 0)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        wait_until(lambda: _is_busy(admin), what="Redis is busy")
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
    """The server was killed and reads its append-only file slowly. It accepts connections after each 1,024 commands."""
    with server.client() as admin:
        admin.bgrewriteaof()
        wait_until(
            lambda: not admin.info("persistence")["aof_rewrite_in_progress"], 20, what="the file is rewritten"
        )
        filling = admin.pipeline(transaction=False)
        for number in range(5_000):
            filling.set(f"filler:{number % 10}", number)
        filling.execute()
    server.kill()
    server.start(until=server.listens, key_load_delay=300)
    yield
    wait_until(server.answers, 60, what="Redis has read its data")


@dataclass(frozen=True)
class State:
    """A state, and the message of a server and an agent in it."""

    name: str
    context: Callable[[RealServer], AbstractContextManager[None]]
    message: str

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
    """Return a state that ends by itself: for `seconds`, Redis runs no client's command. It runs them all later."""

    @contextmanager
    def paused(server: RealServer) -> Iterator[None]:
        with server.client(socket_timeout=seconds + 10) as admin:
            admin.execute_command("CLIENT", "PAUSE", str(round(seconds * 1000)), "ALL")
            yield
            admin.ping()

    return State("slow", paused, "did not answer in time")
