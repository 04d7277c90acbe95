"""In a real terminal the screen is correct again after a resize, a suspend and a lost connection."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
from mutitask_tui.dashboard.app import DashboardApp
from tests.dashboard.fake_backend import FakeBackend, fail

backend = FakeBackend(fails=[fail(n) for n in range(3)])
backend.owns_server = "owner" in sys.argv
print("left:", DashboardApp(backend, interval=0.2).run())
"""


@pytest.fixture
def terminal() -> Iterator[pexpect.spawn[str]]:
    """A shell in a pseudo-terminal of 80x24."""
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "PYTHONPATH": str(ROOT),
        "TZ": "UTC",
        "PS1": "shell> ",
    }
    child = pexpect.spawn(
        "/bin/bash", ["--norc", "--noprofile", "-i"], dimensions=(24, 80), env=environment,
        encoding="utf-8", timeout=30, cwd=str(ROOT),
    )  # fmt: skip
    child.expect("shell> ")
    yield child
    child.close(force=True)


def start(child: pexpect.spawn[str], *words: str) -> None:
    """Type the command and wait for the first whole screen."""
    child.sendline(f"{sys.executable} -c '{PROGRAM}' {' '.join(words)}")
    child.expect("TaskChannel1")
    child.expect("Palette")


def test_suspend_returns_the_terminal_and_fg_redraws_the_screen(
    terminal: pexpect.spawn[str],
) -> None:
    start(terminal)
    terminal.send("\x1a")
    terminal.expect("Stopped")
    terminal.expect("shell> ")
    terminal.sendline("fg")
    terminal.expect("TaskChannel1")
    terminal.expect("Palette")
    terminal.send("\x04")
    terminal.expect("left: detach")


def test_suspend_asks_first_if_the_server_runs_in_the_terminal(terminal: pexpect.spawn[str]) -> None:
    start(terminal, "owner")
    terminal.send("\x1a")
    terminal.expect("The server runs in this terminal")
    terminal.send("\r")
    time.sleep(0.5)
    terminal.send("\x1a")
    terminal.expect("The server runs in this terminal")
    terminal.send("\x1b[C\r")
    terminal.expect("Stopped")
    terminal.expect("shell> ")
    terminal.sendline("fg")
    terminal.expect("TaskChannel1")
    terminal.send("\x04")
    terminal.expect("left: detach")


def test_a_resize_redraws_for_the_new_size(terminal: pexpect.spawn[str]) -> None:
    start(terminal)
    terminal.setwinsize(40, 120)
    terminal.kill(signal.SIGWINCH)
    terminal.expect("allotting")
    terminal.expect("balanced")
    terminal.setwinsize(24, 80)
    terminal.kill(signal.SIGWINCH)
    terminal.expect("Palette")
    terminal.send("\x04")
    terminal.expect("left: detach")
