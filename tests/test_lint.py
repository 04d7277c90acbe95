"""`make lint` and pre-commit run the same checks."""

from __future__ import annotations

import re
import subprocess

from tests.support.programs import ROOT


def test_pre_commit_runs_what_make_lint_runs():
    recipe = subprocess.run(
        ["make", "--dry-run", "--always-make", "lint"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    commands = set(
        re.findall(r"^\.venv/bin/(ruff check|ruff format --check|mypy|lint-imports)\b", recipe, re.M)
    )
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    entries = re.findall(r"entry: \.venv/bin/(.+)", hooks)
    assert {entry.removesuffix(" --force-exclude") for entry in entries} == commands
    assert len(commands) == 4
