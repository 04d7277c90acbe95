"""Help, palette and join: what can be done, from the one registry."""

from __future__ import annotations

from textual.widgets import Static

from mutitask_tui.dashboard.screens.confirm import ConfirmScreen
from mutitask_tui.dashboard.screens.help import HelpScreen
from mutitask_tui.server.commands import COMMANDS
from tests.dashboard.conftest import Opened, press, screen_text
from tests.dashboard.fake_link import FakeLink


async def test_help_lists_every_command_with_its_summary(opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "question_mark")
        assert isinstance(pilot.app.screen, HelpScreen)
        shown = [str(cell.content) for cell in pilot.app.screen.query(Static)]
        for command in COMMANDS:
            assert command.usage in shown
            assert any(text.startswith(command.summary) for text in shown)
        await press(pilot, "f1")
        assert not isinstance(pilot.app.screen, HelpScreen)


async def test_the_palette_acts_on_what_was_selected(opened: Opened, link: FakeLink) -> None:
    async with opened() as pilot:
        await press(pilot, "right", "ctrl+p")
        await press(pilot, *"pause_one")
        await pilot.pause(0.3)
        await press(pilot, "enter")
        await press(pilot, "enter") if not link.asked else None
        assert link.asked == [("pause_one", (1,))]


async def test_the_palette_asks_before_danger_too(opened: Opened, link: FakeLink) -> None:
    async with opened() as pilot:
        await press(pilot, "ctrl+p")
        await press(pilot, *"stop_all")
        await pilot.pause(0.3)
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, ConfirmScreen)
        assert link.asked == []


async def test_join_shows_the_line_and_copies_it(opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "j")
        assert "worker-agent job.py --redis" in screen_text(pilot)
        await press(pilot, "y")
        assert pilot.app.clipboard.startswith("worker-agent job.py")


async def test_the_footer_cuts_no_key_in_half(opened: Opened) -> None:
    async with opened(size=(80, 24)) as pilot:
        last = screen_text(pilot).splitlines()[-1]
        assert "pP Pause" in last
        assert "? Help" in last
        assert "q Leave" in last
        assert "^p Palette" in last
