"""Fixtures of the agent's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.agent.bench import Bench
from tests.crashes.conftest import fleet as fleet
from tests.faults.conftest import proxy as proxy


@pytest.fixture
def bench(redis_url: str, client: redis.Redis) -> Iterator[Bench]:
    """A namespace whose server and agents run in this process."""
    made = Bench(redis_url, client)
    yield made
    made.stop()
