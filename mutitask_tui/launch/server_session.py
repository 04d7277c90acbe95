"""One run of a server from start to end: its dashboard, its signals, its progress lines and its exit status."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable

from mutitask_tui.launch.local_agents import LocalAgents
from mutitask_tui.launch.tuning import tune_after_start
from mutitask_tui.server.commands.redis_backend import RedisBackend
from mutitask_tui.server.core import ServerCore
from mutitask_tui.server.inspector import Inspector
from mutitask_tui.server.snapshot import Snapshot
from mutitask_tui.server.status import finished_line, progress_line, summary_line, tasks_line
from mutitask_tui.settings.config_file import Loaded
from worker_agent.console import lines, streams
from worker_agent.protocol.errors import MutiTaskError, Superseded
from worker_agent.protocol.text import plural
from worker_agent.protocol.unpatched import time

PROGRESS_INTERVAL_S = 2.0
TASKS_INTERVAL_S = 10.0
"""The shortest time between two lines about running tasks."""
FAILED_STATUS = 7
"""The exit status of a run that is done and in which tasks failed."""
MISSING_STATUS = 8
"""The exit status of a run of which some tasks are in no list any more."""
NO_AGENTS_STATUS = 9
"""The exit status of a run that no agent could work on."""


def log_line(text: str, level: str = "info") -> None:
    """Print a line with the time on stderr."""
    lines.print_stderr(text, level, at=time.strftime("%H:%M:%S"))


class ServerSession:
    """Runs a server with its local agents, with a dashboard or without one.

    until_done: end when every task is done or failed.
    stay: keep the dashboard open then, until the person leaves it.
    data_kept: whether the data of the run outlives this process.
    """

    def __init__(
        self,
        core: ServerCore,
        agents: LocalAgents,
        *,
        dashboard: bool,
        until_done: bool,
        attach_line: str,
        join_line: str,
        join_note: str = "",
        failed_ok: bool = False,
        stay: bool = True,
        data_kept: bool = True,
        config: Loaded | None = None,
    ) -> None:
        self._core = core
        self._agents = agents
        self._dashboard = dashboard
        self._until_done = until_done
        self._failed_ok = failed_ok
        self._attach_line = attach_line
        self._backend = RedisBackend(
            core.url,
            core.name,
            source=core.source,
            owns_server=True,
            join_line=join_line,
            join_note=join_note,
            wait=core.wait,
        )
        self._reader = Inspector(core.url, core.name)
        self._started_at = time.monotonic()
        self._stay = stay
        self._data_kept = data_kept
        self._config = config
        self._stop_requested = threading.Event()
        self._printed_tasks, self._tasks_due = "", 0.0
        """The last line about running tasks, and when the next one may be printed (monotonic)."""
        self._force_stop = threading.Event()
        """Set by a second signal: local agents hand back the tasks that they run."""
        self._no_agents = ""
        """Why the run ended although tasks are left: no agent can work on them. Else ''."""
        self._status = 0
        """The exit status by the outcome of the tasks."""

    def run(self) -> int:
        """Run until `exit`, a signal, a successor, or (with `until_done`) the last task. Return the exit status."""
        self._handle_signals()
        self._core.start()
        self._agents.start()
        try:
            if self._dashboard:
                asyncio.run(self._run_dashboard())
            if not self._core.ended.is_set() and not self._stop_requested.is_set():
                self._run_headless()
        finally:
            self._stop()
        if self._core.failure is not None:
            log_line(str(self._core.failure), "error")
            return getattr(self._core.failure, "exit_status", 1)
        if self._no_agents:
            log_line(self._no_agents, "error")
            return NO_AGENTS_STATUS
        if self._core.halted_feeds() and self._until_done:
            return self._status or 1
        return self._status

    def _stop(self) -> None:
        """Stop the agents and the core, and print the summary of the run."""
        all_done = self._until_done and not self._no_agents and self._is_done()
        last = self._last_snapshot()
        # The agents keep running if another server took over: they work for that one now.
        if not isinstance(self._core.failure, Superseded):
            self._agents.stop(self._force_stop.is_set, log_line)
        self._core.stop()
        last = self._last_snapshot() or last
        if last is not None:
            log_line(summary_line(last, time.monotonic() - self._started_at, kept=self._data_kept))
            self._set_status(last, all_done)
        for text in self._core.halted_feeds():
            log_line(text)

    def _set_status(self, last: Snapshot, all_done: bool) -> None:
        """Set the exit status by the last snapshot, and print the reason if it is not 0."""
        for channel in last.channels:
            if not channel.balanced:
                log_line(self._reader.missing_tasks_text(channel), "error")
                self._status = MISSING_STATUS
        failed = sum(channel.failed for channel in last.channels)
        if failed and all_done and not self._failed_ok and not self._status:
            log_line(
                f"{plural(failed, 'task')} failed: the exit status is {FAILED_STATUS} (--failed-ok makes it 0)"
            )
            self._status = FAILED_STATUS

    def _last_snapshot(self) -> Snapshot | None:
        try:
            return self._reader.snapshot()
        except Exception:  # Only the summary needs it. No error here may keep the agents from being stopped.
            return None

    async def _run_dashboard(self) -> None:
        """Show the dashboard until the person leaves it, the terminal closes, or the server ends."""
        from mutitask_tui.dashboard.app import DashboardApp
        from mutitask_tui.settings.preferences import Preferences

        loop = asyncio.get_running_loop()
        app = DashboardApp(self._backend, preferences=Preferences(self._config))
        terminal_closed = False

        def on_stop_signal() -> None:
            self._stop_requested.set()
            app.exit(None)

        def on_hang_up() -> None:
            nonlocal terminal_closed
            terminal_closed = True
            app.exit(None)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_stop_signal)
        if hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, on_hang_up)
        tune_after_start(loop)
        watcher = asyncio.create_task(self._exit_at_end(lambda: app.exit(None)))
        answer = None
        try:
            answer = await app.run_async()
        except Exception as error:
            log_line(f"the dashboard failed ({type(error).__name__}: {error}); the server keeps running")
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            self._restore_signals(loop)
        if terminal_closed:
            streams.detach_terminal()
        elif answer == "exit":
            await asyncio.to_thread(self._core.ended.wait)
        elif not self._stop_requested.is_set() and not self._core.ended.is_set():
            log_line(
                f"the server keeps running without a dashboard; open it again with `{self._attach_line}`"
            )

    async def _exit_at_end(self, exit_dashboard: Callable[[], None]) -> None:
        """Close the dashboard when the server ends, when all is done, or when no agent can work."""
        while not self._core.ended.is_set():
            await asyncio.sleep(0.1)
            if self._until_done and not self._stay and await asyncio.to_thread(self._is_done):
                break
            if await asyncio.to_thread(self._has_no_agents):
                break
        exit_dashboard()

    def _run_headless(self) -> None:
        """Print progress lines until the end."""
        printed, due = "", 0.0
        # Do not wait on the event that the signal handler sets: the handler could run while this thread holds its lock.
        while not self._stop_requested.is_set() and not self._core.ended.wait(0.1):
            done = self._until_done and self._is_done()
            if done or time.monotonic() >= due:
                due = time.monotonic() + PROGRESS_INTERVAL_S
                printed = self._print_progress(printed)
            if done or self._has_no_agents():
                return

    def _has_no_agents(self) -> bool:
        """Return whether a run with `until_done` must end because no agent works and none will be started."""
        if not self._until_done or not (reason := self._agents.why_none_left()):
            return False
        try:
            snapshot = self._reader.snapshot()
        except MutiTaskError:
            return False
        if any(device.state != "offline" for device in snapshot.devices):
            return False
        self._no_agents = (
            f"no agent could work, so the run ends; fix that and continue with --resume. {reason}"
        )
        return True

    def _restore_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """Install our signal handlers again after the loop's, without a moment in which a signal kills the server."""
        numbers = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        for number in numbers:
            loop.remove_signal_handler(number)
        self._handle_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    def _handle_signals(self) -> None:
        """Stop the server in order at SIGTERM and SIGINT. Installed before the first agent starts, so none is left."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self._request_stop())
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda _number, _frame: streams.detach_terminal())

    def _request_stop(self) -> None:
        if self._stop_requested.is_set():
            self._force_stop.set()
        self._stop_requested.set()

    def _print_progress(self, printed: str) -> str:
        """Print the progress if it differs from `printed`, the last such line. Return the new line."""
        try:
            snapshot = self._reader.snapshot()
            finished = snapshot.finished and not self._until_done
            text = finished_line(snapshot) if finished else progress_line(snapshot)
            self._print_tasks(snapshot)
            if count := self._agents.given_up():
                text += f"; gave up on {plural(count, 'local agent')} (logs in {self._agents.logs})"
        except MutiTaskError as error:
            text = str(error)
        if text != printed:
            log_line(text)
        return text

    def _print_tasks(self, snapshot: Snapshot) -> None:
        """Print how far long tasks are, if they tell it and it has changed, every `TASKS_INTERVAL_S` at most."""
        text, now = tasks_line(snapshot), time.monotonic()
        if text and text != self._printed_tasks and now >= self._tasks_due:
            log_line(text)
            self._printed_tasks, self._tasks_due = text, now + TASKS_INTERVAL_S

    def _is_done(self) -> bool:
        """Return whether no task is open and every feed has ended. A halted feed counts, unless its item is skipped."""
        try:
            snapshot = self._reader.snapshot()
            allot_ended, skips = self._reader.allot_ended(), self._reader.pending_skips()
        except MutiTaskError:
            return False
        halted = {text.partition(":")[0] for text in self._core.halted_feeds()}
        halted -= {f"TaskChannel{channel}" for channel in skips}
        return all(
            (allot_ended or channel.exhausted or f"TaskChannel{channel.id}" in halted) and channel.open == 0
            for channel in snapshot.channels
        )
