"""Fixtures of the crash tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crashes.fleet import Fleet, closing
from tests.support.programs import Program
from tests.support.redis_server import RealServer


@pytest.fixture
def fleet(
    shared_server: RealServer, redis_url: str, spawn: Callable[..., Program], tmp_path: Path
) -> Iterator[Fleet]:
    """A namespace in the shared Redis, which is emptied before each test."""
    with closing(Fleet(shared_server, spawn, tmp_path)) as made:
        yield made


@pytest.fixture
def own_fleet(own_server: RealServer, spawn: Callable[..., Program], tmp_path: Path) -> Iterator[Fleet]:
    """A namespace in a durable Redis of the test's own. Every write is on the disk before its answer."""
    with closing(Fleet(own_server, spawn, tmp_path)) as made:
        made.every_write_on_disk()
        yield made
