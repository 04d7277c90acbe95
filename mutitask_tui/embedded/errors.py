"""The error of the embedded Valkey."""

from __future__ import annotations

from worker_agent.protocol.errors import MutiTaskError


class EmbeddedError(MutiTaskError):
    """The embedded Valkey cannot be used. The text says why and what to do instead."""

    exit_status = 3
