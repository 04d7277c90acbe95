from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.programs import BIN, ROOT

LIGHT = [
    module
    for module in (
        "worker_agent",
        "worker_agent.cli",
        "worker_agent.agent.agent",
        "worker_agent.execution.runner",
        "worker_agent.job",
        "worker_agent.protocol.broker",
        "worker_agent.protocol.connection.connect",
    )
    if find_spec(module)
]


def test_imports_run_downwards_only():
    """`dashboard -> server -> worker_agent.protocol <- worker_agent`: the contracts stand in pyproject.toml."""
    done = subprocess.run(
        [BIN / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", LIGHT)
def test_an_agent_is_light_by_what_it_imports(spawn, module: str):
    code = (
        f"import sys, {module}\n"
        "heavy = {'textual', 'rich', 'mutitask_tui', 'Mutitask', 'numpy', 'valkey'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    program = spawn(["python", "-c", code])
    assert program.wait() == 0, program
    assert program.stdout.strip() == "[]"


def test_the_demo_job_stands_alone(spawn):
    """Agents load it by its path: a package of ours around it would drag the server in."""
    demo = ROOT / "mutitask_tui" / "demo"
    assert sorted(path.name for path in demo.glob("*.py")) == ["stdlib_report.py"]
    assert (ROOT / "examples" / "stdlib_report.py").resolve() == Path(demo / "stdlib_report.py")
