"""Re-exports `Client` for `from Mutitask.client import Client`."""

from worker_agent import Client

__all__ = ["Client"]
