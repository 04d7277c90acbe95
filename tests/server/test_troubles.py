"""The headless lines and `status` name what is wrong with a run that continues."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mutitask_tui.server.reader import Reader
from mutitask_tui.server.snapshot import ClientCount, RunningTask, channel_names
from mutitask_tui.server.status import progress_line, tasks_line, to_data, to_lines
from mutitask_tui.server.troubles import GRACE_MS, stuck_runs, troubles, unserved
from tests.cli.tools import Stack
from tests.dashboard.fake_backend import NOW_MS, channel, device, snapshot
from tests.support.redis_server import RealServer
from worker_agent.protocol.served_channels import Served


def test_failed_runs_of_retried_tasks_are_counted(redis_url: str) -> None:
    def fails(_task: int) -> None:
        raise ValueError("no")

    with Stack(redis_url, "failing", iter(range(200)), devices=1, capacity=200, retries=50) as stack:
        stack.until(lambda s: s.channels[0].exhausted)
        stack.agent(0, task_function=fails)
        stack.done("start_one", 0)
        stack.until(lambda s: s.channels[0].errors >= 400)
        status = stack.status()
        now = stack.snapshot()
    assert status["channels"][0]["failed"] == status["channels"][0]["done"] == 0
    assert status["channels"][0]["errors"] >= 400
    assert any("runs failed in TaskChannel0, none done" in text for text in status["troubles"])
    assert "errors)" in progress_line(now) and "runs failed in TaskChannel0, none done" in progress_line(now)


def test_a_channel_that_no_device_serves_is_named(redis_url: str) -> None:
    with Stack(redis_url, "unserved", iter(range(9)), iter(range(9)), devices=2) as stack:
        stack.agent(0, task_function=lambda task: task + 1)
        stack.done("start_all")
        stack.until(lambda s: bool(troubles(s)))
        now = stack.snapshot()
    sentence = "no device serves TaskChannel1 (9 tasks wait): start an agent with --channel 1, or assign it to a device"
    assert troubles(now) == to_data(now)["troubles"] == [sentence]
    assert sentence in progress_line(now)
    text = "\n".join(to_lines(now))
    assert f"! {sentence}" in text.splitlines()
    assert "counters balanced; no device serves it" in text


def test_long_tasks_that_tell_their_progress_get_a_line() -> None:
    def running(number: int, **changes: Any) -> RunningTask:
        values = {"seconds": 30.0, "done": 1, "total": 4, "note": "n\x1b", **changes}
        return RunningTask(f"t{number}", id=f"run00000{number:012d}", **values)

    def line(*tasks: RunningTask) -> str:
        return tasks_line(snapshot(devices=(device(0), device(3, tasks=tasks))))

    assert line(running(7)) == "task 7 on Device3 25% (1 of 4), about 90 s left, n"
    assert line(running(7, total=None, note="")) == "task 7 on Device3 (1 done)"
    assert line(running(7, seconds=1.0)) == line(running(7, done=None)) == ""
    five = line(*(running(number, seconds=10.0 + number) for number in range(5)))
    assert five.startswith("task 4 on Device3") and five.endswith("; and 2 more")
    assert line(*map(running, range(13))) == ""
    (told,) = to_data(snapshot(devices=(device(3, tasks=(running(7),)),)))["devices"][0]["tasks"]
    assert (told["done"], told["total"], told["left_s"], told["id"]) == (1, 4, 90.0, "run00000000000000007")


@pytest.mark.parametrize(("connected", "near"), [(10, False), (899, False), (900, True), (1_200, True)])
def test_a_redis_that_is_near_its_limit_of_clients_is_a_trouble(connected: int, near: bool) -> None:
    now = replace(snapshot(devices=(device(0),)), clients=ClientCount(connected, 1_000))
    sentence = (
        f"Redis has {connected:,} of at most 1,000 clients and refuses any above that: raise its maxclients"
    )
    assert any(text.startswith(sentence) for text in troubles(now)) == near
    assert (sentence in progress_line(now)) == near
    assert any(line.startswith(f"! {sentence}") for line in to_lines(now)) == near


def test_the_number_of_clients_is_read_where_that_is_allowed(own_server: RealServer) -> None:
    with own_server.client() as admin, Stack(own_server.url, "clients", iter(range(1)), devices=1) as stack:
        admin.config_set("maxclients", 60)
        clients = Reader(own_server.url, "clients").snapshot().clients
        assert clients is not None and clients.most == 60 and 0 < clients.connected < 60
        assert not any("clients" in text for text in stack.status()["troubles"])
        others = [own_server.client() for _ in range(60 - clients.connected - 4)]
        try:
            for other in others:
                other.ping()
            assert any(text.startswith("Redis has 5") for text in stack.status()["troubles"])
        finally:
            for other in others:
                other.close()

        admin.execute_command("ACL", "SETUSER", "viewer", "on", ">pw", "~*", "+@all", "-info", "-config")
        url = f"redis://viewer:pw@127.0.0.1:{own_server.port}/0"
        seen = Reader(url, "clients").snapshot()
        assert seen.clients is None and len(seen.channels) == 1


def test_a_new_run_counts_its_errors_from_zero(redis_url: str) -> None:
    for errors in (1, 0):
        with Stack(redis_url, "fresh", iter(range(1)), devices=1, retries=0, mode="fresh") as stack:
            stack.agent(0, task_function=lambda task, errors=errors: None if errors else 1)
            stack.done("start_all")
            stack.until(lambda s: s.channels[0].failed + s.channels[0].done == 1)
            assert stack.snapshot().channels[0].errors == errors


@pytest.mark.parametrize("server", [None, "young", "old"])
def test_no_channel_is_called_unserved_before_agents_had_time_to_start(server: str | None) -> None:
    now = snapshot(devices=())
    assert now.server is not None
    age = GRACE_MS - 1 if server == "young" else GRACE_MS
    holder = None if server is None else replace(now.server, since_ms=NOW_MS - age)
    found = troubles(replace(now, server=holder))
    assert found == ([] if server == "young" else [
        "no device serves TaskChannel0, TaskChannel1 (45 tasks wait): start an agent with --channel 0, "
        "or assign it to a device"
    ])  # fmt: skip


def test_a_paused_channel_and_one_without_tasks_need_no_device() -> None:
    now = snapshot(devices=(), channels=(channel(0, paused=True), channel(1, waiting=0)))
    assert troubles(now) == []


@pytest.mark.parametrize(
    ("served", "without_device"),
    [
        ([None], []),
        ([(0, 2)], [1]),
        ([(0, 2), (1,)], []),
        ([(2,), ()], [0, 1]),
        ([], [0, 1, 2]),
    ],
)
def test_a_channel_is_served_by_each_device_that_lists_it(
    served: list[Served], without_device: list[int]
) -> None:
    devices = tuple(device(number, channels=channels) for number, channels in enumerate(served))
    now = snapshot(
        devices=(*devices, device(9, "offline", channels=None)), channels=tuple(channel(n) for n in range(3))
    )
    assert [c.id for c in unserved(now)] == without_device


def test_the_devices_of_a_channel_are_counted_and_named() -> None:
    devices = (
        device(0, channels=None),
        device(1, channels=(2, 0)),
        device(2, "paused", channels=(1,)),
        device(3, "offline", channels=None),
    )
    now = snapshot(devices=devices, channels=tuple(channel(n) for n in range(3)))
    assert now.device_counts == (2, 2, 2)
    assert [now.devices_of(n) for n in range(3)] == [[0, 1], [0, 2], [0, 1]]


def test_a_task_is_stuck_only_if_it_is_long_for_each_kind_of_task_that_its_device_runs() -> None:
    quick = tuple(device(n, channels=(0,), task_s=0.2) for n in range(3))
    slow = tuple(device(n, channels=(1,), task_s=10.0) for n in range(3, 6))
    for served, stuck in (((0,), [9]), ((0, 1), []), (None, []), ((1,), [])):
        late = device(9, channels=served, current_s=150.0)
        assert [run.device for run in stuck_runs((*quick, *slow, late))] == stuck, served
    assert stuck_runs((*quick, *slow, device(9, channels=None, current_s=250.0)))


def test_a_device_is_compared_with_those_that_serve_the_same_channels_in_another_order() -> None:
    others = tuple(device(n, channels=(1, 0), task_s=0.2) for n in range(3))
    assert [run.usual_s for run in stuck_runs((*others, device(9, channels=(0, 1), current_s=90.0)))] == [0.2]


def test_status_tells_which_channels_a_device_serves() -> None:
    devices = (
        device(0, channels=None),
        device(1, channels=(2, 0), channel=0),
        device(2, "offline", channels=(1,), channel=1),
        device(3, "offline", seen_s=None),
    )
    now = snapshot(devices=devices, channels=tuple(channel(n) for n in range(3)))
    data = to_data(now)["devices"]
    assert [entry["channels"] for entry in data] == [[0, 1, 2], [2, 0], [1], []]
    assert [entry["channel"] for entry in data] == [0, 0, 1, 0]
    lines = [line for line in to_lines(now) if line.startswith("Device")]
    assert lines == [
        "Device0: running, serves all channels, 1 running, 1000 done, 0 errors, seen 0 s ago",
        "Device1: running, serves TaskChannel2, TaskChannel0, 1 running, 1001 done, 0 errors, seen 0 s ago",
        "Device2: offline, 0 running, 1002 done, 0 errors, seen 42 s ago",
        "Device3: offline, 0 running, 1003 done, 0 errors, never seen",
    ]


def test_many_channels_are_counted() -> None:
    assert channel_names(tuple(range(30))).endswith("TaskChannel6, TaskChannel7 and 22 more")
    assert (channel_names(None), channel_names(())) == ("all channels", "no channel")


def test_a_stuck_task_is_named_with_its_device_and_age() -> None:
    stuck = device(1, current_s=289.0, current="'a\x1b[31m\u202eb'")
    now = snapshot(devices=(device(0, task_s=0.2), stuck, device(2, channel=1)))
    assert troubles(now) == ["Device1 has run one task for 4 min (others take 0.2 s): 'a[31mb'"]
    assert "Device1 has run one task for 4 min" in progress_line(now)
    unknown = snapshot(devices=(device(0, current_s=3700.0), device(1, channel=1, current_s=3000.0)))
    assert [text[:37] for text in troubles(unknown)] == ["Device0 has run one task for 61 min: "]
