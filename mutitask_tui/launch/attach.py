"""Show a dashboard of a namespace that a server feeds elsewhere, in a terminal or in a browser's tab."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading

from mutitask_tui.launch.tuning import tune_after_start
from mutitask_tui.server.commands.redis_backend import RedisBackend
from mutitask_tui.settings.config_file import load
from worker_agent.protocol.errors import JobError
from worker_agent.protocol.unpatched import time

BROWSER_VARIABLE = "TEXTUAL_DRIVER"
"""textual-serve sets it for a view that draws into a browser's tab."""
MAX_VIEW_BYTES = 1536 * 1024 * 1024
"""Most address space of a view in a browser. It is larger than the memory in use: about 600 MB at the start."""
PARENT_CHECK_S = 0.5
"""How often a view in a browser checks that its web server still runs."""


def attach(url: str, name: str, *, read_only: bool = False) -> int:
    """Show the dashboard until the person leaves it. Return the exit status. Raises `MutiTaskError`."""
    in_browser = bool(os.environ.get(BROWSER_VARIABLE))
    if not in_browser and not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise JobError("attach needs a terminal; `mutitask status` prints the same information once")
    from mutitask_tui.dashboard.app import DashboardApp
    from mutitask_tui.settings.preferences import Preferences

    preferences = Preferences(load())
    if in_browser:
        preferences.path = None  # Viewers in a browser must not change files on this machine.
        _confine_to_web_server()
    backend = RedisBackend(url, name, read_only=read_only)
    backend.snapshot()  # Raises the error before the terminal changes.

    async def show() -> None:
        app = DashboardApp(backend, preferences=preferences)
        loop = asyncio.get_running_loop()
        for signal_name in ("SIGTERM", "SIGINT", "SIGHUP"):
            if hasattr(signal, signal_name):
                loop.add_signal_handler(getattr(signal, signal_name), lambda: app.exit(None))
        tune_after_start(loop)
        await app.run_async()

    asyncio.run(show())
    return 0


def _confine_to_web_server() -> None:
    """Limit the memory of this view, and end it when its web server ends for any reason."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_VIEW_BYTES, MAX_VIEW_BYTES))
    parent = os.getppid()

    def exit_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=exit_with_parent, name="web-server", daemon=True).start()
