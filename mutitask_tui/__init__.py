"""The server. It feeds generators into bounded channels and shows everything in a dashboard."""

from __future__ import annotations

from mutitask_tui.api import Server

__all__ = ["Server"]
