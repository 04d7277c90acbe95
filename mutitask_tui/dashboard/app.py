"""The dashboard's app: polls snapshots, shows screens, takes keys. It never stops a server by itself."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on, work
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import Monochrome
from textual.reactive import reactive
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Input, TextArea

from mutitask_tui.dashboard.actions.bindings import VIEW_BINDINGS, app_bindings
from mutitask_tui.dashboard.actions.keymap import (
    PALETTE,
    PALETTE_KEY,
    default_keys,
    effective_keys,
    keymap,
    shown_keys,
)
from mutitask_tui.dashboard.actions.messages import ActDone, ActFailed, LookedBack, Polled, PollFailed
from mutitask_tui.dashboard.actions.palette import CommandProvider, SortProvider
from mutitask_tui.dashboard.actions.perform import ActingApp
from mutitask_tui.dashboard.backend import Backend
from mutitask_tui.dashboard.model.device_order import next_sort, reversed_sort
from mutitask_tui.dashboard.model.device_trend import DeviceTrend
from mutitask_tui.dashboard.model.history import Past
from mutitask_tui.dashboard.model.selection import Selection
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.no_color import NoColour
from mutitask_tui.dashboard.preferences import Memory
from mutitask_tui.dashboard.screens.chart import ChartScreen
from mutitask_tui.dashboard.screens.confirm import ConfirmScreen
from mutitask_tui.dashboard.screens.fails import FailsScreen
from mutitask_tui.dashboard.screens.frame import FrameScreen, selection_of
from mutitask_tui.dashboard.screens.help import HelpScreen
from mutitask_tui.dashboard.screens.join import JoinScreen
from mutitask_tui.dashboard.screens.main import MainScreen
from mutitask_tui.dashboard.themes import THEMES
from mutitask_tui.dashboard.widgets.banner import Trouble
from mutitask_tui.server.commands.registry import CommandError, find, parse_line
from mutitask_tui.server.snapshot import Wait
from worker_agent.protocol.errors import RedisRefused, RedisUnavailable
from worker_agent.protocol.pristine import time

_NOT_WHILE_TYPING = frozenset({"command", *(b.action.partition("(")[0] for b in VIEW_BINDINGS)})
_ON_MAIN = frozenset({"next_fault", "faults_only", "sort", "sort_reverse", "hide_offline"})
"""What the other screens have no use for."""
_SUSPENDED = "The server runs in this terminal: suspended, it feeds nothing, and another may take its place."


class DashboardApp(ActingApp):
    """Shows a namespace through a `Backend`.

    `await app.run_async()` returns `detach` (the view was left, the server lives on), `exit` (the server
    was asked to close and said yes), or None if `app.exit()` was called from outside.
    """

    CSS = """
    /* Above the status line and the keys, which a toast must not hide, on every screen and dialog. */
    ToastRack { margin-bottom: 2; }
    """

    TITLE = "MutiTask"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        *app_bindings(),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False),
        Binding(PALETTE_KEY, "command_palette", "Palette", show=False, priority=True, id=PALETTE),
    ]
    COMMANDS: ClassVar[set[Any]] = App.COMMANDS | {CommandProvider, SortProvider}

    hurry_s = 0.2
    """The interval while somebody may obey any moment."""

    trouble: reactive[Trouble | None] = reactive(None, repaint=False)

    def __init__(
        self, backend: Backend, *, interval: float | None = None, memory: Memory | None = None
    ) -> None:
        """`interval` is how many seconds pass between a snapshot's arrival and the next question; `memory`
        holds what a person chose before, and takes what they choose now."""
        super().__init__(backend)
        self.memory = memory or Memory()
        self.trend = Trend()
        self.past = Past()
        self.device_trend = DeviceTrend()
        self.history: list[str] = []
        """The command lines that were typed, oldest first."""
        self._interval = max(0.1, self.memory.config.refresh if interval is None else interval)
        self._polling = False
        self._timer: Timer | None = None
        self._frozen = False
        self._lost_ms: int | None = None
        self.animation_level = "none"
        if self.no_color:
            greys = (f for f in self._filters if not isinstance(f, Monochrome))
            self._filters = [*greys, NoColour(lambda: self.current_theme.dark)]
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self.memory.config.theme
        self.keys = effective_keys(self.memory.config.keys)
        """The keys of every command and of the view, by name."""
        self.COMMAND_PALETTE_BINDING = self.keys[PALETTE].split(",")[0]  # type: ignore[misc]
        self.set_keymap(keymap(self.memory.config.keys))
        for name, key in self.memory.config.keys.items():
            if not default_keys()[name]:
                self.bind(key, f"command('{name}')", description=name, show=False)

    def get_key_display(self, binding: Binding) -> str:
        """A key as the help screen shows it too."""
        return binding.key_display or shown_keys(binding.key)

    def remember(self, name: str, value: object) -> None:
        """Keep a choice (`theme`, `layout.density`) for the next start."""
        if self.memory.note(name, value):
            self._write_memory()

    @work(thread=True, exit_on_error=False, group="remember")
    def _write_memory(self) -> None:
        try:
            self.memory.write()
        except Exception as error:  # said; the choice holds until the end of this view
            self.call_later(self.complain, f"not remembered: {error}")

    def watch_theme(self, theme: str) -> None:
        """A person chose another theme."""
        self.remember("theme", theme)

    def get_default_screen(self) -> Screen[Any]:
        """The main screen lies under all others."""
        return MainScreen()

    def on_mount(self) -> None:
        """Ask for the first snapshot."""
        self.app_resume_signal.subscribe(self, self._resumed)
        self.poll()

    def _resumed(self, _app: App[Any]) -> None:
        """After `fg` the terminal is blank: all of it is drawn, not only what changed."""
        self.screen.refresh(layout=True)
        self.poll()

    @property
    def front(self) -> Screen[Any] | None:
        """The whole screen that can be seen, with or without a modal before it."""
        frames = [screen for screen in self.screen_stack if isinstance(screen, FrameScreen)]
        return frames[-1] if frames else None

    @property
    def hidden_devices(self) -> int:
        """How many devices the main screen's filter hides."""
        return sum(screen.hidden_devices for screen in self.screen_stack if isinstance(screen, MainScreen))

    @work(thread=True, exit_on_error=False, group="past")
    def _look_back(self) -> None:
        """Fetch what was kept before this view came, or while it had no connection."""
        try:
            history = self.backend.history()
        except Exception:  # the next snapshot says what is wrong; the charts begin with now
            return
        self.post_message(LookedBack(history))

    @on(LookedBack)
    def _looked_back(self, event: LookedBack) -> None:
        self.past.seed(event.history)
        self.trend.seed(event.history)
        if self.snapshot is not None and not self._frozen:
            self.snapshot = self.snapshot

    def poll(self) -> None:
        """Ask for a snapshot, unless one was asked for and has not come."""
        if not self._polling:
            self._polling = True
            self._ask()

    @work(thread=True, exit_on_error=False, group="poll")
    def _ask(self) -> None:
        try:
            snapshot = self.backend.snapshot()
        except Exception as error:  # shown in the banner; the view stays
            self.post_message(PollFailed(error))
        else:
            self.post_message(Polled(snapshot))

    @on(Polled)
    def _polled(self, event: Polled) -> None:
        self._ask_again_later()
        if self._lost_ms is not None or event.snapshot.run != self.past.run:
            self._look_back()
        self._lost_ms = None
        self.trouble = _waiting(event.snapshot.wait)
        self.trend.add(event.snapshot)
        self.past.add(event.snapshot)
        self.device_trend.add(event.snapshot)
        self.watch_obedience(event.snapshot)
        if not self._frozen:
            self.snapshot = event.snapshot

    @on(PollFailed)
    def _poll_failed(self, event: PollFailed) -> None:
        self._ask_again_later()
        now = int(time.time() * 1000)
        self._lost_ms = now if self._lost_ms is None else self._lost_ms
        self.trouble = Trouble(_headline(event.error), self._lost_ms, now, str(event.error))

    def _ask_again_later(self) -> None:
        self._polling = False
        if self._timer is not None:
            self._timer.stop()
        interval = min(self._interval, self.hurry_s) if self.obedience.urgent else self._interval
        self._timer = self.set_timer(interval, self.poll)

    @on(ActDone)
    @on(ActFailed)
    def _look_again(self) -> None:
        self.poll()

    def run_line(self, line: str, selection: Selection) -> bool:
        """Carry a typed line out; False if it was wrong, which was said."""
        if line in ("help", "?"):
            self.action_help()
            return True
        try:
            command, values = parse_line(line)
        except CommandError as error:
            self.complain(str(error))
            return False
        if command.name in ("detach", "exit") or self.backend.read_only:
            self.begin(command, selection)
        else:
            self.confirm(command, values)
        return True

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that are text to whoever is typing are no commands."""
        typing = isinstance(self.focused, Input | TextArea)
        if action in _ON_MAIN and not isinstance(self.screen, MainScreen):
            return False
        return not (typing and action in _NOT_WHILE_TYPING)

    def action_command(self, name: str) -> None:
        """The key of a command was pressed."""
        self.begin(find(name), selection_of(self.screen))

    async def action_quit(self) -> None:
        """Ask first: by itself this would end the view at once."""
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
            self.push_screen(ChartScreen(self.past, self.screen.selection.only_channel))

    def action_help(self) -> None:
        """Show every key."""
        self.push_screen(HelpScreen())

    def action_join(self) -> None:
        """Show the line to type on another machine."""
        self._fetch_join_line()

    def action_command_line(self) -> None:
        """Let a person type a command."""
        if isinstance(self.screen, FrameScreen):
            self.screen.open_command_line()

    def action_filter(self) -> None:
        """Let a person narrow down what the screen lists; the devices where it lists nothing."""
        front = self.screen
        screen = front if isinstance(front, FrameScreen) and front.filters else self._main()
        screen.open_filter()

    def action_next_fault(self, step: int) -> None:
        """Move the cursor to the next device with something wrong, or to the one before."""
        self._main().next_fault(step)

    def action_faults_only(self) -> None:
        """Show only the devices with something wrong, or all."""
        self._main().toggle_faults()

    def action_sort(self) -> None:
        """Sort the devices by the next column."""
        self.remember("sort", self._main().sort_by(next_sort))

    def action_sort_reverse(self) -> None:
        """Sort the devices the other way round."""
        self.remember("sort", self._main().sort_by(reversed_sort))

    def sort_devices(self, sort: str) -> None:
        """Sort the devices by that column; with `-` before it from the largest down."""
        self.remember("sort", self._main().sort_by(lambda _: sort))

    def action_hide_offline(self) -> None:
        """Leave the offline devices out of the grid, or show them."""
        self.remember("layout.hide_offline", self._main().toggle_offline())

    def action_suspend_process(self) -> None:
        """Give the terminal back until `fg`; ask first where the server would stand still too."""
        if not self.backend.owns_server:
            super().action_suspend_process()
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self.call_after_refresh(super(DashboardApp, self).action_suspend_process)

        self.push_screen(
            ConfirmScreen("suspend", _SUSPENDED, "Ctrl+D leaves the view alone instead"), answered
        )

    def action_density(self) -> None:
        """Show each device in one line or in three."""
        self.remember("layout.density", self._main().toggle_density())

    def action_freeze(self) -> None:
        """Hold the view still, or let it go on; nothing else stops."""
        self._frozen = not self._frozen
        self.say("the view is frozen: v lets it go on" if self._frozen else "the view goes on", "calm")
        if not self._frozen:
            self.poll()

    @work(thread=True, exit_on_error=False, group="join")
    def _fetch_join_line(self) -> None:
        try:
            line = self.backend.join_line()
        except Exception as error:  # said; the view stays
            self.call_later(self.complain, f"join: {error}")
        else:
            self.call_later(self.push_screen, JoinScreen(line, self.backend.join_note))

    def _main(self) -> MainScreen:
        """The main screen, brought to the front."""
        while not isinstance(self.screen, MainScreen) and len(self.screen_stack) > 1:
            self.pop_screen()
        screen = self.screen
        assert isinstance(screen, MainScreen)  # noqa: S101 - get_default_screen made it
        return screen


def _waiting(wait: Wait | None) -> Trouble | None:
    """The server waits, and Redis is there to be read."""
    if wait is None:
        return None
    return Trouble("the server waits", wait.since_ms, int(time.time() * 1000), wait.why, stale=False)


def _headline(error: Exception) -> str:
    if isinstance(error, RedisUnavailable):
        return "Redis does not answer"
    if isinstance(error, RedisRefused):
        return "Redis refuses"
    return f"no snapshot ({type(error).__name__})"
