"""Carries out commands: writes desired states (law 4), moves failed tasks, and reports each outcome in one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from mutitask_tui.server.commands.base import agents_text
from mutitask_tui.server.commands.channels import ChannelCommands
from mutitask_tui.server.commands.devices import DeviceCommands
from mutitask_tui.server.commands.failed_tasks import FailCommands
from mutitask_tui.server.commands.registry import Command, Outcome, Param, channels_argument
from mutitask_tui.server.commands.running_tasks import RunningTaskCommands
from mutitask_tui.server.drain import DRAIN_S, request_stop
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.served_channels import served_text


class Commander(DeviceCommands, ChannelCommands, FailCommands, RunningTaskCommands):
    """Has a method for every command of the registry, under the command's name.

    Each raises `CommandError`, or `RedisUnavailable` or `RedisRefused` if Redis is away or refuses.
    """

    def run(self, command: Command, values: Sequence[Any]) -> Outcome:
        """Carry out a command and write its outcome to the event log."""
        outcome = command(self, *values)
        words = [_logged(param, value) for param, value in zip(command.params, values, strict=False)]
        self.log_outcome(" ".join([command.name, *words, "-", outcome.text]), command)
        return outcome

    def log_outcome(self, text: str, command: Command) -> None:
        """Write a line to the event log, unless the command only reads."""
        if command.name.startswith(("detect", "export")):
            return
        # `exit` may end the embedded Valkey before this line is written. The command has succeeded anyway.
        with contextlib.suppress(MutiTaskError):
            self.call(lambda b: b.append_event("info", self.source, text))

    def exit(self) -> Outcome:
        """Stop all agents, then the server. Waiting tasks stay in Redis."""
        agents = self.agents()
        request_stop(self, agents)
        server: bytes | None = self.call(lambda b: b.query("HGET", b.keys.meta, "server"))
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
            f"asked {agents_text(len(agents))} to stop and the server to close after them, "
            f"within {DRAIN_S:g} s; a second `exit` does not wait for running tasks",
            data={"server": True},
        )


def _logged(param: Param, value: Any) -> str:
    """Return an argument as the event log shows it. Payloads may be large, so they are left out."""
    if param.kind == "channels":
        return served_text(channels_argument(value))
    return "..." if isinstance(value, dict | list) else str(value)
