"""What a screen may read from the app and ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from textual.screen import Screen

from mutitask_tui.dashboard.backend import Backend
from mutitask_tui.dashboard.model.device_order import Detections
from mutitask_tui.dashboard.model.device_trend import DeviceTrend
from mutitask_tui.dashboard.model.selection import CommandRequest, Selection
from mutitask_tui.dashboard.model.states import Tone
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.widgets.banner import Trouble
from mutitask_tui.server.snapshot import Snapshot
from mutitask_tui.settings.preferences import Preferences


class Host(Protocol):
    """The app as the screens see it. `DashboardApp` implements it.

    The attributes `snapshot`, `trouble`, `status` and `requests_done` are reactive: a screen can watch them.
    """

    backend: Backend
    preferences: Preferences
    trend: Trend
    device_trend: DeviceTrend
    detections: Detections
    command_history: list[str]
    """The command lines that were typed, oldest first."""
    last_request: CommandRequest | None
    """The request that ended last; None if it raised an error."""

    @property
    def keys(self) -> Mapping[str, str]:
        """The keys in effect, by the name of the command or of the view's action."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot; None until the first one has arrived."""

    @property
    def trouble(self) -> Trouble | None:
        """What is wrong with Redis or with the server, or None."""

    @property
    def front(self) -> Screen[Any] | None:
        """The topmost full screen, with or without a dialog in front of it."""

    def show_status(self, text: str, tone: Tone) -> None:
        """Show one line of text in the status line."""

    def run_line(self, line: str, selection: Selection) -> bool:
        """Run a command line; return False if it is wrong. The error is then shown."""

    def save_preference(self, name: str, value: object) -> None:
        """Keep a setting (`theme`, `layout.density`) for the next start."""
