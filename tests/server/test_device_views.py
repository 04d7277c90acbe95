"""The devices of a snapshot: which object is used again, and what an agent's report tells."""

from __future__ import annotations

from typing import Any

import pytest

from mutitask_tui.server.device_views import DeviceViews
from worker_agent.protocol import wire
from worker_agent.protocol.served_channels import Served

NOW = 1_700_000_000_000
FLEET = {b"devices": b"2"}
AGENTS = {b"0": b"actor0", b"1": b"actor1"}
LEASES = {b"actor0": b"%d" % (NOW + 60_000), b"actor1": b"%d" % (NOW + 60_000)}
DESIRED = {b"default": b"running"}


def heartbeat(at_ms: int, done: int) -> bytes:
    return b"%d" % at_ms + wire.pack({"state": "running", "done": done})


def test_an_unchanged_device_is_the_same_object() -> None:
    views = DeviceViews()
    heartbeats = {b"0": heartbeat(NOW, 5), b"1": heartbeat(NOW, 6)}
    before = views.update(FLEET, LEASES, AGENTS, heartbeats, DESIRED, NOW + 250)
    assert [(view.done, view.seen_s, view.state) for view in before] == [
        (5, 0.0, "running"),
        (6, 0.0, "running"),
    ]
    heartbeats[b"1"] = heartbeat(NOW + 400, 7)
    now = views.update(FLEET, LEASES, AGENTS, heartbeats, DESIRED, NOW + 500)
    assert now[0] is before[0]
    assert now[1].done == 7


def test_every_change_of_a_device_is_seen() -> None:
    views = DeviceViews()
    heartbeats = {b"0": heartbeat(NOW, 5)}
    one = {b"devices": b"1"}
    views.update(one, LEASES, AGENTS, heartbeats, DESIRED, NOW)
    (paused,) = views.update(one, LEASES, {b"0": b"actor0"}, heartbeats, {b"0": b"paused"}, NOW)
    assert paused.desired == "paused"
    (other,) = views.update(one, LEASES, {b"0": b"actor1"}, heartbeats, {}, NOW)
    assert (other.actor, other.desired) == ("actor1", "paused")
    (late,) = views.update(one, LEASES, {b"0": b"actor1"}, heartbeats, {}, NOW + 7_900)
    assert late.seen_s == 7.0
    (gone,) = views.update(one, LEASES, {b"0": b"actor1"}, heartbeats, {}, NOW + 60_000)
    assert (gone.state, gone.actor, gone.seen_s) == ("offline", "", 60.0)
    assert views.update({b"devices": b"0"}, LEASES, {}, heartbeats, {}, NOW) == ()


@pytest.mark.parametrize(
    ("report", "served"),
    [
        ({"channels": "all", "channel": 0}, None),
        ({"channels": "2,0", "channel": 0}, (2, 0)),
        ({"channels": "0,7", "channel": 0}, (0,)),
        ({"channels": "7", "channel": 0}, ()),
        ({"channel": 1}, (1,)),
        ({"channels": "none", "channel": 1}, (1,)),
        ({"channels": "1,1", "channel": 1}, (1,)),
        ({"channels": ["0", 2], "channel": 1}, (1,)),
        ({"channels": b"all", "channel": 1}, (1,)),
        ({"channels": None, "channel": -1}, ()),
        ({"channels": None, "channel": 7}, ()),
        ({"channels": None, "channel": True}, ()),
        ({}, ()),
    ],
)
def test_the_served_channels_are_read_as_untrusted_text(report: dict[str, Any], served: Served) -> None:
    heartbeats = {b"0": b"%d" % NOW + wire.pack({"state": "running", **report})}
    device, never = DeviceViews().update(FLEET, LEASES, {b"0": b"actor0"}, heartbeats, DESIRED, NOW, 3)
    assert device.channels == served
    assert never.channels == ()


def test_another_number_of_channels_changes_what_devices_serve() -> None:
    views = DeviceViews()
    heartbeats = {b"0": b"%d" % NOW + wire.pack({"state": "running", "channels": "0,2"})}
    read = [views.update(FLEET, LEASES, AGENTS, heartbeats, DESIRED, NOW, channels)[0] for channels in (1, 3)]
    assert [device.channels for device in read] == [(0,), (0, 2)]


def test_running_tasks_are_read_as_untrusted_maps() -> None:
    entries: list[Any] = [
        {"text": "a", "seconds": 10.0, "id": "run00000000000000012", "channel": 1, "done": 1, "total": 4, "note": "n",
         "line": "l"},
        {"text": "b", "seconds": 2},
        ["an older form", 3.0],
        {"text": 5, "seconds": "x", "id": ["?"] * 50, "channel": -3, "done": float("nan"), "total": True, "note": None,
         "line": "x" * 10_000},
        *[{"text": "more"}] * 30,
    ]  # fmt: skip
    heartbeats = {b"0": b"%d" % NOW + wire.pack({"state": "running", "tasks": entries})}
    device, _ = DeviceViews().update(FLEET, LEASES, {b"0": b"actor0"}, heartbeats, DESIRED, NOW, 3)
    told, plain, hostile = device.tasks[:3]
    assert (told.number, told.channel, told.share, told.left_s) == (12, 1, 0.25, 30.0)
    assert (told.note, told.line, device.current, device.current_s) == ("n", "l", "a", 10.0)
    assert (plain.done, plain.total, plain.share, plain.left_s, plain.number) == (None, None, None, None, 0)
    assert (hostile.seconds, hostile.channel, hostile.done, hostile.total, hostile.share) == (
        0,
        0,
        None,
        None,
        None,
    )
    assert len(hostile.id) <= 20 and len(hostile.line) <= 200
    assert len(device.tasks) == 15
