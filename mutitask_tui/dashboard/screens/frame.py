"""The frame that every whole screen stands in: header, banner, its own body, status line, keys."""

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
    """A whole screen. It watches the app's snapshot, trouble and last act."""

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
    """Whether `/` narrows down what the screen lists; it then has `filter_value` and `filter_by`."""

    _focused_before: Widget | None = None

    def compose(self) -> ComposeResult:
        """The frame around the body."""
        yield Header()
        yield Banner()
        yield from self.body()
        if self.filters:
            yield FilterLine(id="filter-line").add_class("line")
        yield CommandLine(self._ids, self.host.command_history, id="command-line").add_class("line")
        yield StatusLine()
        yield KeyBar()

    def body(self) -> Iterable[Widget]:
        """The screen's own widgets; those with class `body` are dimmed when the data is old."""
        return ()

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Show this snapshot in the body."""

    @property
    def host(self) -> Host:
        """The app, with its type."""
        return cast("Host", self.app)

    @property
    def selection(self) -> Selection:
        """What the keys act on."""
        return Selection()

    def on_mount(self) -> None:
        """Begin to watch the app."""
        self.watch(self.app, "snapshot", self._on_snapshot)
        self.watch(self.app, "trouble", self._on_trouble)
        self.watch(self.app, "status", self._on_status)

    def on_screen_resume(self) -> None:
        """What lay under another screen may be old."""
        self._on_snapshot(self.host.snapshot)

    def open_command_line(self) -> None:
        """Let a person type a command."""
        line = self.query_one(CommandLine)
        if not line.has_focus:
            self._focused_before = self.focused
        line.open()
        line.add_class("-open")
        self.set_focus(line)

    def open_filter(self) -> None:
        """Let a person narrow down what is listed."""
        line = self.query_one(FilterLine)
        if not line.has_focus:
            self._focused_before = self.focused
            with self.prevent(FilterLine.Changed):
                line.value = self.filter_value()
        line.add_class("-open")
        self.set_focus(line)

    def filter_value(self) -> str:
        """The present filter."""
        return ""

    def filter_by(self, wanted: str) -> None:
        """Narrow down to what matches `wanted`; to everything if it is blank."""

    def drop_filter(self) -> None:
        """Show everything again."""
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

    @on(FilterLine.Dropped)
    def _filter_dropped(self) -> None:
        self.drop_filter()

    def selection_changed(self) -> None:
        """Name the selection in the status line."""
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
        return [str(channel.id) for channel in snapshot.channels] if kind == "channel" else []

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
    """What is selected on a screen; nothing on those that show no devices, channels or fails."""
    return screen.selection if isinstance(screen, FrameScreen) else Selection()
