"""A model job: what is in the Python standard library of this machine?

Each task is the path of one `.py` file, the test suite included where it is installed. Some of those files
are broken on purpose (they test Python's parser), so a few tasks fail, and that is right.

    mutitask run examples/stdlib_report.py
"""

import ast
import hashlib
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

LIBRARY = Path(sysconfig.get_path("stdlib"))
NOT_THE_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}

warnings.filterwarnings("ignore", category=SyntaxWarning)  # What newer Pythons say about older files.
warnings.filterwarnings("ignore", category=DeprecationWarning)


def tasks() -> Iterator[str]:
    """Yield the tasks, always in the same order, so that a stopped run can go on where it was."""
    for path in sorted(LIBRARY.rglob("*.py")):
        if path.is_file() and NOT_THE_LIBRARY.isdisjoint(path.relative_to(LIBRARY).parts):
            yield str(path)


def total() -> int:
    """Count the tasks. It is optional; with it the dashboard knows how much is left."""
    return len(list(tasks()))


def task_function(path: str) -> dict[str, str | int]:
    """Solve one task, on any device. What it returns is the result; if it raises, the task has failed."""
    content = Path(path).read_bytes()
    nodes = list(ast.walk(ast.parse(content, filename=path)))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    return {
        "path": path,
        "bytes": len(content),
        "lines": len(content.splitlines()),
        "sha256": hashlib.sha256(content).hexdigest(),
        "functions": len(functions),
        "classes": len(classes),
    }
