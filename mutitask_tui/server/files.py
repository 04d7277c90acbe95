"""Files of ours that nobody else can read, and that are there only once they are whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
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
