"""Re-exports `Server` for `from Mutitask.server import Server`."""

from mutitask_tui import Server

__all__ = ["Server"]
