"""`docs/commands.md` and `docs/errors.md` match the code.

`tests/test_bad_input.py` checks that errors.md contains each message for bad input.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.errors_page import messages
from tests.support.programs import ROOT

DOCS = ROOT / "docs"

INTERNAL = {
    # Internal errors: they are caught, and reported in other words or not at all.
    "actor {} was fenced", "not registered", "the count is {} now", "an agent is on Device{}",
    "another agent took Device{}", "{} would be {}", "open() comes before start()", "{}: {}",
    "not an array of strings", "the agent stops", "only child processes use the job's functions",
    # Errors of unpacking: they become the error of a failed task at the stage `decode`.
    "unknown extension type {}", "too deeply nested", "a numpy array of Python objects", "no valid header",
    "a numpy array, and numpy is not installed here", "too large for how deeply it is nested",
    "an array of invalid text", "no valid options", "no valid place of its body",
    "its body is missing in Redis: it was stored apart from the task and is gone; give the task a new body "
    "(edit), or delete it",
}  # fmt: skip


def message_text(node: ast.expr) -> str | None:
    """Return the text of a message with {} for each filled-in part, or None if the node is not a text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
    return None


def raised() -> dict[str, str]:
    """Return every message that the code of server and agents raises, with its file and line."""
    found: dict[str, str] = {}
    for path in sorted([*(ROOT / "mutitask_tui").rglob("*.py"), *(ROOT / "worker_agent").rglob("*.py")]):
        if "dashboard" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            call = (
                node.exc
                if isinstance(node, ast.Raise)
                else node.value
                if isinstance(node, ast.Return)
                else None
            )
            if not isinstance(call, ast.Call) or not call.args or not isinstance(call.func, ast.Name):
                continue
            if isinstance(node, ast.Return) and call.func.id not in MADE_ELSEWHERE:
                continue
            text = message_text(call.args[0])
            if text is not None and text not in INTERNAL:
                found[text] = f"{path.relative_to(ROOT)}:{node.lineno}"
    return found


MADE_ELSEWHERE = {"RedisRefused", "RedisUnavailable", "NoRights", "NoNamespace", "CommandError"}


def pattern(text: str) -> str:
    return ".*?".join(re.escape(part) for part in text.split("{}"))


@pytest.mark.parametrize(("text", "where"), raised().items(), ids=lambda value: value[:60])
def test_each_message_that_is_raised_is_in_errors_md(text: str, where: str) -> None:
    assert any(re.search(pattern(text), message) for message in messages()), f"{where}: {text}"


def test_errors_md_contains_no_message_that_the_code_does_not_raise() -> None:
    sources = [*(ROOT / "mutitask_tui").rglob("*.py"), *(ROOT / "worker_agent").rglob("*.py")]
    texts = {
        text
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant | ast.JoinedStr) and (text := message_text(node))
    }
    templates = [(re.compile(pattern(text)), len(text.replace("{}", ""))) for text in texts]
    templates += [
        (re.compile("^No such option "), 99),
        (re.compile("^Invalid value for "), 99),
    ]  # click's own words.
    # A pattern counts only if it is a large part of the message. A single word proves nothing.
    stale = [
        message
        for message in messages()
        if not any(
            length >= max(7, 0.2 * len(message)) and text.search(message) for text, length in templates
        )
    ]
    assert stale == []


def test_commands_md_matches_the_registry() -> None:
    made = subprocess.run(
        [sys.executable, "-c", "import runpy; print(runpy.run_path('docs/make_commands.py')['page'](), end='')"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert made.stdout == (DOCS / "commands.md").read_text(), "run `python docs/make_commands.py`"


def test_links_lead_somewhere() -> None:
    for page in ("errors.md", "commands.md"):
        for link in re.findall(r"\]\(([^)#:]+)", (DOCS / page).read_text()):
            assert (DOCS / Path(link)).exists(), f"{page}: {link}"
