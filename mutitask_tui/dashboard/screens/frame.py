"""The base of all full screens: header, banner, the body of the screen, status line and keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget

from mutitask_tui.dashboard.host import Host
from mutitask_tui.dashboard.model.selection import Selection
from mutitask_tui.dashboard.model.states import Tone
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.widgets.banner import Banner, Trouble
from mutitask_tui.dashboard.widgets.header import Header
from mutitask_tui.dashboard.widgets.key_bar import KeyBar
from mutitask_tui.dashboard.widgets.line_input import CommandLine, FilterLine
from mutitask_tui.dashboard.widgets.status_line import StatusLine
from mutitask_tui.server.snapshot import Snapshot


class FrameScreen(Screen[None]):
    """A full screen. It shows the app's snapshot, trouble and status in its frame."""

    HORIZONTAL_BREAKPOINTS = [
        (0, "-narrow"),
        (110, "-normal"),
        (160, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall")]

    DEFAULT_CSS = """
    FrameScreen {
        background: $background;
        .panel {
            border-top: solid $border-blurred;
            border-title-color: $text-muted;
            border-title-style: bold;
            border-subtitle-color: $text-muted;
            &:focus, &:focus-within {
                border-top: solid $border;
                border-title-color: $text-primary;
            }
        }
        &.-tall .panel {
            border: round $border-blurred;
            &:focus, &:focus-within { border: round $border; }
        }
        &.-stale .body { opacity: 45%; }
        .line { display: none; height: 1; border: none; padding: 0 1 !important; background: $panel; }
        .line.-open { display: block; }
    }
    """

    filters: ClassVar[bool] = False
    """Whether `/` filters the lists of the screen. If so, it implements `current_filter` and `filter_by`."""

    _focused_before: Widget | None = None
    """The widget that gets the focus back when an input line closes."""

    def compose(self) -> ComposeResult:
        """Create the frame and the body."""
        yield Header()
        yield Banner()
        yield from self.body()
        if self.filters:
            yield FilterLine(id="filter-line").add_class("line")
        yield CommandLine(self._ids, self.host.command_history, id="command-line").add_class("line")
        yield StatusLine()
        yield KeyBar()

    def body(self) -> Iterable[Widget]:
        """Create the widgets of the screen. Those with the class `body` are dimmed while the data is old."""
        return ()

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Show a snapshot in the body."""

    @property
    def host(self) -> Host:
        """The app, typed by what screens may use of it."""
        return cast("Host", self.app)

    @property
    def selection(self) -> Selection:
        """The items that the keys act on."""
        return Selection()

    def on_mount(self) -> None:
        """Watch the reactive attributes of the app."""
        self.watch(self.app, "snapshot", self._on_snapshot)
        self.watch(self.app, "trouble", self._on_trouble)
        self.watch(self.app, "status", self._on_status)

    def on_screen_resume(self) -> None:
        """Show the newest snapshot, because the screen was not updated while another one covered it."""
        self._on_snapshot(self.host.snapshot)

    def open_command_line(self) -> None:
        """Open the command line."""
        line = self.query_one(CommandLine)
        if not line.has_focus:
            self._focused_before = self.focused
        line.open()
        line.add_class("-open")
        self.set_focus(line)

    def open_filter(self) -> None:
        """Open the filter line."""
        line = self.query_one(FilterLine)
        if not line.has_focus:
            self._focused_before = self.focused
            with self.prevent(FilterLine.Changed):
                line.value = self.current_filter()
        line.add_class("-open")
        self.set_focus(line)

    def current_filter(self) -> str:
        """Return the filter in effect."""
        return ""

    def filter_by(self, filter_text: str) -> None:
        """Show only what matches `filter_text`, or everything if it is blank."""

    def clear_filter(self) -> None:
        """Remove the filter and close its line."""
        line = self.query_one(FilterLine)
        with self.prevent(FilterLine.Changed):
            line.value = ""
        self.filter_by("")
        self._leave_filter()

    @on(FilterLine.Changed, "#filter-line")
    def _filter_changed(self, event: FilterLine.Changed) -> None:
        self.filter_by(event.value)

    @on(FilterLine.Submitted, "#filter-line")
    @on(FilterLine.Left)
    def _leave_filter(self) -> None:
        line = self.query_one(FilterLine)
        line.remove_class("-open")
        if line.has_focus:
            self.set_focus(self._focused_before)

    @on(FilterLine.Cleared)
    def _filter_dropped(self) -> None:
        self.clear_filter()

    def selection_changed(self) -> None:
        """Show the selection in the status line."""
        self.query_one(StatusLine).show_selection(self.selection)

    @on(CommandLine.Submitted, "#command-line")
    def _typed(self, event: CommandLine.Submitted) -> None:
        line = self.query_one(CommandLine)
        text = event.value.strip()
        line.remember(text)
        if not text or self.host.run_line(text, self.selection):
            self._close_line()

    @on(CommandLine.Closed)
    def _close_line(self) -> None:
        line = self.query_one(CommandLine)
        line.remove_class("-open")
        if line.has_focus:
            self.set_focus(self._focused_before)

    @on(CommandLine.Ambiguous)
    def _ambiguous(self, event: CommandLine.Ambiguous) -> None:
        self.host.show_status("  ".join(event.words), "calm")

    def _ids(self, kind: str) -> list[str]:
        snapshot = self.host.snapshot
        if snapshot is None:
            return []
        if kind == "device":
            return [str(device.id) for device in snapshot.devices]
        channels = [str(channel.id) for channel in snapshot.channels]
        return {"channel": channels, "channels": ["all", *channels]}.get(kind, [])

    def _on_snapshot(self, snapshot: Snapshot | None) -> None:
        if snapshot is None or self.host.front is not self:
            return
        self.query_one(Header).show(snapshot, self.host.trend)
        self.show(snapshot, self.host.trend)
        self.selection_changed()

    def _on_trouble(self, trouble: Trouble | None) -> None:
        self.query_one(Banner).show(trouble)
        self.set_class(trouble is not None and trouble.stale, "-stale")

    def _on_status(self, status: tuple[str, Tone]) -> None:
        self.query_one(StatusLine).show_message(*status)


def selection_of(screen: Screen[object]) -> Selection:
    """Return the selection of a screen. It is empty for dialogs."""
    return screen.selection if isinstance(screen, FrameScreen) else Selection()
