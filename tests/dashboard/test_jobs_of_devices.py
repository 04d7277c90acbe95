"""A fleet with several versions of the job, and devices whose job has changed, are seen at a glance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mutitask_tui.dashboard.widgets.device_grid import DeviceGrid
from mutitask_tui.server.snapshot import ServerView
from tests.dashboard.conftest import Opened, poll, press, screen_text
from tests.dashboard.fake_backend import NOW_MS, FakeBackend, device

A, B, C = "aaaaaa111111", "bbbbbb222222", "cccccc333333"
SERVER = ServerView("s-1", "head-node", 1234, NOW_MS - 754_000, True, A)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_three_versions_are_seen_on_the_main_screen(
    opened: Opened, backend: FakeBackend, size: tuple[int, int]
) -> None:
    jobs = (A, B, C, A)
    backend.change(server=SERVER, devices=tuple(device(n, job=job) for n, job in enumerate(jobs)))
    async with opened(size=size) as pilot:
        text = screen_text(pilot)
        assert "3 job versions" in text
        assert "job bbbbbb" in text and "job cccccc" in text
        assert "job aaaaaa" not in text, "that is the server's own"


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_changed_job_is_shown_in_its_cell_in_roomy_and_dense_lines(
    opened: Opened, backend: FakeBackend, size: tuple[int, int]
) -> None:
    backend.change(server=SERVER, devices=(device(0, job=A), device(1, job=A, job_changed=True)))
    async with opened(size=size) as pilot:
        assert screen_text(pilot).count("job changed") == 2, "in the title and in one cell"
        await press(pilot, "g")
        assert pilot.app.screen.query_one(DeviceGrid).cell_height == 1
        assert screen_text(pilot).count("job changed") == 2
        backend.change(devices=(device(0, job=A), device(1, job=B)))
        await poll(pilot)
        assert "job changed" not in screen_text(pilot)


async def test_narrow_cells_keep_the_state_beside_a_changed_job(opened: Opened, backend: FakeBackend) -> None:
    backend.change(devices=tuple(device(n, job=A, job_changed=True) for n in range(12)))
    async with opened(size=(80, 24)) as pilot:
        text = screen_text(pilot)
        assert text.count("● running") >= 12 and " changed" in text


async def test_the_devices_screen_shows_both_versions(opened: Opened, backend: FakeBackend) -> None:
    backend.change(
        server=SERVER, devices=(device(0, job=B, job_changed=True, log_file="/state/device0.log"),)
    )
    async with opened(size=(200, 60)) as pilot:
        await press(pilot, "enter")
        text = screen_text(pilot)
        assert "bbbbbb, server aaaaaa" in text and "changed: restart_one loads it" in text
        assert "/state/device0.log" in text


async def test_a_filter_finds_changed_jobs_and_versions(opened: Opened, backend: FakeBackend) -> None:
    backend.change(devices=(device(0, job=A), device(1, job=B), device(2, job=B, job_changed=True)))
    async with opened() as pilot:
        grid = pilot.app.screen.query_one(DeviceGrid)
        await press(pilot, "slash", *"job changed".replace(" ", "\t").split("\t")[1], "enter")
        assert [row.id for row in grid.items] == [2]
        await press(pilot, "escape", "slash", *"bbbbbb", "enter")
        assert [row.id for row in grid.items] == [1, 2]


async def test_a_hostile_path_of_a_log_is_plain_text(opened: Opened, backend: FakeBackend) -> None:
    shown = replace(device(0), log_file="/a\x1b[31m[bold]b[/]\u202e")
    backend.change(devices=(shown,))
    async with opened(size=(200, 60)) as pilot:
        await press(pilot, "enter")
        assert "/a[31m[bold]b[/]" in screen_text(pilot)
