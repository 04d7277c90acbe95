"""Carries commands out: writes wishes (law 4), moves failed tasks, and tells in one sentence what came of it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from mutitask_tui.server.caller import agents_text
from mutitask_tui.server.commands.channels import FeedCommands
from mutitask_tui.server.commands.devices import DRAIN_S, DeviceCommands
from mutitask_tui.server.commands.failed_tasks import FailCommands
from mutitask_tui.server.commands.registry import Command, Outcome
from worker_agent.protocol.errors import MutiTaskError


class Commander(DeviceCommands, FeedCommands, FailCommands):
    """Every command of the registry as a method of its name.

    They raise `CommandError`, or `RedisUnavailable` / `RedisRefused` where Redis is away or says no.
    """

    def run(self, command: Command, values: Sequence[Any]) -> Outcome:
        """Carry a command out and tell the event log."""
        outcome = command(self, *values)
        words = [str(value) if not isinstance(value, dict | list) else "..." for value in values]
        self.tell(" ".join([command.name, *words, "-", outcome.text]), command)
        return outcome

    def tell(self, text: str, command: Command) -> None:
        """Tell the event log what was done, unless the command only looked."""
        if command.name.startswith(("detect", "export")):
            return
        # `exit` may take the embedded Valkey away before this line; what was done is done all the same.
        with contextlib.suppress(MutiTaskError):
            self.call(lambda b: b.log("info", self.who, text))

    def exit(self) -> Outcome:
        """Stop all devices, then the server; what waits stays in Redis."""
        agents = self.agents()
        self.stop_agents(agents)
        server: bytes | None = self.call(lambda b: b.ask("HGET", b.keys.meta, "server"))
        if server is None:
            return Outcome(
                f"asked {agents_text(len(agents))} to stop; there is no server to close",
                data={"server": False},
            )
        self.call(
            lambda b: b.set_desired(
                b.keys.desired_server, {"quit": server.decode()}, tokens=[b.keys.server_token]
            )
        )
        return Outcome(
            f"asked {agents_text(len(agents))} to stop and the server to close behind them, "
            f"in {DRAIN_S:g} s at most; `exit` again does not wait for what runs",
            data={"server": True},
        )
