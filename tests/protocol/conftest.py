"""Fixtures of the protocol's tests, which run on every kind of server (`-m protocol`)."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest
import redis

from tests.protocol.examples import LONG, PROFILE, SINGLE
from tests.protocol.world import World

HERE = Path(__file__).parent

hypothesis.settings.register_profile("short", deadline=None, derandomize=True, print_blob=True, database=None)
hypothesis.settings.register_profile("long", deadline=None, print_blob=True)
hypothesis.settings.register_profile(
    "first-failure", hypothesis.settings.get_profile("short"),
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
)  # fmt: skip
hypothesis.settings.load_profile(PROFILE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder. On a cluster or with Sentinels, run only the tests that use the server."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.protocol)
            if LONG:
                item.add_marker(pytest.mark.timeout(0))
    if not SINGLE:
        items[:] = [item for item in items if "shared_server" in getattr(item, "fixturenames", ())]


@pytest.fixture
def world(client: redis.Redis) -> World:
    """Return a namespace with a server, two channels and no tasks."""
    return World(client)
