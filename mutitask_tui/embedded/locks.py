"""File locks of an embedded Valkey: inside its directory, and one outside that survives the directory's removal."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mutitask_tui.server.files import Untrusted, make_private
from worker_agent.protocol.unpatched import time

_POLL_SECONDS = 0.02


@contextlib.contextmanager
def lock_file(path: Path, timeout: float) -> Iterator[int | None]:
    """Hold the lock of a file, which is created if it is missing.

    Yields the file's descriptor, or None if another process holds the lock for more than `timeout` seconds.
    """
    import fcntl  # Missing on Windows, where no embedded Valkey is available either.

    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        end = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    yield None
                    return
                time.sleep(_POLL_SECONDS)
            else:
                yield handle
                return
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of this file."""
    try:
        with lock_file(path, 0.0) as handle:
            return handle is None
    except OSError:
        return False


@contextlib.contextmanager
def lock_outside(directory: Path, timeout: float) -> Iterator[tuple[int | None, str]]:
    """Hold a lock for this directory that survives the removal of the directory.

    Yields (descriptor, ''), or (None, process id of the holder) if another process holds the lock for more than
    `timeout` seconds. Yields (None, '') if the lock cannot be created: then only the lock inside the directory protects
    the data.
    """
    path = _outside(directory)
    with contextlib.ExitStack() as held:
        handle, holder = None, ""
        with contextlib.suppress(OSError, Untrusted):
            make_private(path.parent)
            handle = held.enter_context(lock_file(path, timeout))
            if handle is None:
                holder = path.read_text(errors="replace").strip() or "?"
        yield handle, holder


def record_holder(directory: Path, pid: int) -> None:
    """Write the process id of the holder into the lock file outside the directory."""
    with contextlib.suppress(OSError):
        _outside(directory).write_text(str(pid))


def remove_lock_outside(directory: Path) -> None:
    """Delete the lock file outside the directory, unless a process holds it."""
    with contextlib.suppress(OSError), lock_file(_outside(directory), 0.0) as handle:
        if handle is not None:
            _outside(directory).unlink()


def _outside(directory: Path) -> Path:
    name = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:24]
    return Path(tempfile.gettempdir()) / f"mutitask-{os.geteuid()}" / f"{name}.lock"
