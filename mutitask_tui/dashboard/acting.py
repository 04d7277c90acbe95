"""From a key to a carried-out command: ask what is missing, ask whether it is meant, send it, say so."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from textual import on, work
from textual.app import App
from textual.reactive import reactive

from mutitask_tui.dashboard.link import Link
from mutitask_tui.dashboard.messages import Act, ActDone, ActFailed
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.screens.confirm import ConfirmScreen
from mutitask_tui.dashboard.screens.edit import EditScreen
from mutitask_tui.dashboard.screens.leave import LeaveScreen
from mutitask_tui.dashboard.screens.prompt import PromptScreen
from mutitask_tui.dashboard.selection import Selection, in_order, known_values, missing
from mutitask_tui.dashboard.states import Tone
from mutitask_tui.dashboard.wording import by_name, line_of, target_of
from mutitask_tui.server.commands import Command, CommandError, Outcome, find
from mutitask_tui.server.snapshot import Snapshot

_LOOKING = frozenset({"detect_all", "detect_one", "detect_fail_channel", "export_fail_tasks"})
"""Commands that change nothing: they need not wait for others, nor others for them."""

_LONG = 100
"""An outcome longer than this does not fit the status line: it is shown as a notification."""


class ActingApp(App[str]):
    """The half of the dashboard that acts. Commands that change something run one after the other."""

    snapshot: reactive[Snapshot | None] = reactive(None, always_update=True, repaint=False)
    said: reactive[tuple[str, Tone]] = reactive(("", "faint"), repaint=False)
    acts_done: reactive[int] = reactive(0, repaint=False)
    """How many acts have ended: what they may have changed is to be read again."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self.link = link
        self._queue: deque[Act] = deque()
        self._busy = False

    @property
    def hidden_devices(self) -> int:
        """How many devices a filter hides."""
        return 0

    def begin(self, command: Command, selection: Selection) -> None:
        """A person asked for a command while this was selected."""
        if command.name == "detach":
            self.exit("detach")
        elif command.name == "exit":
            self.ask_to_leave()
        elif self.link.read_only:
            self.complain(f"{command.name}: this view is read-only")
        else:
            known = known_values(command, selection)
            wanted = missing(command, known)
            if wanted:
                self._ask_for(command, known, selection)
            else:
                self.confirm(command, in_order(command, known))

    def confirm(self, command: Command, values: Sequence[Any]) -> None:
        """Carry it out, after a yes if it is dangerous."""
        if not command.dangerous:
            self.send(command, values)
            return
        target = target_of(command, by_name(command, values), self.snapshot, self.hidden_devices)

        def answered(yes: bool | None) -> None:
            if yes:
                self.send(command, values)

        question = ConfirmScreen(line_of(command, values), target, command.summary)
        self.push_screen(question, answered)

    def ask_to_leave(self) -> None:
        """Ask whether to stay, to leave the view or to close the server."""
        if isinstance(self.screen, LeaveScreen):
            return
        target = target_of(find("exit"), {}, self.snapshot, self.hidden_devices)
        question = LeaveScreen(target, owns_server=self.link.owns_server, may_exit=not self.link.read_only)

        def answered(way: str | None) -> None:
            if way == "detach":
                self.exit("detach")
            elif way == "exit":
                self.send(find("exit"), ())

        self.push_screen(question, answered)

    def send(self, command: Command, values: Sequence[Any]) -> None:
        """Carry a command out in a thread, and say at once that it was asked."""
        act = Act(command, tuple(values))
        target = target_of(command, by_name(command, values), self.snapshot, self.hidden_devices)
        self.say(f"asked: {line_of(command, values)}  ({target})", "calm")
        if command.name in _LOOKING:
            self._carry_out(act, in_turn=False)
        else:
            self._queue.append(act)
            self._next()

    def say(self, text: str, tone: Tone) -> None:
        """Put a line of text in the status line."""
        self.said = (safe_str(text, 300), tone)

    def complain(self, text: str) -> None:
        """Say an error in the status line and in a notification."""
        self.say(text, "bad")
        self.notify(safe_str(text, 1000, lines=True), severity="error", markup=False)

    def _ask_for(self, command: Command, known: dict[str, Any], selection: Selection) -> None:
        wanted = missing(command, known)
        target = target_of(command, known, self.snapshot) if known else ""

        def answered(values: tuple[Any, ...] | None) -> None:
            if values is not None:
                self.confirm(command, values)

        if [param.kind for param in wanted] == ["json"]:
            self.push_screen(EditScreen(command, known, target, selection.payload), answered)
        else:
            self.push_screen(PromptScreen(command, known, wanted, target), answered)

    def _next(self) -> None:
        if self._queue and not self._busy:
            self._busy = True
            self._carry_out(self._queue.popleft(), in_turn=True)

    @work(thread=True, exit_on_error=False, group="acts")
    def _carry_out(self, act: Act, *, in_turn: bool) -> None:
        try:
            outcome = self.link.run(act.command, act.values)
        except Exception as error:  # whatever goes wrong with one act, the view stays
            self.post_message(ActFailed(act, error))
        else:
            self.post_message(ActDone(act, outcome))
        if in_turn:
            self.call_later(self._turn_over)

    def _turn_over(self) -> None:
        self._busy = False
        self._next()

    @on(ActDone)
    def _act_done(self, event: ActDone) -> None:
        act, outcome = event.act, event.outcome
        line = line_of(act.command, act.values)
        self.acts_done += 1
        if not outcome.ok:
            self.complain(f"{line}: {outcome.text}")
            return
        if act.command.name == "exit":
            self.exit("exit")
            return
        self._report(line, act.command, outcome)

    @on(ActFailed)
    def _act_failed(self, event: ActFailed) -> None:
        line = line_of(event.act.command, event.act.values)
        self.acts_done += 1
        kind = "" if isinstance(event.error, CommandError) else f" ({type(event.error).__name__})"
        self.complain(f"{line}: {event.error}{kind}")

    def _report(self, line: str, command: Command, outcome: Outcome) -> None:
        text = outcome.text
        if command.name == "detect_fail_channel":
            text = f"{text}  (F shows them)"
        self.say(f"{line}: {text}", "good")
        if len(text) > _LONG or "\n" in text:
            self.notify(safe_str(text, 3000, lines=True), title=command.name, markup=False)
