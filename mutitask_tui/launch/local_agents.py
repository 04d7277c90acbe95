"""Local agents: started with their server on its machine, restarted when they die, stopped with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mutitask_tui.launch.agent_logs import AgentLogs
from mutitask_tui.server.files import make_private
from worker_agent.agent.end_note import END_NOTE_VARIABLE, LOG_FILE_VARIABLE
from worker_agent.protocol.connection.address import REDIS_URL_VARIABLE, state_dir
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.unpatched import time

RESTART_S = 1.0
"""The wait before the first restart. It grows with each further one."""
MAX_STARTS = 4
"""An agent that dies this many times in a row before it is registered is not started again."""
DRAIN_S = 30
"""How long a stopped agent waits for its running tasks, also after its server died."""
WAIT_NOTICE_S = 1.0
"""A shorter stop is not announced."""
FORCE_STOP_S = 3.0
"""How long an agent may take to hand back its tasks and leave after that."""


@dataclass(slots=True)
class _Agent:
    device: int
    log: Path
    note: Path
    """The file in which the agent writes that it is registered, and later that it ended on purpose."""
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    started_at: float = field(default=0.0)
    failed_starts: int = 0
    """How often in a row it died before it was registered."""
    given_up: str = ""
    """Why it is not started any more, or ''."""
    refused_job: tuple[int, int] | None = None
    """The time and the size of the job file with which it ended. With another one it is started again."""


class LocalAgents:
    """Runs `count` agents: Device0, Device1, ... Each serves all channels.

    The Redis address goes into their environment, never into an argument. Each agent's output goes to its own log file.
    options: added to the command line of each agent.
    home, environment: the directory and the environment in which they start.
    on_note: called with a sentence when an agent dies.
    """

    def __init__(
        self, job: Path, url: str, name: str, count: int, on_note: Callable[[str], None],
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
            _Agent(n, self.logs / f"device{n}.log", self.logs / f"device{n}.ended") for n in range(count)
        ]
        self._output = AgentLogs([agent.log for agent in self._agents])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="local-agents", daemon=True)

    def start(self) -> None:
        """Start all agents, and a thread that restarts them."""
        if not self._agents:
            return
        self._output.start()
        for agent in self._agents:
            self._start(agent)
        self._thread.start()

    def given_up(self) -> int:
        """Return how many agents are not started any more."""
        return sum(bool(agent.given_up) for agent in self._agents)

    def why_none_left(self) -> str:
        """Return why every requested agent was given up; '' if one is left, or none was requested."""
        reasons = [agent.given_up for agent in self._agents]
        return reasons[0] if reasons and all(reasons) else ""

    def stop(
        self,
        force_stop: Callable[[], bool] = lambda: False,
        on_wait: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Stop all agents. Each finishes its running tasks first, within 30 seconds.

        Agents that need longer hand their tasks back and end. The same holds once `force_stop` returns True.
        on_wait: called once with a sentence if the stop takes longer than a second.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        running = [agent.process for agent in self._agents if agent.process and agent.process.poll() is None]
        for process in running:
            process.terminate()
        started_at, announced = time.monotonic(), False
        while any(p.poll() is None for p in running) and not force_stop():
            waited = time.monotonic() - started_at
            if waited >= DRAIN_S + FORCE_STOP_S:
                break
            if waited >= WAIT_NOTICE_S and not announced:
                announced = True
                on_wait(
                    f"waiting for running tasks of local agents, {DRAIN_S} s at most; "
                    "Ctrl+C again hands them back at once"
                )
            time.sleep(0.02)
        for process in (left := [p for p in running if p.poll() is None]):
            process.terminate()
        deadline = time.monotonic() + FORCE_STOP_S
        for process in left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            process.kill()
            process.wait()
        self._output.stop()

    def _start(self, agent: _Agent) -> None:
        command = [
            sys.executable, "-P", "-m", "worker_agent", str(self._job), "--name", self._name,
            "--device", str(agent.device),
            "--drain-timeout", str(DRAIN_S), *self._options,
        ]  # fmt: skip
        make_private(self.logs)  # At every start, because the directory may have been removed.
        agent.note.unlink(missing_ok=True)
        environment = {
            **self._environment,
            END_NOTE_VARIABLE: str(agent.note),
            LOG_FILE_VARIABLE: str(agent.log),
        }
        output = self._output.output(agent.device)
        # In a session of its own: Ctrl+C in the terminal reaches only the server, which stops its agents in order.
        agent.process = subprocess.Popen(
            command, env=environment, cwd=self._home, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        agent.started_at = time.monotonic()

    def _watch(self) -> None:
        while not self._stopping.wait(0.2):
            with contextlib.suppress(OSError, MutiTaskError):
                self._output.keep_running()
            for agent in self._agents:
                if agent.process is not None and agent.process.poll() is not None:
                    self._handle_end(agent, agent.process.returncode)
                elif agent.refused_job is not None and agent.refused_job != self._job_version():
                    self._on_note(f"Device{agent.device}'s job has changed; starting its agent again")
                    agent.refused_job, agent.given_up = None, ""
                    self._start_again(agent)

    def _handle_end(self, agent: _Agent, status: int) -> None:
        """Restart an agent that died, after a wait that grows. An agent that ended on purpose is not restarted.

        The exit status alone is not enough to decide, because a task can end its process with any status. An agent
        that dies several times before it is registered is given up.
        """
        progress = agent.note.read_text() if agent.note.exists() else ""
        if progress in ("ended", "stopped"):
            agent.process = None
            if status and progress == "ended":
                agent.refused_job = self._job_version()
                self._give_up(agent, "ended")
            return
        pause = RESTART_S * min(30, agent.restarts) if progress else RESTART_S * 2**agent.failed_starts
        if not progress and agent.failed_starts + 1 >= MAX_STARTS:
            agent.process = None
            self._give_up(agent, f"died {MAX_STARTS} times before it was registered")
        elif time.monotonic() - agent.started_at >= pause:
            agent.restarts += 1
            agent.failed_starts = 0 if progress else agent.failed_starts + 1
            self._on_note(f"Device{agent.device}'s agent died (status {status}); starting it again")
            self._start_again(agent)

    def _start_again(self, agent: _Agent) -> None:
        try:
            self._start(agent)
        except (OSError, MutiTaskError) as error:
            agent.process = None
            agent.given_up = f"Device{agent.device}'s agent cannot be started again: {error}"
            self._on_note(agent.given_up)

    def _give_up(self, agent: _Agent, how: str) -> None:
        agent.given_up = f"Device{agent.device}'s agent {how}: {self._last_line(agent)} ({agent.log})"
        self._on_note(agent.given_up)

    def _job_version(self) -> tuple[int, int]:
        """Return the time and the size of the job file, zeros if there is none."""
        try:
            found = self._job.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size

    def _last_line(self, agent: _Agent) -> str:
        self._output.wait_until_written(agent.device)
        try:
            lines = agent.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1][:200] if lines else "its log is empty"
