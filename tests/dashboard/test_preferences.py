"""The dashboard keeps what a person chose, and takes keys that were moved."""

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

Begun = Callable[[str], AbstractAsyncContextManager[Pilot[str]]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the config is."""
    return tmp_path / "config.toml"


@pytest.fixture
def begun(backend: FakeBackend, path: Path) -> Begun:
    """Open the dashboard on a config file with that text."""

    @asynccontextmanager
    async def begin(text: str = "") -> AsyncIterator[Pilot[str]]:
        if text:
            path.write_text(text)
        app = DashboardApp(backend, interval=NEVER, preferences=Preferences(load(path)))
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await settle(pilot)
            await pilot.pause()
            yield pilot

    return begin


async def test_a_theme_is_kept(begun: Begun, path: Path) -> None:
    async with begun("# mine\ntheme = 'nord'\n") as pilot:
        assert pilot.app.theme == "nord"
        pilot.app.theme = "dracula"
        await settle(pilot)
    assert path.read_text() == '# mine\ntheme = "dracula"\n'


async def test_nothing_is_written_by_looking(begun: Begun, path: Path) -> None:
    async with begun("") as pilot:
        await press(pilot, "F", "escape", "question_mark", "escape", "right")
    assert not path.exists()


async def test_density_is_kept_and_taken_up(begun: Begun, path: Path) -> None:
    async with begun("") as pilot:
        await press(pilot, "g")
        assert pilot.app.screen.query_one(DeviceGrid).cell_height == 1
    assert load(path).config.layout.density == "dense"
    async with begun() as pilot:
        assert pilot.app.screen.query_one(DeviceGrid).cell_height == 1
        await press(pilot, "g")
    assert load(path).config.layout.density == "roomy"


async def test_a_choice_that_cannot_be_written_is_said_and_holds(begun: Begun, path: Path) -> None:
    async with begun("theme = 'nord'\n") as pilot:
        path.write_text("theme = broken\n")
        pilot.app.theme = "dracula"
        await settle(pilot)
        await pilot.pause()
        assert "not saved" in screen_text(pilot)
        assert pilot.app.theme == "dracula"
    assert path.read_text() == "theme = broken\n"


async def test_a_moved_key_acts_and_the_old_one_does_not(begun: Begun, backend: FakeBackend) -> None:
    async with begun("[keys]\npause_all = 'ctrl+p'\n") as pilot:
        await press(pilot, "P")
        assert backend.asked == []
        await press(pilot, "ctrl+p")
        assert backend.asked == [("pause_all", ())]
        await press(pilot, "ctrl+backslash")
        assert "CommandPalette" in type(pilot.app.screen).__name__


async def test_two_keys_may_be_swapped(begun: Begun, backend: FakeBackend) -> None:
    async with begun("[keys]\npause_all = 'p'\npause_one = 'P'\n") as pilot:
        await press(pilot, "p", "P")
        assert backend.asked == [("pause_all", ()), ("pause_one", (0,))]


async def test_a_moved_key_holds_on_every_screen(begun: Begun, backend: FakeBackend) -> None:
    async with begun("[keys]\npause_one = 'f7'\nfails = 'f8'\n") as pilot:
        await press(pilot, "enter", "f7", "p")
        assert backend.asked == [("pause_one", (0,))]
        await press(pilot, "f8")
        assert "FailsScreen" in type(pilot.app.screen).__name__


async def test_a_command_without_a_key_may_be_given_one(begun: Begun) -> None:
    async with begun("[keys]\nstop_allot = 'f9'\n") as pilot:
        await press(pilot, "f9")
        assert "stop_allot" in screen_text(pilot)


async def test_key_bar_help_and_palette_show_moved_keys(begun: Begun) -> None:
    async with begun("[keys]\npause_all = 'ctrl+p'\nhelp = 'f2'\n") as pilot:
        bar = screen_text(pilot).splitlines()[-1]
        assert "p^p Pause" in bar and "F2 Help" in bar and "^\\ Palette" in bar
        await press(pilot, "f2")
        assert isinstance(pilot.app.screen, HelpScreen)
        assert "^p    pause_all" in screen_text(pilot)


def test_a_memory_without_a_file_writes_nothing() -> None:
    preferences = Preferences()
    assert not preferences.set("theme", "nord")
    preferences.write()
    assert preferences.value("theme") == "nord"


def test_a_memory_begins_with_what_the_file_says(path: Path) -> None:
    preferences = Preferences(Loaded(Config(theme="nord"), path, {}, exists=True))
    assert preferences.value("theme") == "nord" and preferences.value("layout.density") == "auto"
