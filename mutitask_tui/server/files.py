"""Files of ours that nobody else can read, and that are there only once they are whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal


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
