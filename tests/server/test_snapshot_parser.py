"""The devices of a snapshot: a changed device is a new object, an unchanged device is the same object."""

from __future__ import annotations

from mutitask_tui.server.snapshot_parser import DeviceViews
from worker_agent.protocol import wire

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
