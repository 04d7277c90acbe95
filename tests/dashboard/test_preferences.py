"""The dashboard saves a person's choices and uses the keys from the config file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from mutitask_tui.dashboard.app import DashboardApp
from mutitask_tui.dashboard.screens.help import HelpScreen
from mutitask_tui.dashboard.widgets.device_grid import DeviceGrid
from mutitask_tui.settings.config_file import Loaded, load
from mutitask_tui.settings.options import Config
from mutitask_tui.settings.preferences import Preferences
from tests.dashboard.conftest import NEVER, press, screen_text, settle
from tests.dashboard.fake_backend import FakeBackend

Started = Callable[[str], AbstractAsyncContextManager[Pilot[str]]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the config file."""
    return tmp_path / "config.toml"


@pytest.fixture
def started(backend: FakeBackend, path: Path) -> Started:
    """Open the dashboard on a config file with that text."""

    @asynccontextmanager
    async def start(text: str = "") -> AsyncIterator[Pilot[str]]:
        if text:
            path.write_text(text)
        app = DashboardApp(backend, interval=NEVER, preferences=Preferences(load(path)))
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await settle(pilot)
            await pilot.pause()
            yield pilot

    return start


async def test_a_theme_is_saved(started: Started, path: Path) -> None:
    async with started("# mine\ntheme = 'nord'\n") as pilot:
        assert pilot.app.theme == "nord"
        pilot.app.theme = "dracula"
        await settle(pilot)
    assert path.read_text() == '# mine\ntheme = "dracula"\n'


async def test_nothing_is_written_without_a_change(started: Started, path: Path) -> None:
    async with started("") as pilot:
        await press(pilot, "F", "escape", "question_mark", "escape", "right")
    assert not path.exists()


async def test_density_is_saved_and_restored(started: Started, path: Path) -> None:
    async with started("") as pilot:
        await press(pilot, "g")
        assert pilot.app.screen.query_one(DeviceGrid).cell_height == 1
    assert load(path).config.layout.density == "dense"
    async with started() as pilot:
        assert pilot.app.screen.query_one(DeviceGrid).cell_height == 1
        await press(pilot, "g")
    assert load(path).config.layout.density == "roomy"


async def test_a_change_that_cannot_be_saved_is_reported_and_stays_in_effect(
    started: Started, path: Path
) -> None:
    async with started("theme = 'nord'\n") as pilot:
        path.write_text("theme = broken\n")
        pilot.app.theme = "dracula"
        await settle(pilot)
        await pilot.pause()
        assert "not saved" in screen_text(pilot)
        assert pilot.app.theme == "dracula"
    assert path.read_text() == "theme = broken\n"


async def test_a_changed_key_acts_and_the_old_one_does_not(started: Started, backend: FakeBackend) -> None:
    async with started("[keys]\npause_all = 'ctrl+p'\n") as pilot:
        await press(pilot, "P")
        assert backend.asked == []
        await press(pilot, "ctrl+p")
        assert backend.asked == [("pause_all", ())]
        await press(pilot, "ctrl+backslash")
        assert "CommandPalette" in type(pilot.app.screen).__name__


async def test_two_keys_may_be_swapped(started: Started, backend: FakeBackend) -> None:
    async with started("[keys]\npause_all = 'p'\npause_one = 'P'\n") as pilot:
        await press(pilot, "p", "P")
        assert backend.asked == [("pause_all", ()), ("pause_one", (0,))]


async def test_a_changed_key_acts_on_every_screen(started: Started, backend: FakeBackend) -> None:
    async with started("[keys]\npause_one = 'f7'\nfails = 'f8'\n") as pilot:
        await press(pilot, "enter", "f7", "p")
        assert backend.asked == [("pause_one", (0,))]
        await press(pilot, "f8")
        assert "FailsScreen" in type(pilot.app.screen).__name__


async def test_a_command_without_a_key_can_get_one(started: Started) -> None:
    async with started("[keys]\nstop_allot = 'f9'\n") as pilot:
        await press(pilot, "f9")
        assert "stop_allot" in screen_text(pilot)


async def test_key_bar_help_and_palette_show_changed_keys(started: Started) -> None:
    async with started("[keys]\npause_all = 'ctrl+p'\nhelp = 'f2'\n") as pilot:
        bar = screen_text(pilot).splitlines()[-1]
        assert "p^p Pause" in bar and "F2 Help" in bar and "^\\ Palette" in bar
        await press(pilot, "f2")
        assert isinstance(pilot.app.screen, HelpScreen)
        assert "^p    pause_all" in screen_text(pilot)


def test_preferences_without_a_file_write_nothing() -> None:
    preferences = Preferences()
    assert not preferences.set("theme", "nord")
    preferences.write()
    assert preferences.value("theme") == "nord"


def test_preferences_start_with_the_file(path: Path) -> None:
    preferences = Preferences(Loaded(Config(theme="nord"), path, {}, exists=True))
    assert preferences.value("theme") == "nord" and preferences.value("layout.density") == "auto"
