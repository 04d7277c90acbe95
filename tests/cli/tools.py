"""Tools of the command-line tests: commands in this process, jobs, and a server with agents in threads."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from click.testing import CliRunner

from mutitask_tui.cli.main import cli
from mutitask_tui.server.core import ServerCore
from mutitask_tui.server.reader import Reader
from mutitask_tui.server.snapshot import ChannelView, DeviceView, Snapshot
from tests.run_plan import run_plan
from tests.support.waiting import wait_until
from worker_agent.agent.agent import Agent
from worker_agent.settings import Settings


@dataclass(frozen=True)
class CommandResult:
    """The output of a command, and its exit status."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[Any]:
        assert self.status == 0, self
        return [json.loads(line) for line in self.stdout.splitlines()]


@pytest.fixture(autouse=True)
def no_agents_left(tmp_path: Path) -> Iterator[None]:
    """Kill the local agents of the test. They outlive a killed server, and must not disturb the next test."""
    yield
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{tmp_path}/".encode() in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)


def mutitask(*args: object) -> CommandResult:
    """Run `mutitask ...` in this process, without a terminal."""
    result = CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="mutitask")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return CommandResult(result.exit_code, result.stdout, result.stderr)


def write_job(directory: Path, text: str, name: str = "job.py") -> Path:
    """Write a job file with this text. Return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(dedent(text))
    return path


def double(task: Any) -> Any:
    """A task function: return the task twice. Numbers that end in 7 fail."""
    if isinstance(task, int) and task % 10 == 7:
        raise ValueError(f"{task} ends in seven")
    return [task, task]


class Stack:
    """A server and its agents, in threads of this process, on a real Valkey."""

    def __init__(self, url: str, name: str, *iterators: Iterator[Any], **plan: Any) -> None:
        self.url = url
        self.name = name
        terms: dict[str, Any] = {"devices": 0, "capacity": 50, "retries": 0} | plan
        self.core = ServerCore(url, name, run_plan(channels=len(iterators), **terms), iterators)
        self.core.check()
        self.core.open()
        self.core.start()
        self.agents: dict[int, tuple[Agent, threading.Thread]] = {}
        self._reader = Reader(url, name)

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        for agent, _thread in self.agents.values():
            agent.stop()
        for _agent, thread in self.agents.values():
            thread.join(10)
        self.core.stop()

    def agent(
        self,
        device: int = 0,
        channel: int = 0,
        task_function: Callable[[Any], Any] = double,
        save_function: Callable[[Any], Any] | None = None,
    ) -> Agent:
        """Start an agent in a thread. Return it when it is registered."""
        functions = task_function, save_function
        settings = Settings(lambda: self.url, self.name, device, (channel,), 1, lambda _channel: functions)
        agent = Agent(settings)
        thread = threading.Thread(target=agent.run, daemon=True)
        thread.start()
        self.agents[device] = agent, thread
        self.until(lambda s: any(d.id == device and d.state != "offline" for d in s.devices))
        return agent

    def ctl(self, *args: object) -> CommandResult:
        """Run `mutitask ctl` on this namespace."""
        return mutitask("ctl", *args, "--redis", self.url, "--name", self.name)

    def done(self, *args: object) -> Any:
        """Run `mutitask ctl` with `--json`, expect success, and return its data."""
        result = self.ctl(*args, "--json")
        assert result.status == 0, result
        data = json.loads(result.stdout)
        assert data["ok"] is True
        assert isinstance(data["text"], str)
        return data

    def status(self) -> Any:
        """Return the data of `mutitask status --json`."""
        return mutitask("status", "--json", "--redis", self.url, "--name", self.name).json

    def snapshot(self) -> Snapshot:
        return self._reader.snapshot()

    def channel(self, number: int = 0) -> ChannelView:
        return self.snapshot().channels[number]

    def device(self, number: int = 0) -> DeviceView:
        return next(device for device in self.snapshot().devices if device.id == number)

    def until(self, holds: Callable[[Snapshot], object], timeout: float = 15.0) -> Snapshot:
        """Wait for a snapshot that meets the condition, and return it."""

        def look() -> Snapshot | None:
            snapshot = self.snapshot()
            return snapshot if holds(snapshot) else None

        def described() -> str:
            shown = replace(self.snapshot(), events=())
            return f"a snapshot that holds; last: {shown}"

        try:
            return wait_until(look, timeout, every=0.02)  # type: ignore[return-value]
        except AssertionError:
            raise AssertionError(described()) from None

    def until_all_settled(self) -> Snapshot:
        return self.until(lambda s: s.finished)

    def failed_ids(self, channel: int = 0) -> list[str]:
        return [task.id for task in self._reader.failed_tasks(channel, 0, 1000)]
