"""Imports run downwards, without circles, and an agent stays light."""

from __future__ import annotations

import subprocess
from copy import deepcopy
from pathlib import Path

import grimp
import pytest

from tests.support.programs import BIN, ROOT

LIGHT = [
    "worker_agent",
    "worker_agent.cli",
    "worker_agent.agent.agent",
    "worker_agent.execution.runner",
    "worker_agent.job",
    "worker_agent.protocol.broker",
    "worker_agent.protocol.connection.connect",
]


@pytest.fixture(scope="module")
def modules() -> grimp.ImportGraph:
    """Every import of our packages, also those for types alone."""
    return grimp.build_graph("mutitask_tui", "worker_agent", "Mutitask", cache_dir=None)


def circles(graph: grimp.ImportGraph) -> list[str]:
    """The imports that lead back to where they stand."""
    return [
        f"{importer} -> {imported}"
        for importer in sorted(graph.modules)
        for imported in sorted(graph.find_modules_directly_imported_by(importer))
        if graph.chain_exists(importer=imported, imported=importer)
    ]


def test_no_module_imports_itself_through_others(modules: grimp.ImportGraph):
    assert circles(modules) == []


def test_no_room_imports_itself_through_others(modules: grimp.ImportGraph):
    """A room is a package without further packages, such as `mutitask_tui.dashboard.widgets`."""
    packages = {module for module in modules.modules if modules.find_children(module)}
    rooms = {package for package in packages if not modules.find_children(package) & packages}
    assert {"mutitask_tui.cli", "worker_agent.agent", "worker_agent.protocol.connection"} <= rooms
    squashed = deepcopy(modules)
    for room in rooms:
        squashed.squash_module(room)
    assert circles(squashed) == []


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
