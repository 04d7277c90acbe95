"""The job of the screenshots: three channels over the machine's own standard library."""

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
    """Every Python file of the library."""
    return (str(path) for path in sorted(LIBRARY.rglob("*.py")) if "site-packages" not in path.parts)


def broken_first() -> Iterator[str]:
    """The same, beginning with those that are broken on purpose."""
    names = list(files())
    yield from (name for name in names if "bad" in Path(name).name or "tokenizedata" in name)
    yield from names


def forever() -> Iterator[int]:
    """Numbers without end."""
    number = 0
    while True:
        yield number
        number += 1


def parse(path: str) -> dict[str, Any]:
    """Count what a file defines."""
    tree = ast.parse(Path(path).read_bytes(), filename=path)
    return {"path": path, "nodes": sum(1 for _ in ast.walk(tree))}


def digest(path: str) -> str:
    """A file's SHA-256."""
    time.sleep(0.02)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def collatz(number: int) -> int:
    """Steps until 1; refuses every thousandth, so that there is something to see in the FailChannel."""
    if number % 1000 == 999:
        raise ValueError(f"{number} is one of the numbers that this example does not like")
    value, steps = number + 1, 0
    while value != 1:
        value, steps = (value // 2 if value % 2 == 0 else 3 * value + 1), steps + 1
    time.sleep(0.001)
    return steps


tasks = [broken_first, files, forever]
task_functions = [parse, digest, collatz]
