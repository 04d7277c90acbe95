"""An example job: analyse the Python standard library of this machine.

Each task is the path of one `.py` file. The library's test suite is included if it is installed. Some of its files
are invalid on purpose, because they test Python's parser. So a few tasks fail, and that is correct.

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

warnings.filterwarnings("ignore", category=SyntaxWarning)  # Newer Pythons warn about older files.
warnings.filterwarnings("ignore", category=DeprecationWarning)


def tasks() -> Iterator[str]:
    """Yield the tasks. The order is always the same, so that a stopped run can be resumed."""
    for path in sorted(LIBRARY.rglob("*.py")):
        if path.is_file() and NOT_THE_LIBRARY.isdisjoint(path.relative_to(LIBRARY).parts):
            yield str(path)


def total() -> int:
    """Count the tasks. This function is optional. The dashboard uses it to show how much work is left."""
    return len(list(tasks()))


def task_function(path: str) -> dict[str, str | int]:
    """Run one task on any device. The return value is the result. An exception means that the run failed."""
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
