"""A real terminal: a resize, a suspend, a lost connection, and the screen is right again."""

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
    """The dashboard in a pseudo-terminal of 80x24, under a shell as a person has it."""
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


def test_a_suspend_gives_the_terminal_back_and_fg_draws_the_screen_again(
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


def test_where_the_server_runs_a_suspend_asks_first(terminal: pexpect.spawn[str]) -> None:
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


def test_a_resize_draws_for_the_new_size(terminal: pexpect.spawn[str]) -> None:
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
