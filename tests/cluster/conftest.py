"""A cluster and a service behind Sentinels for these tests, and fleets on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crashes.fleet import Fleet, closing
from tests.support.programs import Program
from tests.support.redis_cluster import RealCluster
from tests.support.redis_sentinel import RealSentinels


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    """Start three masters with one replica each. The tests of a module share them."""
    made = RealCluster(replicas=1)
    try:
        yield made.start()
    finally:
        made.remove()


@pytest.fixture(scope="module")
def sentinels() -> Iterator[RealSentinels]:
    """Start a durable master, its replica and three Sentinels. The tests of a module share them."""
    made = RealSentinels(durable=True)
    try:
        yield made.start()
    finally:
        made.remove()


@pytest.fixture
def fleet_on(spawn: Callable[..., Program], tmp_path: Path) -> Iterator[Callable[[Any], Fleet]]:
    """Return a function: `fleet_on(place)` is a fleet on that cluster or behind those Sentinels."""
    made: list[Any] = []

    def make(place: Any) -> Fleet:
        context = closing(Fleet(place, spawn, tmp_path))
        made.append(context)
        return context.__enter__()

    yield make
    for context in made:
        context.__exit__(None, None, None)
