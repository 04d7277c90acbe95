"""The job of the screenshots: three channels that work on Python's standard library."""

import ast
import hashlib
import sysconfig
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LIBRARY = Path(sysconfig.get_path("stdlib"))

warnings.filterwarnings("ignore")


def files() -> Iterator[str]:
    """Return every Python file of the library."""
    return (str(path) for path in sorted(LIBRARY.rglob("*.py")) if "site-packages" not in path.parts)


def broken_first() -> Iterator[str]:
    """Yield the files that are broken on purpose, then all files."""
    names = list(files())
    yield from (name for name in names if "bad" in Path(name).name or "tokenizedata" in name)
    yield from names


def forever() -> Iterator[int]:
    """Yield numbers without end."""
    number = 0
    while True:
        yield number
        number += 1


def parse(path: str) -> dict[str, Any]:
    """Count the syntax nodes of a file."""
    tree = ast.parse(Path(path).read_bytes(), filename=path)
    return {"path": path, "nodes": sum(1 for _ in ast.walk(tree))}


def digest(path: str) -> str:
    """Return the SHA-256 of a file."""
    time.sleep(0.02)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def collatz(number: int) -> int:
    """Return the Collatz steps until 1. Every thousandth number fails, to show failed tasks."""
    if number % 1000 == 999:
        raise ValueError(f"{number} is one of the numbers that this example rejects")
    value, steps = number + 1, 0
    while value != 1:
        value, steps = (value // 2 if value % 2 == 0 else 3 * value + 1), steps + 1
    time.sleep(0.001)
    return steps


tasks = [broken_first, files, forever]
task_functions = [parse, digest, collatz]
