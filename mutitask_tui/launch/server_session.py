"""One run of a server or an attached dashboard in a terminal: the view, the signals, the headless remainder."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable

from mutitask_tui.launch.local_agents import LocalAgents
from mutitask_tui.server import progress
from mutitask_tui.server.commands.redis_backend import RedisBackend
from mutitask_tui.server.core import ServerCore
from mutitask_tui.server.missing import missing
from mutitask_tui.server.reader import Reader
from mutitask_tui.server.snapshot import Snapshot
from mutitask_tui.settings.config_file import Loaded, load
from mutitask_tui.web.serve import confine_view
from worker_agent.console import lines, streams
from worker_agent.protocol.errors import MutiTaskError, Superseded
from worker_agent.protocol.pristine import time
from worker_agent.protocol.words import plural

PROGRESS_S = 2.0
_SETTLED_S = 1.0
FAILED_STATUS = 7
"""The exit status of a run that is done, and in which tasks failed."""
MISSING_STATUS = 8
"""The exit status of a run of which tasks are in no list any more."""
NO_AGENTS_STATUS = 9
"""The exit status of a run that no agent could work on."""


def say(text: str) -> None:
    """A line on stderr with the time."""
    lines.print_stderr(f"{time.strftime('%H:%M:%S')} {text}")


class Session:
    """A server from start to end. `run()` returns the exit status."""

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
        kept: bool = True,
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
            who=core.who,
            owns_server=True,
            join_line=join_line,
            join_note=join_note,
            wait=core.wait,
        )
        self._reader = Reader(core.url, core.name)
        self._began = time.monotonic()
        self._stay = stay
        self._kept = kept
        self._config = config
        self._stop_asked = threading.Event()
        self._hurry = threading.Event()
        """Whether a second signal came: what local agents run is handed back."""
        self._finished = False
        self._deserted = ""
        """Why a run ended that no agent works on, or ''."""
        self._status = 0
        """The exit status by what became of the tasks."""

    def run(self) -> int:
        """Feed until quit, stopped, superseded, or (with `until_done`) done."""
        self._on_signals()
        self._core.start()
        self._agents.start()
        try:
            if self._dashboard:
                asyncio.run(self._show())
            if not self._core.ended.is_set() and not self._stop_asked.is_set():
                self._headless()
        finally:
            self._close()
        if self._core.failure is not None:
            say(str(self._core.failure))
            return getattr(self._core.failure, "exit_status", 1)
        if self._deserted:
            say(self._deserted)
            return NO_AGENTS_STATUS
        if self._core.halted() and self._until_done:
            return self._status or 1
        return self._status

    def _close(self) -> None:
        """Stop what is still to stop, and say what became of the run."""
        self._finished = self._until_done and not self._deserted and self._is_done()
        last = self._last_snapshot()
        # Behind a successor the agents go on: they serve it now (law 5).
        if not isinstance(self._core.failure, Superseded):
            self._agents.stop(self._hurry.is_set, say)
        self._core.stop()
        last = self._last_snapshot() or last
        if last is not None:
            say(progress.summary(last, time.monotonic() - self._began, kept=self._kept))
            self._judge(last)
        for text in self._core.halted():
            say(text)

    def _judge(self, last: Snapshot) -> None:
        """Say what is wrong with how it ended, and remember the exit status for that."""
        for channel in last.channels:
            if not channel.balanced:
                say(missing(self._reader, channel))
                self._status = MISSING_STATUS
        failed = sum(channel.failed for channel in last.channels)
        if failed and self._until_done and self._finished and not self._failed_ok and not self._status:
            say(
                f"{plural(failed, 'task')} failed: the exit status is {FAILED_STATUS} (--failed-ok makes it 0)"
            )
            self._status = FAILED_STATUS

    def _last_snapshot(self) -> Snapshot | None:
        try:
            return self._reader.snapshot()
        except Exception:  # A last look is a courtesy: whatever is wrong with it, the agents are stopped.
            return None

    # -- with a screen -------------------------------------------------------------------------------

    async def _show(self) -> None:
        """The dashboard, until the person leaves it, the terminal goes away, or the server ends."""
        from mutitask_tui.dashboard.app import DashboardApp
        from mutitask_tui.dashboard.preferences import Memory

        loop = asyncio.get_running_loop()
        app = DashboardApp(self._backend, memory=Memory(self._config))
        hung_up = False

        def leave(*, stop: bool, gone: bool) -> None:
            nonlocal hung_up
            hung_up = hung_up or gone
            if stop:
                self._stop_asked.set()
            app.exit(None)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: leave(stop=True, gone=False))
        if hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, lambda: leave(stop=False, gone=True))
        loop.call_later(_SETTLED_S, _settle)
        watch = asyncio.create_task(self._watch_core(lambda: app.exit(None)))
        answer = None
        try:
            answer = await app.run_async()
        except Exception as error:
            say(f"the dashboard failed ({type(error).__name__}: {error}); the server goes on")
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
            self._take_signals_back(loop)
        if hung_up:
            streams.detach_terminal()
        elif answer == "exit":
            await asyncio.to_thread(self._core.ended.wait)
        elif not self._stop_asked.is_set() and not self._core.ended.is_set():
            say(f"the server goes on without a dashboard; come back with `{self._attach_line}`")

    async def _watch_core(self, leave: Callable[[], None]) -> None:
        while not self._core.ended.is_set():
            await asyncio.sleep(0.1)
            if self._until_done and not self._stay and await asyncio.to_thread(self._is_done):
                break
            if await asyncio.to_thread(self._is_deserted):
                break
        leave()

    # -- without one ---------------------------------------------------------------------------------

    def _headless(self) -> None:
        """Progress lines until the end."""
        said, due = "", 0.0
        # It must not wait on the event that the signal handler sets: the handler may interrupt it with its lock held.
        while not self._stop_asked.is_set() and not self._core.ended.wait(0.1):
            done = self._until_done and self._is_done()
            if done or time.monotonic() >= due:
                due = time.monotonic() + PROGRESS_S
                said = self._say_progress(said)
            if done or self._is_deserted():
                return

    def _is_deserted(self) -> bool:
        """Whether no agent is there or will come, which ends a run that was to go on until it is done."""
        if not self._until_done or not (why := self._agents.none_left()):
            return False
        try:
            snapshot = self._reader.snapshot()
        except MutiTaskError:
            return False
        if any(device.state != "offline" for device in snapshot.devices):
            return False
        self._deserted = f"no agent could work, so the run ends; mend that and go on with --resume. {why}"
        return True

    def _take_signals_back(self, loop: asyncio.AbstractEventLoop) -> None:
        """By itself the loop would leave nothing in their place: the next one would kill the server."""
        numbers = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        for number in numbers:
            loop.remove_signal_handler(number)
        self._on_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    def _on_signals(self) -> None:
        """From the first agent on a signal ends the server in order, and no agent is left behind."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self._ask_to_stop())
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda _number, _frame: streams.detach_terminal())

    def _ask_to_stop(self) -> None:
        if self._stop_asked.is_set():
            self._hurry.set()
        self._stop_asked.set()

    def _say_progress(self, said: str) -> str:
        try:
            snapshot = self._reader.snapshot()
            over = snapshot.finished and not self._until_done
            text = progress.finished(snapshot) if over else progress.line(snapshot)
            if count := self._agents.given_up():
                was = "was" if count == 1 else "were"
                text += f"; {plural(count, 'local agent')} {was} given up (logs in {self._agents.logs})"
        except MutiTaskError as error:
            text = str(error)
        if text != said:
            say(text)
        return text

    def _is_done(self) -> bool:
        try:
            snapshot = self._reader.snapshot()
            ended, skips = self._reader.allot_ended(), self._reader.desired_skips()
        except MutiTaskError:
            return False
        halted = {text.partition(":")[0] for text in self._core.halted()}
        halted -= {f"TaskChannel{channel}" for channel in skips}
        over = all(
            (ended or channel.exhausted or f"TaskChannel{channel.id}" in halted) and channel.open == 0
            for channel in snapshot.channels
        )
        return over


