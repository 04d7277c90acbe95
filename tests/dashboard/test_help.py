"""Help, palette and join: they show the commands of the registry."""

from __future__ import annotations

from textual.command import CommandList, CommandPalette
from textual.pilot import Pilot
from textual.widgets import Static

from mutitask_tui.dashboard.keys.bindings import VIEW_BINDINGS
from mutitask_tui.dashboard.screens.confirm import ConfirmScreen
from mutitask_tui.dashboard.screens.help import HelpScreen
from mutitask_tui.server.commands.registry import COMMANDS
from tests.dashboard.conftest import Opened, press, screen_text, settle
from tests.dashboard.fake_backend import FakeBackend


async def search(pilot: Pilot[str], name: str) -> None:
    """Type a command's name into the palette and run the first hit."""
    await press(pilot, *("space" if letter == " " else letter for letter in name))
    hits = pilot.app.screen.query_one(CommandList)
    for _ in range(200):
        hit = hits.get_option_at_index(0).hit if hits.option_count else None  # type: ignore[attr-defined]
        if hit is not None and hit.text == name and hits.highlighted == 0:
            break
        await pilot.pause()
    await press(pilot, "enter")


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


async def test_the_palette_acts_on_the_selection(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "right", "ctrl+p")
        await search(pilot, "pause_one")
        assert backend.asked == [("pause_one", (1,))]


async def test_the_palette_asks_before_a_dangerous_command(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "ctrl+p")
        await search(pilot, "stop_all")
        assert isinstance(pilot.app.screen, ConfirmScreen)
        assert backend.asked == []


async def test_join_shows_the_line_and_copies_it(opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "j")
        assert "worker-agent job.py --redis" in screen_text(pilot)
        await press(pilot, "y")
        assert pilot.app.clipboard.startswith("worker-agent job.py")


async def test_help_lists_the_keys_of_the_view_and_of_the_lists(opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "question_mark")
        shown = [str(cell.content) for cell in pilot.app.screen.query(Static)]
        for binding in VIEW_BINDINGS:
            assert binding.tooltip in shown
        assert {"Space", "*", "G", "[ ]", "^z"} <= set(shown)


async def test_the_key_bar_shows_only_whole_entries(opened: Opened) -> None:
    async with opened(size=(80, 24)) as pilot:
        last = screen_text(pilot).splitlines()[-1]
        assert "pP Pause" in last
        assert "? Help" in last
        assert "q Leave" in last
        assert "^p Palette" in last


async def test_a_click_in_the_key_bar_presses_that_key(opened: Opened, backend: FakeBackend) -> None:
    async with opened(size=(80, 24)) as pilot:
        await pilot.click("KeyBar", offset=(2, 0))
        await settle(pilot)
        await pilot.click("KeyBar", offset=(3, 0))
        await settle(pilot)
        await pilot.click("KeyBar", offset=(16, 0))
        await settle(pilot)
        assert [name for name, _ in backend.asked] == ["pause_one", "pause_all", "start_one"]
        await pilot.click("KeyBar", offset=(78, 0))
        await settle(pilot)
        assert isinstance(pilot.app.screen, CommandPalette)


async def test_join_shows_what_a_loopback_address_needs(opened: Opened, backend: FakeBackend) -> None:
    backend.join_note = (
        "The embedded Valkey listens on this machine alone: start it again with --resume --listen ADDRESS"
    )
    async with opened() as pilot:
        await press(pilot, "j")
        assert "listens on this machine alone" in screen_text(pilot)
