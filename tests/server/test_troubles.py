"""The headless lines and `status` name what is wrong with a run that continues."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mutitask_tui.server.status import progress_line, to_data, to_lines
from mutitask_tui.server.troubles import GRACE_MS, troubles
from tests.cli.tools import Stack
from tests.dashboard.fake_backend import NOW_MS, channel, device, snapshot


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
    sentence = "no device serves TaskChannel1 (9 tasks wait): start an agent with --channel 1"
    assert troubles(now) == to_data(now)["troubles"] == [sentence]
    assert sentence in progress_line(now)
    text = "\n".join(to_lines(now))
    assert f"! {sentence}" in text.splitlines()
    assert "counters balanced; no device serves it" in text


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
        "no device serves TaskChannel0, TaskChannel1 (45 tasks wait): start an agent with --channel 0"
    ])  # fmt: skip


def test_a_paused_channel_and_one_without_tasks_need_no_device() -> None:
    now = snapshot(devices=(), channels=(channel(0, paused=True), channel(1, waiting=0)))
    assert troubles(now) == []


def test_a_stuck_task_is_named_with_its_device_and_age() -> None:
    stuck = device(1, current_s=289.0, current="'a\x1b[31m\u202eb'")
    now = snapshot(devices=(device(0, task_s=0.2), stuck, device(2, channel=1)))
    assert troubles(now) == ["Device1 has run one task for 4 min (others take 0.2 s): 'a[31mb'"]
    assert "Device1 has run one task for 4 min" in progress_line(now)
    unknown = snapshot(devices=(device(0, current_s=3700.0), device(1, channel=1, current_s=3000.0)))
    assert [text[:37] for text in troubles(unknown)] == ["Device0 has run one task for 61 min: "]
