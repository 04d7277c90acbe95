"""The cleanup after every command-line test."""

from __future__ import annotations

from tests.cli.tools import no_agents_left

__all__ = ["no_agents_left"]
