"""Files and directories of ours: nobody else can read them, and no one else's is taken for ours."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

from worker_agent.protocol.errors import MutiTaskError


class Untrusted(MutiTaskError):
    """A file or directory that somebody else made, or could have changed."""

    exit_status = 3


def make_private(directory: Path) -> None:
    """A directory that only its owner can enter; what is missing above it is made so too, whatever the umask.

    Raises `Untrusted` where it is another user's, `OSError` where it cannot be made.
    """
    for missing in reversed([path for path in (directory, *directory.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
        missing.chmod(0o700)
    refuse_strangers(directory)
    if directory.stat().st_mode & 0o077:
        directory.chmod(0o700)


def refuse_strangers(path: Path) -> None:
    """See that a file or directory, and what a link there leads to, is this user's. Raises `Untrusted` or `OSError`."""
    for stat in (path.lstat(), path.stat()):
        if stat.st_uid != os.geteuid():
            raise Untrusted(
                f"{path} belongs to {_user(stat.st_uid)} and not to {_user(os.geteuid())}: start this as that user, or "
                "name a directory of your own in MUTITASK_STATE_DIR"
            )


def refuse_open(directory: Path) -> None:
    """See that nobody else can put another directory in the place of one in this one. Raises `Untrusted`."""
    stat = directory.stat()
    if stat.st_uid not in (0, os.geteuid()):
        refuse_strangers(directory)
    if stat.st_mode & 0o022 and not stat.st_mode & 0o1000:
        raise Untrusted(
            f"{directory} can be written by other users: run `chmod go-w {directory}`, or name a directory of your own "
            "in MUTITASK_STATE_DIR"
        )


def _user(number: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(number).pw_name
    except (ImportError, KeyError):
        return f"user {number}"


def open_log(path: Path) -> IO[bytes]:
    """A file of this user alone, to be added to."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    os.fchmod(handle, 0o600)
    return os.fdopen(handle, "ab")


@contextlib.contextmanager
def private_file(path: Path, mode: Literal["w", "wb"]) -> Iterator[IO[Any]]:
    """A file (0600 from its first moment) that takes the place of `path` at once, when the block ends well."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, mode, encoding=None if mode == "wb" else "utf-8") as file:
            yield file
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def write_anew(wanted: Path, write: Callable[[IO[str]], int]) -> tuple[int, Path | None]:
    """Write a file (0600) that takes no other one's place: `wanted`, or that name with the first free number.

    `write` fills it and returns how many lines it wrote. Returns that, and the file; None where there is no line, and
    then no file. Raises `OSError`.
    """
    handle, name = tempfile.mkstemp(dir=wanted.parent, prefix=f".{wanted.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            count = write(file)
        if not count:
            return 0, None
        taken = _take_free_name(wanted)
        draft.replace(taken)
        return count, taken
    finally:
        draft.unlink(missing_ok=True)


def _take_free_name(wanted: Path) -> Path:
    """Make an empty file, so that nobody else takes that name."""
    number = 1
    while True:
        path = wanted if number == 1 else wanted.with_stem(f"{wanted.stem}-{number}")
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            return path
        number += 1
