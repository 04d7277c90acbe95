"""Creates private files and directories, and refuses those that another user owns or could change."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

from worker_agent.protocol.errors import MutiTaskError


class Untrusted(MutiTaskError):
    """Another user made a file or directory, or could have changed it."""

    exit_status = 3


def make_private(directory: Path) -> None:
    """Make a directory that only its owner can enter, whatever the umask. Missing parents are made the same way.

    Raises `Untrusted` if another user owns it, `OSError` if it cannot be made.
    """
    for missing in reversed([path for path in (directory, *directory.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
        missing.chmod(0o700)
    refuse_other_owner(directory)
    if directory.stat().st_mode & 0o077:
        directory.chmod(0o700)


def refuse_other_owner(path: Path) -> None:
    """Check that this user owns a file or directory, and its target if it is a link.

    Raises `Untrusted` or `OSError`.
    """
    for stat in (path.lstat(), path.stat()):
        if stat.st_uid != os.geteuid():
            raise Untrusted(
                f"{path} belongs to {_user_name(stat.st_uid)} and not to {_user_name(os.geteuid())}: start this as "
                "that user, or name a directory of your own in MUTITASK_STATE_DIR"
            )


def refuse_writable_by_others(directory: Path) -> None:
    """Check that no other user can replace a directory inside this one. Raises `Untrusted`."""
    stat = directory.stat()
    if stat.st_uid not in (0, os.geteuid()):
        refuse_other_owner(directory)
    if stat.st_mode & 0o022 and not stat.st_mode & 0o1000:
        raise Untrusted(
            f"{directory} can be written by other users: run `chmod go-w {directory}`, or name a directory of your own "
            "in MUTITASK_STATE_DIR"
        )


def _user_name(number: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(number).pw_name
    except (ImportError, KeyError):
        return f"user {number}"


@contextlib.contextmanager
def private_file(path: Path, mode: Literal["w", "wb"]) -> Iterator[IO[Any]]:
    """Write a file with mode 0600 that replaces `path` in one step if the block succeeds."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, mode, encoding=None if mode == "wb" else "utf-8") as file:
            yield file
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def write_new_file(wanted: Path, write: Callable[[IO[str]], int]) -> tuple[int, Path | None]:
    """Write a file with mode 0600 and overwrite none: if `wanted` exists, its name gets the first free number.

    `write` fills the file and returns how many lines it wrote. Returns that number and the file's path. If there are
    no lines, no file is made and the path is None. Raises `OSError`.
    """
    handle, name = tempfile.mkstemp(dir=wanted.parent, prefix=f".{wanted.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            count = write(file)
        if not count:
            return 0, None
        path = _reserve_free_name(wanted)
        draft.replace(path)
        return count, path
    finally:
        draft.unlink(missing_ok=True)


def _reserve_free_name(wanted: Path) -> Path:
    """Create an empty file, so that no other process takes its name."""
    number = 1
    while True:
        path = wanted if number == 1 else wanted.with_stem(f"{wanted.stem}-{number}")
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            return path
        number += 1
