"""Agents on the server's own machine: started with it, started again when they die, stopped with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mutitask_tui.server.files import make_private, open_log
from worker_agent.agent.claim_loop import ENDED_NOTE_VARIABLE
from worker_agent.protocol.connection.address import REDIS_URL_VARIABLE, state_dir
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.pristine import time

RESTART_S = 1.0
TRIES = 4
"""An agent that dies so often before it has its device is given up."""
DRAIN_S = 30
"""How long an agent that is told to stop, also when its server is gone, waits for what it runs."""
SAID_S = 1.0
SPARE_S = 3.0
"""How long handing back and leaving take then, at most."""


@dataclass(slots=True)
class _Agent:
    device: int
    channel: int
    log: Path
    note: Path
    """Where the agent notes that it has its device, and that it ended by itself."""
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    at: float = field(default=0.0)
    tries: int = 0
    """How often in a row it died before it had its device."""
    given_up: str = ""
    """Why it is not started any more, or ''."""


class LocalAgents:
    """`count` agents, dealt to the channels in turn: Device0, Device1, ...

    The address goes by the environment, never by an argument. What they print goes to a log file each.
    `options` are for the command line of each; `home` and `environment` are where and with what they start.
    """

    def __init__(
        self, job: Path, url: str, name: str, count: int, channels: int, on_note: Callable[[str], None],
        *, options: Sequence[str] = (), home: Path | None = None, environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._home = home or Path.cwd()
        self._job = self._home / job.expanduser()
        self._name = name
        self._on_note = on_note
        self._options = options
        self._environment: Mapping[str, str] = {**(environment or os.environ), REDIS_URL_VARIABLE: url}
        self.logs = state_dir() / name / "agents"
        self._agents = [
            _Agent(n, n % channels, self.logs / f"device{n}.log", self.logs / f"device{n}.ended")
            for n in range(count)
        ]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="local-agents", daemon=True)

    def start(self) -> None:
        """Start them all and watch over them."""
        if not self._agents:
            return
        for agent in self._agents:
            self._start(agent)
        self._thread.start()

    def given_up(self) -> int:
        """How many agents are not started any more."""
        return sum(bool(agent.given_up) for agent in self._agents)

    def none_left(self) -> str:
        """Why none of the agents that were asked for is there or will come, or ''."""
        reasons = [agent.given_up for agent in self._agents]
        return reasons[0] if reasons and all(reasons) else ""

    def stop(
        self, hurry: Callable[[], bool] = lambda: False, on_wait: Callable[[str], None] = lambda _text: None
    ) -> None:
        """Let each finish what it runs: for `DRAIN_S` at most, or until `hurry` says so; then hand back and end.

        `on_wait` is told where that takes longer than a moment.
        """
        self._ended.set()
        running = [agent.process for agent in self._agents if agent.process and agent.process.poll() is None]
        for process in running:
            process.terminate()
        began, said = time.monotonic(), False
        while any(p.poll() is None for p in running) and not hurry():
            waited = time.monotonic() - began
            if waited >= DRAIN_S + SPARE_S:
                break
            if waited >= SAID_S and not said:
                said = True
                on_wait(
                    f"waiting for what local agents run, {DRAIN_S} s at most; Ctrl+C again hands it back at once"
                )
            time.sleep(0.02)
        for process in (left := [p for p in running if p.poll() is None]):
            process.terminate()
        until = time.monotonic() + SPARE_S
        for process in left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
            process.kill()
            process.wait()

    def _start(self, agent: _Agent) -> None:
        command = [
            sys.executable, "-P", "-m", "worker_agent", str(self._job), "--name", self._name,
            "--device", str(agent.device), "--channel", str(agent.channel),
            "--drain-timeout", str(DRAIN_S), *self._options,
        ]  # fmt: skip
        make_private(self.logs)  # Each time: somebody may have removed it.
        agent.note.unlink(missing_ok=True)
        environment = {**self._environment, ENDED_NOTE_VARIABLE: str(agent.note)}
        with open_log(agent.log) as log:
            # A session of its own: Ctrl+C in the terminal is for the server, which then stops its agents in order.
            agent.process = subprocess.Popen(
                command, env=environment, cwd=self._home, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        agent.at = time.monotonic()

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            for agent in self._agents:
                if agent.process is not None and agent.process.poll() is not None:
                    self._after(agent, agent.process.returncode)

    def _after(self, agent: _Agent, status: int) -> None:
        """An agent that ended by itself stays away; one that died comes back, later and later.

        The status alone does not tell: a task can end its process with any. One that dies again and again before it
        has its device is given up.
        """
        how_far = agent.note.read_text() if agent.note.exists() else ""
        if how_far in ("ended", "stopped"):
            agent.process = None
            if status and how_far == "ended":
                self._give_up(agent, "ended")
            return
        pause = RESTART_S * min(30, agent.restarts) if how_far else RESTART_S * 2**agent.tries
        if not how_far and agent.tries + 1 >= TRIES:
            agent.process = None
            self._give_up(agent, f"died {TRIES} times before it had its device")
        elif time.monotonic() - agent.at >= pause:
            agent.restarts += 1
            agent.tries = 0 if how_far else agent.tries + 1
            self._on_note(f"Device{agent.device}'s agent died (status {status}); starting it again")
            try:
                self._start(agent)
            except (OSError, MutiTaskError) as error:
                agent.process = None
                agent.given_up = f"Device{agent.device}'s agent cannot be started again: {error}"
                self._on_note(agent.given_up)

    def _give_up(self, agent: _Agent, how: str) -> None:
        agent.given_up = f"Device{agent.device}'s agent {how}: {self._last_line(agent)} ({agent.log})"
        self._on_note(agent.given_up)

    def _last_line(self, agent: _Agent) -> str:
        try:
            lines = agent.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1][:200] if lines else "without a word"
