"""From a key to a carried-out command: ask what is missing, ask whether it is meant, send it, say so."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from textual import on, work
from textual.reactive import reactive

from mutitask_tui.dashboard.actions.key_order import KeyOrderApp
from mutitask_tui.dashboard.actions.messages import Act, ActDone, ActFailed
from mutitask_tui.dashboard.actions.wording import batch_target, by_name, line_of, target_of
from mutitask_tui.dashboard.backend import Backend
from mutitask_tui.dashboard.model.acknowledgements import Obedience
from mutitask_tui.dashboard.model.detections import Detections
from mutitask_tui.dashboard.model.selection import (
    Batch,
    Fail,
    Selection,
    batch_of,
    in_order,
    known_values,
    missing,
)
from mutitask_tui.dashboard.model.states import Tone
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.screens.confirm import ConfirmScreen
from mutitask_tui.dashboard.screens.edit import EditScreen
from mutitask_tui.dashboard.screens.leave import LeaveScreen
from mutitask_tui.dashboard.screens.prompt import PromptScreen
from mutitask_tui.dashboard.terminal import driver_class
from mutitask_tui.server.commands.registry import Command, CommandError, Outcome, find
from mutitask_tui.server.snapshot import FailedDetail, Snapshot

_LOOKS = ("detect_all", "detect_one", "detect_fail_channel")
"""Commands that a view may send that is read-only."""

_LOOKING = frozenset({*_LOOKS, "export_fail_tasks"})
"""Commands that change nothing: they need not wait for others, nor others for them."""

_LONG = 100
"""An outcome longer than this does not fit the status line: it is shown as a notification."""


class ActingApp(KeyOrderApp):
    """The half of the dashboard that acts. Commands that change something run one after the other."""

    snapshot: reactive[Snapshot | None] = reactive(None, always_update=True, repaint=False)
    said: reactive[tuple[str, Tone]] = reactive(("", "faint"), repaint=False)
    last_act: Act | None = None
    """The one that ended last."""

    acts_done: reactive[int] = reactive(0, repaint=False)
    """How many acts have ended: what they may have changed is to be read again."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(driver_class=driver_class())
        self.backend = backend
        self.obedience = Obedience()
        self.detections = Detections()
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
        elif self.backend.read_only and command.name not in _LOOKS:
            self.complain(f"{command.name}: this view is read-only")
        elif (batch := batch_of(command, selection)) is not None:
            self.begin_many(batch)
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

    def begin_many(self, batch: Batch) -> None:
        """Carry a command out on several targets, after a yes if it is dangerous or if some are hidden."""
        if not batch.targets:
            self.complain(f"{batch.command.name}: nothing is shown")
            return
        target = batch_target(batch, self.snapshot)
        act = Act(batch.command, (), batch.line, batch)

        def answered(yes: bool | None) -> None:
            if yes:
                self._send(act, target)

        if batch.asks:
            self.push_screen(ConfirmScreen(batch.line, target, batch.command.summary), answered)
        else:
            self._send(act, target)

    def ask_to_leave(self) -> None:
        """Ask whether to stay, to leave the view or to close the server."""
        if isinstance(self.screen, LeaveScreen):
            return
        target = target_of(find("exit"), {}, self.snapshot, self.hidden_devices)
        question = LeaveScreen(
            target, owns_server=self.backend.owns_server, may_exit=not self.backend.read_only
        )

        def answered(way: str | None) -> None:
            if way == "detach":
                self.exit("detach")
            elif way == "exit":
                self.send(find("exit"), ())

        self.push_screen(question, answered)

    def send(self, command: Command, values: Sequence[Any]) -> None:
        """Carry a command out in a thread, and say at once that it was asked."""
        target = target_of(command, by_name(command, values), self.snapshot, self.hidden_devices)
        self._send(Act(command, tuple(values), line_of(command, values)), target)

    def _send(self, act: Act, target: str) -> None:
        self.say(f"asked: {act.line}  ({target})", "calm")
        if self.snapshot is not None:
            targets = act.batch.targets if act.batch else (act.values,)
            self.obedience.ask(act.line, act.command, targets, self.snapshot)
        if act.command.name in _LOOKING:
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

        if [param.kind for param in wanted] == ["json"] and selection.fail is not None:
            self._edit(command, known, selection.fail, target)
        else:
            self.push_screen(PromptScreen(command, known, wanted, target), answered)

    @work(thread=True, exit_on_error=False, group="edit", exclusive=True)
    def _edit(self, command: Command, known: dict[str, Any], fail: Fail, target: str) -> None:
        """Read the whole payload first: what a list shows of it may be cut."""
        try:
            detail = self.backend.failed_task(*fail)
        except Exception as error:  # said; the view stays
            self.call_later(self.complain, f"{command.name}: {error}")
            return
        self.call_later(self._edit_this, command, known, detail, target)

    def _edit_this(
        self, command: Command, known: dict[str, Any], detail: FailedDetail | None, target: str
    ) -> None:
        if detail is None:
            self.complain(f"{command.name}: {target} is no longer there")
            return

        def answered(values: tuple[Any, ...] | None) -> None:
            if values is not None:
                self.confirm(command, values)

        self.push_screen(EditScreen(command, known, target, detail), answered)

    def _next(self) -> None:
        if self._queue and not self._busy:
            self._busy = True
            self._carry_out(self._queue.popleft(), in_turn=True)

    @work(thread=True, exit_on_error=False, group="acts")
    def _carry_out(self, act: Act, *, in_turn: bool) -> None:
        try:
            outcome = self._run(act)
        except Exception as error:  # whatever goes wrong with one act, the view stays
            self.post_message(ActFailed(act, error))
        else:
            self.post_message(ActDone(act, outcome))
        if in_turn:
            self.call_later(self._turn_over)

    def _run(self, act: Act) -> Outcome:
        if act.batch is None:
            return self.backend.run(act.command, act.values)
        if act.command.name == "export_fail_tasks":
            return self.backend.export_failed([(channel, id_) for channel, id_ in act.batch.targets])
        return self.backend.run_many(act.command, act.batch.targets)

    def _turn_over(self) -> None:
        self._busy = False
        self._next()

    @on(ActDone)
    def _act_done(self, event: ActDone) -> None:
        act, outcome = event.act, event.outcome
        self.last_act = act
        self.acts_done += 1
        if not outcome.ok:
            self.obedience.drop(act.line)
            self.complain(f"{act.line}: {outcome.text}")
            return
        if act.command.name == "exit":
            self.exit("exit")
            return
        self._report(act, outcome)

    @on(ActFailed)
    def _act_failed(self, event: ActFailed) -> None:
        line = event.act.line
        self.obedience.drop(line)
        self.last_act = None
        self.acts_done += 1
        kind = "" if isinstance(event.error, CommandError) else f" ({type(event.error).__name__})"
        self.complain(f"{line}: {event.error}{kind}")

    def _report(self, act: Act, outcome: Outcome) -> None:
        text, name = outcome.text, act.command.name
        if name == "detect_fail_channel":
            text = f"{text}  (F shows them)"
        if name in ("detect_one", "detect_all") and self.snapshot is not None:
            self.detections.add(outcome.data, self.snapshot.now_ms)
        obeyed_later = self.obedience.confirm(act.line)
        self.say(f"{act.line}: {text}", "calm" if obeyed_later else "good")
        if len(text) > _LONG or "\n" in text:
            self.notify(safe_str(text, 3000, lines=True), title=name, markup=False)

    def watch_obedience(self, snapshot: Snapshot) -> None:
        """Say who has obeyed by now, and who ought to have."""
        for text, tone in self.obedience.look(snapshot):
            self.say(text, tone)
            if tone == "warn":
                self.notify(safe_str(text, 1000), severity="warning", markup=False)
