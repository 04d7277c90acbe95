"""For development (`--reload`): restarts the agent when the job or a module beside it changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from worker_agent.console.log import LOG
from worker_agent.protocol.errors import JobError

DEBOUNCE_MS = 300
"""Changes within this time count as one: an editor writes a file in several steps."""


def check_installed() -> None:
    """Raise `JobError` if watchfiles is not installed."""
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        raise JobError("--reload needs watchfiles: pip install 'mutitask[reload]'") from None


def restart_on_change(job: Path, restart: Callable[[], None]) -> None:
    """Call `restart` when the job or a module beside it has changed. Returns at once."""

    def watch() -> None:
        LOG.info("%s has changed: the agent restarts", wait_for_change(job))
        restart()

    threading.Thread(target=watch, name="reload", daemon=True).start()


def wait_for_change(job: Path) -> str:
    """Wait until the job or a module beside it changes. Return the name of the file."""
    from watchfiles import PythonFilter, watch

    folders = list(_folders(job.parent))
    for changes in watch(
        *folders, watch_filter=PythonFilter(), recursive=False, debounce=DEBOUNCE_MS, raise_interrupt=True
    ):
        return Path(min(path for _, path in changes)).name
    return job.name


def _folders(folder: Path) -> Iterator[Path]:
    """Yield a folder and the packages in it, with theirs."""
    yield folder
    for package in sorted(folder.glob("*/__init__.py")):
        yield from _folders(package.parent)
