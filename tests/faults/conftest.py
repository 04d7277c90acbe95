"""Fixtures of the tests in which a network, a disk or Redis fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crashes.conftest import fleet as fleet
from tests.crashes.conftest import own_fleet as own_fleet
from tests.protocol.conftest import world as world
from tests.support.proxy import Proxy
from tests.support.redis_server import RealServer


@pytest.fixture
def proxy(shared_server: RealServer) -> Iterator[Proxy]:
    """Return a proxy in front of the shared server."""
    with Proxy(shared_server.port) as made:
        yield made
