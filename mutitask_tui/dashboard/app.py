"""The dashboard's app: polls snapshots, shows screens, handles keys. It never stops a server by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from textual import on, work
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import Monochrome
from textual.reactive import reactive
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Input, TextArea

from mutitask_tui.dashboard.actions.command_app import CommandApp
from mutitask_tui.dashboard.actions.messages import (
    CommandDone,
    CommandFailed,
    HistoryLoaded,
    Polled,
    PollFailed,
)
from mutitask_tui.dashboard.actions.palette import CommandProvider, SortProvider
from mutitask_tui.dashboard.backend import Backend
from mutitask_tui.dashboard.keys.bindings import VIEW_BINDINGS, app_bindings
from mutitask_tui.dashboard.keys.keymap import (
    PALETTE,
    PALETTE_KEY,
    default_keys,
    effective_keys,
    keymap,
    shown_keys,
)
from mutitask_tui.dashboard.model.device_trend import DeviceTrend
from mutitask_tui.dashboard.model.history import History
from mutitask_tui.dashboard.model.selection import Selection
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.screens.chart import ChartScreen
from mutitask_tui.dashboard.screens.confirm import ConfirmScreen
from mutitask_tui.dashboard.screens.fails import FailsScreen
from mutitask_tui.dashboard.screens.frame import FrameScreen, selection_of
from mutitask_tui.dashboard.screens.help import HelpScreen
from mutitask_tui.dashboard.screens.join import JoinScreen
from mutitask_tui.dashboard.screens.main import MainScreen
from mutitask_tui.dashboard.themes import THEMES, NoColour
from mutitask_tui.dashboard.widgets.banner import Trouble
from mutitask_tui.server.commands.registry import CommandError, find, parse_line
from mutitask_tui.server.snapshot import Wait
from mutitask_tui.settings.preferences import Preferences
from worker_agent.protocol.errors import RedisRefused, RedisUnavailable
from worker_agent.protocol.unpatched import time

if TYPE_CHECKING:
    from mutitask_tui.dashboard.host import Host

_DISABLED_WHILE_TYPING = frozenset({"command", *(b.action.partition("(")[0] for b in VIEW_BINDINGS)})
_MAIN_SCREEN_ONLY = frozenset({"next_fault", "faults_only", "sort", "sort_reverse", "hide_offline"})
"""Actions that only the main screen has."""
_SUSPENDED = "The server runs in this terminal. A suspended server feeds nothing, and another may replace it."


class DashboardApp(CommandApp):
    """Shows a namespace through a `Backend`.

    `await app.run_async()` returns `detach` if a person left the view and the server continues, `exit` if the server
    was told to close, and None if `app.exit()` was called from outside.
    """

    CSS = """
    /* A toast must not hide the status line and the keys, on any screen or dialog. */
    ToastRack { margin-bottom: 2; }
    """

    TITLE = "MutiTask"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        *app_bindings(),
        Binding("escape", "stop_command", "Stop command", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False),
        Binding(PALETTE_KEY, "command_palette", "Palette", show=False, priority=True, id=PALETTE),
    ]
    COMMANDS: ClassVar[set[Any]] = App.COMMANDS | {CommandProvider, SortProvider}

    fast_poll_s = 0.2
    """Seconds between two snapshots while an acknowledgement is expected."""

    trouble: reactive[Trouble | None] = reactive(None, repaint=False)

    def __init__(
        self, backend: Backend, *, interval: float | None = None, preferences: Preferences | None = None
    ) -> None:
        """Create the app.

        `interval` is the time in seconds between the arrival of a snapshot and the next request; by default it comes
        from the preferences. `preferences` holds the settings and stores the changes that a person makes.
        """
        super().__init__(backend)
        self.preferences = preferences or Preferences()
        self.trend = Trend()
        self.history = History()
        self.device_trend = DeviceTrend()
        self.command_history: list[str] = []
        self._interval = max(0.1, self.preferences.config.refresh if interval is None else interval)
        self._polling = False
        self._timer: Timer | None = None
        self._frozen = False
        self._lost_ms: int | None = None
        """When the first of the failed polls failed; None if the last one succeeded."""
        self.animation_level = "none"
        if self.no_color:
            others = (f for f in self._filters if not isinstance(f, Monochrome))
            self._filters = [*others, NoColour(lambda: self.current_theme.dark)]
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self.preferences.config.theme
        self.keys = effective_keys(self.preferences.config.keys)
        self.COMMAND_PALETTE_BINDING = self.keys[PALETTE].split(",")[0]  # type: ignore[misc]
        self.set_keymap(keymap(self.preferences.config.keys))
        for name, key in self.preferences.config.keys.items():
            if not default_keys()[name]:
                self.bind(key, f"command('{name}')", description=name, show=False)

    def get_key_display(self, binding: Binding) -> str:
        """Return a key as the help screen shows it too."""
        return binding.key_display or shown_keys(binding.key)

    def save_preference(self, name: str, value: object) -> None:
        """Keep a setting (`theme`, `layout.density`) for the next start."""
        if self.preferences.set(name, value):
            self._write_preferences()

    @work(thread=True, exit_on_error=False, group="preferences")
    def _write_preferences(self) -> None:
        try:
            self.preferences.write()
        except Exception as error:  # shown; the setting stays in effect until the end of this view
            self.call_later(self.show_error, f"not saved: {error}")

    def watch_theme(self, theme: str) -> None:
        """Save the theme that a person chose."""
        self.save_preference("theme", theme)

    def get_default_screen(self) -> Screen[Any]:
        """Return the main screen, which lies under all others."""
        return MainScreen()

    def on_mount(self) -> None:
        """Request the first snapshot."""
        self.app_resume_signal.subscribe(self, self._resumed)
        self.poll()

    def _resumed(self, _app: App[Any]) -> None:
        """Redraw the whole screen: after `fg` the terminal is blank."""
        self.screen.refresh(layout=True)
        self.poll()

    @property
    def front(self) -> Screen[Any] | None:
        """The topmost full screen, with or without a dialog in front of it."""
        frames = [screen for screen in self.screen_stack if isinstance(screen, FrameScreen)]
        return frames[-1] if frames else None

    @property
    def hidden_devices(self) -> int:
        """The number of devices that the main screen's filter hides."""
        return sum(screen.hidden_devices for screen in self.screen_stack if isinstance(screen, MainScreen))

    @work(thread=True, exit_on_error=False, group="history")
    def _load_history(self) -> None:
        """Load the samples from before this view was opened, or from while it had no connection."""
        try:
            history = self.backend.history()
        except Exception:  # the next poll shows what is wrong; the charts start with the present
            return
        self.post_message(HistoryLoaded(history))

    @on(HistoryLoaded)
    def _history_loaded(self, event: HistoryLoaded) -> None:
        self.history.seed(event.history)
        self.trend.seed(event.history)
        if self.snapshot is not None and not self._frozen:
            self.snapshot = self.snapshot

    def poll(self) -> None:
        """Request a snapshot, unless a request is outstanding."""
        if not self._polling:
            self._polling = True
            self._request_snapshot()

    @work(thread=True, exit_on_error=False, group="poll")
    def _request_snapshot(self) -> None:
        try:
            snapshot = self.backend.snapshot()
        except Exception as error:  # shown in the banner; the view stays
            self.post_message(PollFailed(error))
        else:
            self.post_message(Polled(snapshot))

    @on(Polled)
    def _polled(self, event: Polled) -> None:
        self._schedule_poll()
        if self._lost_ms is not None or event.snapshot.run != self.history.run:
            self._load_history()
        self._lost_ms = None
        self.trouble = _waiting_trouble(event.snapshot.wait)
        self.trend.add(event.snapshot)
        self.history.add(event.snapshot)
        self.device_trend.add(event.snapshot)
        self._show_acknowledgements(event.snapshot)
        if not self._frozen:
            self.snapshot = event.snapshot

    @on(PollFailed)
    def _poll_failed(self, event: PollFailed) -> None:
        self._schedule_poll()
        now = int(time.time() * 1000)
        self._lost_ms = now if self._lost_ms is None else self._lost_ms
        self.trouble = Trouble(_headline(event.error), self._lost_ms, now, str(event.error))

    def _schedule_poll(self) -> None:
        self._polling = False
        if self._timer is not None:
            self._timer.stop()
        interval = min(self._interval, self.fast_poll_s) if self.acknowledgements.urgent else self._interval
        self._timer = self.set_timer(interval, self.poll)

    @on(CommandDone)
    @on(CommandFailed)
    def _poll_after_command(self) -> None:
        self.poll()

    def run_line(self, line: str, selection: Selection) -> bool:
        """Run a command line; return False if it is wrong. The error is then shown."""
        if line in ("help", "?"):
            self.action_help()
            return True
        try:
            command, values = parse_line(line)
        except CommandError as error:
            self.show_error(str(error))
            return False
        if command.name in ("detach", "exit") or self.backend.read_only:
            self.start_command(command, selection)
        else:
            self.confirm(command, values)
        return True

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the commands' keys while a person types, and keys that do nothing at the moment."""
        typing = isinstance(self.focused, Input | TextArea)
        if action == "stop_command":
            return self.runs_long_command and isinstance(self.screen, FrameScreen) and not typing
        if action in _MAIN_SCREEN_ONLY and not isinstance(self.screen, MainScreen):
            return False
        return not (typing and action in _DISABLED_WHILE_TYPING)

    def action_command(self, name: str) -> None:
        """Start a command because its key was pressed."""
        self.start_command(find(name), selection_of(self.screen))

    async def action_quit(self) -> None:
        """Ask before leaving. Textual's own action would end the view at once."""
        self.ask_to_leave()

    def action_fails(self) -> None:
        """Show the failed tasks."""
        if not isinstance(self.screen, FailsScreen):
            self.push_screen(FailsScreen())

    def action_chart(self) -> None:
        """Show the last hour as curves, or go back from there."""
        if isinstance(self.screen, ChartScreen):
            self.pop_screen()
        elif isinstance(self.screen, FrameScreen):
            self.push_screen(ChartScreen(self.history, self.screen.selection.only_channel))

    def action_help(self) -> None:
        """Show every key."""
        self.push_screen(HelpScreen())

    def action_join(self) -> None:
        """Show the command line for another machine."""
        self._fetch_join_line()

    def action_command_line(self) -> None:
        """Open the command line."""
        if isinstance(self.screen, FrameScreen):
            self.screen.open_command_line()

    def action_filter(self) -> None:
        """Open the filter of the current screen; that of the devices if the screen has none."""
        current = self.screen
        screen = current if isinstance(current, FrameScreen) and current.filters else self._main()
        screen.open_filter()

    def action_next_fault(self, step: int) -> None:
        """Move the cursor to the next or the previous device or channel with a fault."""
        self._main().next_fault(step)

    def action_faults_only(self) -> None:
        """Show only the devices or channels with a fault, or all."""
        self._main().toggle_faults()

    def action_sort(self) -> None:
        """Sort the devices or the channels by the next column."""
        self.save_preference(*self._main().sort_next())

    def action_sort_reverse(self) -> None:
        """Reverse the order of the devices or the channels."""
        self.save_preference(*self._main().sort_reversed())

    def sort_devices(self, sort: str) -> None:
        """Sort the devices by a column; with `-` before it in descending order."""
        self.save_preference(*self._main().sort_devices(sort))

    def sort_channels(self, sort: str) -> None:
        """Sort the channels in the same way."""
        self.save_preference(*self._main().sort_channels(sort))

    def action_hide_offline(self) -> None:
        """Hide the offline devices, or show them."""
        self.save_preference("layout.hide_offline", self._main().toggle_offline())

    def action_suspend_process(self) -> None:
        """Suspend the view until `fg`. Ask first if that would suspend the server too."""
        if not self.backend.owns_server:
            super().action_suspend_process()
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self.call_after_refresh(super(DashboardApp, self).action_suspend_process)

        self.push_screen(
            ConfirmScreen("suspend", _SUSPENDED, "Ctrl+D leaves only the view instead"), answered
        )

    def action_density(self) -> None:
        """Switch between one line and several lines for each device, or for each channel."""
        self.save_preference(*self._main().toggle_density())

    def action_freeze(self) -> None:
        """Freeze the view, or unfreeze it. Nothing else stops."""
        self._frozen = not self._frozen
        self.show_status(
            "the view is frozen: v unfreezes it" if self._frozen else "the view is live again", "calm"
        )
        if not self._frozen:
            self.poll()

    @work(thread=True, exit_on_error=False, group="join")
    def _fetch_join_line(self) -> None:
        try:
            line = self.backend.join_line()
        except Exception as error:  # shown; the view stays
            self.call_later(self.show_error, f"join: {error}")
        else:
            self.call_later(self.push_screen, JoinScreen(line, self.backend.join_note))

    def _main(self) -> MainScreen:
        """Close all other screens and return the main screen."""
        while not isinstance(self.screen, MainScreen) and len(self.screen_stack) > 1:
            self.pop_screen()
        screen = self.screen
        assert isinstance(screen, MainScreen)  # noqa: S101 - get_default_screen made it
        return screen


def _waiting_trouble(wait: Wait | None) -> Trouble | None:
    """Return the trouble to show while the server waits, although Redis can be read."""
    if wait is None:
        return None
    return Trouble("the server waits", wait.since_ms, int(time.time() * 1000), wait.why, stale=False)


def _headline(error: Exception) -> str:
    if isinstance(error, RedisUnavailable):
        return "Redis does not answer"
    if isinstance(error, RedisRefused):
        return "Redis refuses"
    return f"no snapshot ({type(error).__name__})"


if TYPE_CHECKING:
    # The type checker compares the app with what the screens expect of it.
    _host: type[Host] = DashboardApp
