"""Snapshots with only the changes: whatever happens to devices, they show the same as a whole snapshot."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from mutitask_tui.server.reader import Reader
from mutitask_tui.server.snapshot import DeviceView
from tests.protocol.world import World
from worker_agent.protocol import wire
from worker_agent.protocol.broker import Broker


class Views:
    """A reader that has read before, and readers that have not."""

    def __init__(self, url: str, world: World) -> None:
        self.url = url
        self.world = world
        self.reader = Reader(url, world.keys.name)
        self.reader.snapshot()

    def expect_same(self) -> tuple[DeviceView, ...]:
        """Expect that the reader sees what a new one sees. Return the devices."""
        now = self.reader.snapshot().devices
        whole = Reader(self.url, self.world.keys.name).snapshot().devices
        assert [replace(device, seen_s=None) for device in now] == [
            replace(device, seen_s=None) for device in whole
        ]
        return now


@pytest.fixture
def world(client: redis.Redis) -> World:
    return World(client)


@pytest.fixture
def views(redis_url: str, world: World) -> Views:
    return Views(redis_url, world)


def report(agent: Broker, device: int, done: int) -> None:
    agent.heartbeat(device, wire.pack({"state": "running", "done": done, "channels": "all"}))


def test_only_devices_with_a_new_heartbeat_are_read(world: World, views: Views) -> None:
    agents = [world.agent(device) for device in range(5)]
    views.expect_same()
    before = views.expect_same()
    report(agents[3], 3, 7)
    now = views.expect_same()

    assert now[3].done == 7
    assert all(now[number] is before[number] for number in (0, 1, 2, 4))


def test_each_change_of_a_device_is_seen(world: World, views: Views) -> None:
    operator = world.operator()
    agents = [world.agent(device) for device in range(4)]
    views.expect_same()
    operator.set_desired(world.keys.desired_devices, {"1": "paused"})
    assert views.expect_same()[1].desired == "paused"
    operator.fence(agents[2].actor.id)
    assert views.expect_same()[2].state == "offline"
    agents[3].leave(3, 2)
    assert views.expect_same()[3].state == "offline"
    world.agent(3)
    world.agent(9)
    assert [device.id for device in views.expect_same()][-1] == 9
    world.client.zadd(world.keys.leases, {agents[0].actor.id: operator.now_ms() - 1})
    assert views.expect_same()[0].state == "offline"
    operator.add_devices(3)
    assert len(views.expect_same()) >= 7


def test_an_agent_that_left_while_another_came_is_seen_soon(world: World, views: Views) -> None:
    first = world.agent(0)
    views.expect_same()
    first.leave(0, 2)
    second = world.agent(1)
    report(second, 1, 1)
    views.reader._snapshots._whole_at -= 5_000  # Some seconds pass.
    views.reader.snapshot()
    views.expect_same()


def test_whatever_agents_write_breaks_no_snapshot(world: World, views: Views) -> None:
    operator = world.operator()
    agent = world.agent(0)
    views.expect_same()
    for member in (b"", b"x" * 50, b"-1", b"\xff", b"9" * 30):
        world.client.zadd(world.keys.heard, {member: operator.now_ms() + 10_000})
        world.client.hset(world.keys.devices, member, b"not a report")
        world.client.hset(world.keys.agents, member, b"nobody")
    world.client.zadd(world.keys.leases, {b"nobody": float("inf")})
    report(agent, 0, 3)
    assert views.expect_same()[0].done == 3
    report(agent, 0, 4)
    assert views.expect_same()[0].done == 4


def test_a_lost_token_is_pushed_again_by_the_next_sweep(world: World) -> None:
    """Agents at rest block for longer than the second after which a lost token must not matter any more."""
    operator = world.operator()
    at = world.keys.channel(0)
    world.feed(3)
    world.client.delete(at.token)
    world.client.hset(world.keys.fleet, "swept_ms", operator.now_ms() - 1_000)
    operator.sweep(2)
    assert world.client.llen(at.token) == 1
    assert world.client.llen(world.keys.channel(1).token) == 0, "no task waits there"

    world.client.delete(at.token)
    operator.set_desired(world.keys.desired_channels, {"0": "paused"})
    world.client.hset(world.keys.fleet, "swept_ms", operator.now_ms() - 1_000)
    operator.sweep(2)
    assert world.client.llen(at.token) == 0, "nobody claims from a paused channel"
