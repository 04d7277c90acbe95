"""The server's own snapshots while Redis can be read but refuses writes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from mutitask_tui.server.commands.redis_backend import RedisBackend
from mutitask_tui.server.core import ServerCore
from tests.faults.states import STATES
from tests.support.redis_server import RealServer
from tests.support.waiting import wait_until
from worker_agent.protocol.membership import RunPlan


@pytest.fixture
def core(own_server: RealServer) -> Iterator[ServerCore]:
    """Return a server in this process that has more tasks than its capacity."""
    made = ServerCore(own_server.url, "said", RunPlan(channels=1, devices=1, capacity=5), [iter(range(100))])
    made.open()
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize("state", [s for s in STATES if s.name in ("out of memory", "read-only")], ids=str)
def test_the_servers_own_snapshot_says_why_it_waits_and_since_when(
    core: ServerCore, own_server: RealServer, state
) -> None:
    backend = RedisBackend(core.url, core.name, owns_server=True, wait=core.wait)
    assert backend.snapshot().wait is None
    began = time.time()

    with state.context(own_server):
        wait = wait_until(lambda: backend.snapshot().wait, what="the server says that it waits")

    assert state.message in wait.why
    assert began - 1 <= wait.since_ms / 1000 <= time.time()
    wait_until(lambda: backend.snapshot().wait is None, what="the server continues")
