"""When an embedded Valkey starts for a command, and when it stops: after its server, its agents or that command."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from mutitask_tui.embedded.process import EmbeddedServer
from mutitask_tui.embedded.valkey import ensure, find, is_sleeping
from mutitask_tui.server.reader import Reader
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.unpatched import time

AGENTS_LEAVE_S = 10.0
"""How long to wait for agents to leave before the embedded Valkey stops."""


@dataclass(frozen=True, slots=True)
class TemporaryStart:
    """A sleeping embedded Valkey that a command started to read its data."""

    embedded: EmbeddedServer
    name: str

    @property
    def url(self) -> str:
        """Where it listens, with user and password."""
        return self.embedded.url

    def stop_if_unused(self) -> None:
        """Stop it, unless a server started to use it in the meantime."""
        with contextlib.suppress(MutiTaskError):
            if Reader(self.url, self.name).snapshot().server is not None:
                return
        self.embedded.stop()


def start_temporarily(name: str) -> TemporaryStart | None:
    """Start the sleeping embedded Valkey of a namespace. Return None if it runs already, or has no data."""
    if not is_sleeping(name):
        return None
    embedded = ensure(name)
    return TemporaryStart(embedded, name) if embedded.started else None


def stop_after_agents(url: str, name: str) -> bool:
    """Stop the embedded Valkey at `url` when its agents have left, after 10 seconds at most.

    Returns False and does nothing if `url` is not the embedded Valkey of this namespace, or if its data was removed.
    """
    embedded = find(name)
    if embedded is None or embedded.url != url or not embedded.has_data:
        return False
    reader = Reader(url, name)
    deadline = time.monotonic() + AGENTS_LEAVE_S
    with contextlib.suppress(MutiTaskError):
        while time.monotonic() < deadline and any(d.state != "offline" for d in reader.snapshot().devices):
            time.sleep(0.1)
    embedded.stop()
    return True


def stop_if_unused(embedded: EmbeddedServer, name: str) -> str:
    """Stop the embedded Valkey of a server that ended, unless agents or another server still use it.

    Returns who uses it, or '' if it was stopped. Its data stays on the disk.
    """
    try:
        snapshot = Reader(embedded.url, name).snapshot()
    except MutiTaskError:  # It has no data of the namespace, or it does not answer.
        embedded.stop()
        return ""
    if snapshot.server is not None:
        return "another server"
    users = [f"Device{device.id}" for device in snapshot.devices if device.state != "offline"]
    if users:
        return users[0] if len(users) == 1 else f"{users[0]} and {len(users) - 1} more"
    embedded.stop()
    return ""
