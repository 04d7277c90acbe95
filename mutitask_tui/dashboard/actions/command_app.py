"""The part of the app that runs commands: asks for missing arguments, confirms, sends, stops, reports the outcome."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from textual import on, work
from textual.notifications import SeverityLevel
from textual.reactive import reactive

from mutitask_tui.dashboard.actions.key_order import KeyOrderApp
from mutitask_tui.dashboard.actions.messages import CommandDone, CommandFailed, CommandProgress
from mutitask_tui.dashboard.actions.wording import batch_target, by_name, line_of, target_of
from mutitask_tui.dashboard.backend import Backend
from mutitask_tui.dashboard.model.acknowledgements import Acknowledgements
from mutitask_tui.dashboard.model.device_order import Detections
from mutitask_tui.dashboard.model.selection import (
    Batch,
    CommandRequest,
    Fail,
    Selection,
    batch_of,
    in_order,
    known_values,
    missing,
    present_text,
    to_ask_for,
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
from mutitask_tui.server.watch import Watch, watched_by

_READ_ONLY = ("detect_all", "detect_one", "detect_fail_channel")
"""The commands that a read-only view may send."""

_HARMLESS = frozenset({*_READ_ONLY, "export_fail_tasks"})
"""The commands that change nothing, so that they need not run in turn with others."""

_LONG = 100
"""A longer outcome does not fit into the status line and becomes a notification."""


class CommandApp(KeyOrderApp):
    """Runs commands. Commands that change something run one after the other, and beside them those that take long."""

    snapshot: reactive[Snapshot | None] = reactive(None, always_update=True, repaint=False)
    status: reactive[tuple[str, Tone]] = reactive(("", "faint"), repaint=False)
    """The text of the status line."""
    last_request: CommandRequest | None = None
    """The request that ended last; None if it raised an error."""

    requests_done: reactive[int] = reactive(0, repaint=False)
    """How many requests have ended. Screens read again what a request may have changed."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(driver_class=driver_class())
        self.backend = backend
        self.acknowledgements = Acknowledgements()
        self.detections = Detections()
        self._queue: deque[CommandRequest] = deque()
        self._command_in_progress = False
        self._watches: set[Watch] = set()
        """The long commands that run now."""

    @property
    def hidden_devices(self) -> int:
        """The number of devices that a filter hides."""
        return 0

    def start_command(self, command: Command, selection: Selection) -> None:
        """Start a command with the selection of the moment when it was requested."""
        if command.name == "detach":
            self.exit("detach")
        elif command.name == "exit":
            self.ask_to_leave()
        elif self.backend.read_only and command.name not in _READ_ONLY:
            self.show_error(f"{command.name}: this view is read-only")
        elif (batch := batch_of(command, selection)) is not None:
            self._complete_batch(batch)
        else:
            known = known_values(command, selection)
            required = missing(command, known)
            if required:
                self._ask_for(command, known, selection)
            else:
                self.confirm(command, in_order(command, known))

    def confirm(self, command: Command, values: Sequence[Any]) -> None:
        """Send a command; ask first if it is dangerous."""
        if not command.dangerous:
            self.send(command, values)
            return
        target = target_of(command, by_name(command, values), self.snapshot, self.hidden_devices)

        def answered(yes: bool | None) -> None:
            if yes:
                self.send(command, values)

        question = ConfirmScreen(line_of(command, values), target, command.summary)
        self.push_screen(question, answered)

    def _complete_batch(self, batch: Batch) -> None:
        """Start a command for several targets; ask first for the arguments that the targets do not give."""
        asked = batch.missing
        if not asked:
            self.start_batch(batch)
            return

        def answered(values: tuple[Any, ...] | None) -> None:
            if values is not None:
                self.start_batch(batch.with_arguments(values))

        start = present_text(asked, [int(target[0]) for target in batch.targets], self.snapshot)
        target = batch_target(batch, self.snapshot)
        self.push_screen(PromptScreen(batch.command, {}, asked, target, start), answered)

    def start_batch(self, batch: Batch) -> None:
        """Send a command for several targets; ask first if it is dangerous or some targets are hidden."""
        if not batch.targets:
            self.show_error(f"{batch.command.name}: nothing is shown")
            return
        target = batch_target(batch, self.snapshot)
        request = CommandRequest(batch.command, (), batch.line, batch)

        def answered(yes: bool | None) -> None:
            if yes:
                self._send(request, target)

        if batch.needs_confirmation:
            self.push_screen(ConfirmScreen(batch.line, target, batch.command.summary), answered)
        else:
            self._send(request, target)

    def ask_to_leave(self) -> None:
        """Ask whether to stay, to leave the view or to close the server."""
        if isinstance(self.screen, LeaveScreen):
            return
        target = target_of(find("exit"), {}, self.snapshot, self.hidden_devices)
        question = LeaveScreen(
            target, owns_server=self.backend.owns_server, may_exit=not self.backend.read_only
        )

        def answered(choice: str | None) -> None:
            if choice == "detach":
                self.exit("detach")
            elif choice == "exit":
                self.send(find("exit"), ())

        self.push_screen(question, answered)

    def send(self, command: Command, values: Sequence[Any]) -> None:
        """Run a command in a thread, and show at once that it was requested."""
        target = target_of(command, by_name(command, values), self.snapshot, self.hidden_devices)
        self._send(CommandRequest(command, tuple(values), line_of(command, values)), target)

    def _send(self, request: CommandRequest, target: str) -> None:
        self.show_status(f"asked: {request.line}  ({target})", "calm")
        if self.snapshot is not None:
            targets = request.batch.targets if request.batch else (request.values,)
            self.acknowledgements.expect(request.line, request.command, targets, self.snapshot)
        if request.command.name in _HARMLESS or request.long:
            self._run_in_thread(request, in_turn=False)
        else:
            self._queue.append(request)
            self._run_next()

    def show_status(self, text: str, tone: Tone) -> None:
        """Show one line of text in the status line."""
        self.status = (safe_str(text, 300), tone)

    def show_error(self, text: str) -> None:
        """Show an error in the status line and in a notification."""
        self.show_status(text, "bad")
        self.notify(safe_str(text, 1000, lines=True), severity="error", markup=False)

    def _ask_for(self, command: Command, known: dict[str, Any], selection: Selection) -> None:
        """Ask for the arguments that are not in `known`."""
        asked = to_ask_for(command, known)
        target = target_of(command, known, self.snapshot) if known else ""

        def answered(values: tuple[Any, ...] | None) -> None:
            if values is not None:
                self.confirm(command, values)

        if [param.kind for param in asked] == ["json"] and selection.fail is not None:
            self._load_payload(command, known, selection.fail, target)
        else:
            devices = [] if selection.device is None else [selection.device]
            start = present_text(asked, devices, self.snapshot)
            self.push_screen(PromptScreen(command, known, asked, target, start), answered)

    @work(thread=True, exit_on_error=False, group="edit", exclusive=True)
    def _load_payload(self, command: Command, known: dict[str, Any], fail: Fail, target: str) -> None:
        """Read the whole payload before it is edited: a list may show only a part of it."""
        try:
            detail = self.backend.failed_task(*fail)
        except Exception as error:  # shown; the view stays
            self.call_later(self.show_error, f"{command.name}: {error}")
            return
        self.call_later(self._edit_payload, command, known, detail, target)

    def _edit_payload(
        self, command: Command, known: dict[str, Any], detail: FailedDetail | None, target: str
    ) -> None:
        if detail is None:
            self.show_error(f"{command.name}: {target} is no longer there")
            return

        def answered(values: tuple[Any, ...] | None) -> None:
            if values is not None:
                self.confirm(command, values)

        self.push_screen(EditScreen(command, known, target, detail), answered)

    def _run_next(self) -> None:
        if self._queue and not self._command_in_progress:
            self._command_in_progress = True
            self._run_in_thread(self._queue.popleft(), in_turn=True)

    @property
    def runs_long_command(self) -> bool:
        """Whether a command runs that Escape can stop."""
        return bool(self._watches)

    def action_stop_command(self) -> None:
        """Stop the long commands after their present steps."""
        self._stop_watched()
        self.show_status("stopping after the present step", "calm")

    def on_unmount(self) -> None:
        """Stop the long commands: the process must not wait for them after its view has closed."""
        self._stop_watched()

    def _stop_watched(self) -> None:
        for watch in list(self._watches):
            watch.stop()

    @work(thread=True, exit_on_error=False, group="commands")
    def _run_in_thread(self, request: CommandRequest, *, in_turn: bool) -> None:
        watch = Watch(lambda text: self.post_message(CommandProgress(request, text)))
        if request.long:
            self._watches.add(watch)
        try:
            with watched_by(watch):
                outcome = self._run_request(request)
        except Exception as error:  # whatever goes wrong with one command, the view stays
            self.post_message(CommandFailed(request, error))
        else:
            self.post_message(CommandDone(request, outcome))
        finally:
            self._watches.discard(watch)
        if in_turn:
            self.call_later(self._end_turn)

    def _run_request(self, request: CommandRequest) -> Outcome:
        if request.batch is None:
            return self.backend.run(request.command, request.values)
        if request.command.name == "export_fail_tasks":
            return self.backend.export_failed([(channel, id_) for channel, id_ in request.batch.targets])
        return self.backend.run_many(request.command, request.batch.targets)

    def _end_turn(self) -> None:
        self._command_in_progress = False
        self._run_next()

    @on(CommandDone)
    def _command_done(self, event: CommandDone) -> None:
        request, outcome = event.request, event.outcome
        self.last_request = request
        self.requests_done += 1
        if not outcome.ok:
            self.acknowledgements.drop(request.line)
            self.show_error(f"{request.line}: {outcome.text}")
            return
        if request.command.name == "exit":
            self.exit("exit")
            return
        self._report(request, outcome)

    @on(CommandProgress)
    def _command_progressed(self, event: CommandProgress) -> None:
        if self.runs_long_command:
            self.show_status(f"{event.text} (Esc stops it)", "calm")

    @on(CommandFailed)
    def _command_failed(self, event: CommandFailed) -> None:
        line = event.request.line
        self.acknowledgements.drop(line)
        self.last_request = None
        self.requests_done += 1
        kind = "" if isinstance(event.error, CommandError) else f" ({type(event.error).__name__})"
        self.show_error(f"{line}: {event.error}{kind}")

    def _report(self, request: CommandRequest, outcome: Outcome) -> None:
        text, name = outcome.text, request.command.name
        if name == "detect_fail_channel":
            text = f"{text}  (F shows them)"
        if name in ("detect_one", "detect_all") and self.snapshot is not None:
            self.detections.add(outcome.data, self.snapshot.now_ms)
        pending = self.acknowledgements.confirm(request.line)
        stopped = bool(outcome.data.get("stopped"))
        self.show_status(f"{request.line}: {text}", "warn" if stopped else "calm" if pending else "good")
        if stopped or len(text) > _LONG or "\n" in text:
            severity: SeverityLevel = "warning" if stopped else "information"
            self.notify(safe_str(text, 3000, lines=True), title=name, severity=severity, markup=False)

    def _show_acknowledgements(self, snapshot: Snapshot) -> None:
        """Show which commands are acknowledged by now, and which targets are late."""
        for text, tone in self.acknowledgements.update(snapshot):
            self.show_status(text, tone)
            if tone == "warn":
                self.notify(safe_str(text, 1000), severity="warning", markup=False)
