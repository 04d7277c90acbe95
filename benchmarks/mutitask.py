"""MutiTask under measurement: a server and agents as processes, and what the books say of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import redis

from benchmarks.peers.kit import HERE
from benchmarks.processes import PATIENCE_S, Broken, Desk, line, say
from benchmarks.valkey import Valkey
from worker_agent.protocol.keys import Keys

NAME = "bench"


@dataclass(slots=True)
class Fed:
    """When the server began to feed (monotonic) and how long it took."""

    began: float
    seconds: float


class MutiTask:
    """A namespace of one channel on a Valkey. The agents join paused; `start_agents` lets them run."""

    def __init__(self, desk: Desk, valkey: Valkey, *, trickle: bool = False) -> None:
        self.desk = desk
        self.client: redis.Redis = valkey.client()
        self.keys = Keys(NAME)
        self.channel = self.keys.channel(0)
        self.agents: list[subprocess.Popen[bytes]] = []
        operation = "trickle" if trickle else "serve"
        self.server = desk.start([sys.executable, HERE / "on_mutitask.py", operation], operation, pipes=True)
        line(self.server, desk)

    def agent(self, device: int) -> subprocess.Popen[bytes]:
        """Start one agent."""
        asked = self.desk.options
        program = ["benchmarks.capped_agent", str(asked.batch)] if asked.batch else ["worker_agent"]
        return self.desk.start(
            [
                sys.executable, "-m", *program, HERE / "mutitask_job.py", "--redis", asked.url, "--name", NAME,
                "--device", str(device), "--kind", asked.kind, "--concurrency", str(asked.concurrency or 1),
            ],
            "work",
        )  # fmt: skip

    def join(self, agents: int = 1) -> None:
        """Let so many agents join, and wait until they have."""
        for number in range(len(self.agents), len(self.agents) + agents):
            self.agents.append(self.agent(number))
        self.until(lambda: self.client.hlen(self.keys.agents) == len(self.agents))

    def feed(self) -> None:
        """Begin to feed."""
        say(self.server)

    def fed(self) -> Fed:
        """Wait until the last task is in Redis."""
        told = json.loads(line(self.server, self.desk))
        return Fed(told["began"], told["seconds"])

    def start_agents(self) -> float:
        """Let the agents run; when that was said (monotonic)."""
        began = time.monotonic()
        self.client.hset(self.keys.desired_devices, "default", "running")
        for number in range(len(self.agents)):
            self.client.lpush(self.keys.device_token(number), "1")
        return began

    def done(self) -> int:
        """How many tasks are done, their results kept."""
        told: Any = self.client.hget(self.channel.agent_counters, "done")
        return int(told or 0)

    def until_done(self, count: int, patience_s: float = PATIENCE_S) -> float:
        """Wait until so many are done; when that was seen (monotonic)."""
        self.until(lambda: self.done() >= count, patience_s)
        return time.monotonic()

    def until(self, holds: Any, patience_s: float = PATIENCE_S) -> None:
        """Wait until it holds."""
        until = time.monotonic() + patience_s
        while not holds():
            self.desk.check()
            if time.monotonic() > until:
                raise Broken(f"MutiTask: not within {patience_s:g} s; {self.done()} done: {self.desk.log()}")
            time.sleep(0.002)
