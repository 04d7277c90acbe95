"""For development (`--reload`): restarts the agent when the job or a module beside it changes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from worker_agent.console.log import LOG
from worker_agent.protocol.errors import JobError

LOOK_MS = 1_000
"""The time between two looks at the files themselves."""
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


_seen: dict[Path, tuple[int, int]] = {}
"""What `remember_files` saw: the time of the last change (ns) and the size of each file."""


def remember_files(job: Path) -> None:
    """Note how the job and the modules beside it are before they are loaded: a change from then on counts."""
    _seen.update(_files(job))


def wait_for_change(job: Path) -> str:
    """Wait until the job or a module beside it changes. Return the name of the file."""
    from watchfiles import PythonFilter, watch

    seen = _seen or _files(job)
    for changes in watch(
        *_folders(job.expanduser().absolute().parent), watch_filter=PythonFilter(), recursive=False,
        debounce=DEBOUNCE_MS, raise_interrupt=True, yield_on_timeout=True, rust_timeout=LOOK_MS,
    ):  # fmt: skip
        if changes:
            return Path(min(path for _, path in changes)).name
        # A file may have changed before the watch began.
        for path, state in _files(job).items():
            if seen.get(path) != state:
                return path.name
    return job.name


def _files(job: Path) -> dict[Path, tuple[int, int]]:
    """Return the time of the last change (ns) and the size of the job and of each module beside it."""
    files: dict[Path, tuple[int, int]] = {}
    for folder in _folders(job.expanduser().absolute().parent):
        for path in folder.glob("*.py"):
            with contextlib.suppress(OSError):
                status = path.stat()
                files[path] = status.st_mtime_ns, status.st_size
    return files


def _folders(folder: Path) -> Iterator[Path]:
    """Yield a folder and the packages in it, with theirs."""
    yield folder
    for package in sorted(folder.glob("*/__init__.py")):
        yield from _folders(package.parent)
