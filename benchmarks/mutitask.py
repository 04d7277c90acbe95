"""Runs MutiTask for a measurement: a server and agents as processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from benchmarks.peers.kit import HERE
from benchmarks.processes import TIMEOUT_S, BrokenRun, Workspace, read_line, send_line
from benchmarks.valkey import Valkey
from worker_agent.protocol.keys import Keys

NAME = "bench"


@dataclass(slots=True)
class FeedTime:
    """When the server started to feed (monotonic, in seconds) and how long it took in seconds."""

    started: float
    seconds: float


class MutiTask:
    """A namespace on a Valkey. Agents start paused; `resume_agents` lets them run."""

    def __init__(self, workspace: Workspace, valkey: Valkey, *, trickle: bool = False) -> None:
        self.workspace = workspace
        self.client: redis.Redis = valkey.client()
        self.keys = Keys(NAME)
        self.channel = self.keys.channel(0)
        self.channels = [self.keys.channel(channel) for channel in range(workspace.options.channels)]
        self.agents: list[subprocess.Popen[bytes]] = []
        operation = "trickle" if trickle else "serve"
        self.server = workspace.start(
            [sys.executable, HERE / "on_mutitask.py", operation], operation, pipes=True
        )
        read_line(self.server, workspace)

    def start_agent(self, device: int) -> subprocess.Popen[bytes]:
        """Start the agent of a device."""
        options = self.workspace.options
        program = ["benchmarks.capped_agent", str(options.batch)] if options.batch else ["worker_agent"]
        return self.workspace.start(
            [
                sys.executable, "-m", *program, HERE / "mutitask_job.py", "--redis", options.url, "--name", NAME,
                "--device", str(device), "--kind", options.kind, "--concurrency", str(options.concurrency or 1),
            ],
            "work",
        )  # fmt: skip

    def add_agents(self, count: int = 1) -> None:
        """Start `count` more agents and wait until they are registered."""
        for number in range(len(self.agents), len(self.agents) + count):
            self.agents.append(self.start_agent(number))
        self.wait_until(lambda: self.client.hlen(self.keys.agents) == len(self.agents))

    def start_feed(self) -> None:
        """Let the server start to feed."""
        send_line(self.server)

    def wait_until_fed(self) -> FeedTime:
        """Wait until the last task is in Redis."""
        answer = json.loads(read_line(self.server, self.workspace))
        return FeedTime(answer["started"], answer["seconds"])

    def resume_agents(self) -> float:
        """Let the agents run tasks. Return the time before the command (monotonic, in seconds)."""
        started = time.monotonic()
        self.client.hset(self.keys.desired_devices, "default", "running")
        for number in range(len(self.agents)):
            self.client.lpush(self.keys.device_token(number), "1")
        return started

    def done_count(self) -> int:
        """Return how many tasks are done. Their results are in Redis."""
        done: list[Any] = [self.client.hget(channel.agent_counters, "done") for channel in self.channels]
        return sum(int(count or 0) for count in done)

    def wait_until_done(self, count: int, timeout_s: float = TIMEOUT_S) -> float:
        """Wait until `count` tasks are done. Return the present time (monotonic, in seconds)."""
        self.wait_until(lambda: self.done_count() >= count, timeout_s)
        return time.monotonic()

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
        """Wait until the condition is true. Raises `BrokenRun` after `timeout_s`."""
        until = time.monotonic() + timeout_s
        while not condition():
            self.workspace.check_processes()
            if time.monotonic() > until:
                raise BrokenRun(
                    f"MutiTask: not within {timeout_s:g} s; {self.done_count()} done: {self.workspace.log_tail()}"
                )
            time.sleep(0.002)