def attach(url: str, name: str, *, read_only: bool = False) -> int:
    """Show a dashboard on a namespace that runs elsewhere; the exit status. Raises `MutiTaskError`."""
    from mutitask_tui.dashboard.app import DashboardApp
    from mutitask_tui.dashboard.preferences import Memory

    memory = Memory(load())
    if os.environ.get("TEXTUAL_DRIVER"):
        memory.path = None  # Whoever looks on in a browser changes no files here.
        confine_view()
    backend = RedisBackend(url, name, read_only=read_only)
    backend.snapshot()

    async def show() -> None:
        app = DashboardApp(backend, memory=memory)
        loop = asyncio.get_running_loop()
        for signal_name in ("SIGTERM", "SIGINT", "SIGHUP"):
            if hasattr(signal, signal_name):
                loop.add_signal_handler(getattr(signal, signal_name), lambda: app.exit(None))
        loop.call_later(_SETTLED_S, _settle)
        await app.run_async()

    asyncio.run(show())
    return 0


def _settle() -> None:
    """What stands after the start stays: let Python's collections pass over it, and come often and small.

    With a thousand devices a full collection took 80 ms, and one of 50,000 young objects 65 ms, and every key that was
    pressed meanwhile waited. A snapshot that is being read in its thread gives way to a key after a millisecond.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 1_000)
    sys.setswitchinterval(0.001)
