"""The dashboard and its terminal: resize, suspend, signals, a closed terminal, and several views at once."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pexpect
import pytest

from mutitask_tui.server.reader import Reader
from mutitask_tui.server.snapshot import Snapshot
from tests.cli.tools import write_job
from tests.support.waiting import wait_until

JOB = """
def tasks():
    yield from range(1000)

def task_function(task):
    return task
"""

LEAVES_ALTERNATE_SCREEN = "\x1b[?1049l"
ENTERS_ALTERNATE_SCREEN = "\x1b[?1049h"
SHOWS_CURSOR = "\x1b[?25h"
COLOUR = re.compile(r"\x1b\[(?:[\d;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[\d;]*)?m")

Terminal = pexpect.spawn
Opened = Callable[..., "Terminal[str]"]


class View:
    """A program on a terminal of its own, and all that it wrote there."""

    def __init__(self, child: Terminal[str]) -> None:
        self.child = child
        self._log = StringIO()
        child.logfile_read = self._log

    @property
    def pid(self) -> int:
        pid: int = self.child.pid
        return pid

    @property
    def written(self) -> str:
        """Everything that it wrote so far."""
        return self._log.getvalue()

    def read(self) -> None:
        """Take what is there, so that it never waits for us."""
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            self.child.expect("nothing is ever like this", timeout=0.05)

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Read on until it holds."""

        def look() -> Any:
            self.read()
            return holds()

        return wait_until(look, 20, what=what)

    def until_written(self, text: str, after: int = 0) -> int:
        """Read on until it has written this, after so many characters; how many those were."""
        self.until(lambda: text in self.written[after:], f"{text!r} is written")
        return len(self.written)

    def send(self, keys: str) -> None:
        self.child.send(keys)

    def ended(self) -> int:
        """Wait for its end; the exit status, or minus the signal's number."""
        self.child.expect(pexpect.EOF, timeout=20)
        self.child.close()
        status = self.child.exitstatus
        return -self.child.signalstatus if status is None else status


class Place:
    """A namespace that a server in a terminal feeds."""

    def __init__(self, url: str, name: str, job: Path, pty_run: Opened) -> None:
        self.url, self.name = url, name
        self._job, self._pty_run = job, pty_run
        self._reader = Reader(url, name)

    def serve(self, *options: str, env: dict[str, str] | None = None) -> View:
        """`mutitask run`, with its dashboard shown."""
        line = [
            "mutitask",
            "run",
            self._job,
            "--redis",
            self.url,
            "--name",
            self.name,
            "--devices",
            "3",
            *options,
        ]
        view = View(self._pty_run(line, env))
        view.until_written("Device2")
        return view

    def attach(self, *options: str, env: dict[str, str] | None = None, ready: str = "Device2") -> View:
        """`mutitask attach`."""
        line = ["mutitask", "attach", "--redis", self.url, "--name", self.name, *options]
        view = View(self._pty_run(line, env))
        if ready:
            view.until_written(ready)
        return view

    def snapshot(self) -> Snapshot:
        return self._reader.snapshot()

    def until(self, holds: Callable[[Snapshot], Any], *views: View) -> Snapshot:
        """Wait for a snapshot that holds, while the views are read."""

        def look() -> Snapshot | None:
            for view in views:
                view.read()
            now = self.snapshot()
            return now if holds(now) else None

        return wait_until(look, 20, what="a snapshot that holds")  # type: ignore[return-value]


@pytest.fixture
def place(redis_url: str, tmp_path: Path, pty_run: Opened) -> Iterator[Place]:
    """Nobody feeds it yet."""
    yield Place(redis_url, "terminal", write_job(tmp_path, JOB), pty_run)


def stopped(pid: int) -> bool:
    """Whether a process is stopped, as by Ctrl+Z."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"


def test_a_resize_redraws_for_the_new_size(place: Place) -> None:
    view = place.serve(env={"COLUMNS": "", "LINES": ""})  # They would be believed before the terminal.
    begun = view.until_written("▶ allotting")
    view.child.setwinsize(24, 80)
    narrow = view.until_written("▶ fed", begun)
    view.child.setwinsize(40, 120)
    view.until_written("▶ allotting", narrow)


def test_a_suspended_view_gives_the_terminal_back_and_comes_again(place: Place) -> None:
    server = place.serve()
    view = place.attach()
    before = len(view.written)
    view.send("\x1a")
    view.until(lambda: stopped(view.pid), "the view is stopped")
    asleep = view.until_written(LEAVES_ALTERNATE_SCREEN, before)
    assert SHOWS_CURSOR in view.written[before:asleep]
    os.kill(view.pid, signal.SIGCONT)
    view.until_written(ENTERS_ALTERNATE_SCREEN, asleep)
    view.until_written("Device2", view.written.index(ENTERS_ALTERNATE_SCREEN, asleep))
    view.send("P")
    place.until(lambda s: any("pause_all" in event.text for event in s.events), view, server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_view_and_restores_the_terminal(number: signal.Signals, place: Place) -> None:
    server = place.serve()
    view = place.attach()
    before = len(view.written)
    os.kill(view.pid, number)
    assert view.ended() == 0
    assert LEAVES_ALTERNATE_SCREEN in view.written[before:] and SHOWS_CURSOR in view.written[before:]
    assert "Traceback" not in view.written
    assert place.snapshot().server is not None
    server.read()
    assert server.child.isalive()


def test_sigterm_ends_a_server_in_order_and_restores_the_terminal(place: Place) -> None:
    server = place.serve()
    before = len(server.written)
    os.kill(server.pid, signal.SIGTERM)
    assert server.ended() == 0
    assert LEAVES_ALTERNATE_SCREEN in server.written[before:] and SHOWS_CURSOR in server.written[before:]
    assert "counters balanced" in server.written
    assert place.snapshot().server is None


def test_a_closed_terminal_leaves_the_server_feeding_and_attach_comes_back(place: Place) -> None:
    server = place.serve()
    with Path(os.devnull).open("rb") as nothing:  # The window is closed: the kernel sends SIGHUP.
        os.dup2(nothing.fileno(), server.child.child_fd)
    view = place.attach()
    before = len(view.written)
    view.send("m")
    view.until_written("a smaller one drops no tasks", before)
    view.send("77\r")
    now = place.until(lambda s: s.channels[0].waiting == 77, view)
    assert now.server is not None and now.server.pid == server.pid
    os.kill(server.pid, signal.SIGTERM)
    place.until(lambda s: s.server is None, view)
    view.until_written("no server")


def test_a_killed_view_takes_nothing_with_it(place: Place) -> None:
    server = place.serve()
    view, other = place.attach(), place.attach()
    os.kill(view.pid, signal.SIGKILL)
    assert view.ended() == -signal.SIGKILL
    other.send("P")
    place.until(lambda s: any("pause_all" in event.text for event in s.events), server, other)
    assert place.snapshot().server is not None


CRASHING = """
import sys
from mutitask_tui.dashboard.app import DashboardApp
from mutitask_tui.cli.main import main

def action_help(self):
    raise RuntimeError("the view has a bug")

DashboardApp.action_help = action_help
sys.argv[0] = "mutitask"
main()
"""


def test_a_crash_of_the_view_leaves_the_server_feeding(place: Place, tmp_path: Path, pty_run: Opened) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING)
    line = [
        "python",
        tmp_path / "crashing.py",
        "run",
        tmp_path / "job.py",
        "--redis",
        place.url,
        "--name",
        place.name,
    ]
    server = View(pty_run(line))
    server.until_written("TaskChannel0")
    before = len(server.written)
    server.send("?")
    server.until_written("open it again with `mutitask attach", before)
    tail = server.written[before:]
    assert LEAVES_ALTERNATE_SCREEN in tail and SHOWS_CURSOR in tail and "the view has a bug" in tail
    assert place.url.partition("@")[0].rpartition(":")[2] not in tail
    assert place.snapshot().server is not None
    view = place.attach(ready="TaskChannel0")
    view.send("P")
    place.until(lambda s: any("pause_all" in event.text for event in s.events), view, server)
    os.kill(server.pid, signal.SIGTERM)
    assert server.ended() == 0


@pytest.mark.parametrize("kind", ["server", "view"])
def test_ctrl_c_ends_nothing(kind: str, place: Place) -> None:
    server = place.serve()
    view = server if kind == "server" else place.attach()
    view.send("\x03\x03")
    view.send("P")
    place.until(lambda s: any("pause_all" in event.text for event in s.events), view, server)
    assert view.child.isalive() and server.child.isalive()


def test_detach_leaves_progress_lines_and_the_line_to_come_back_with(place: Place) -> None:
    server = place.serve()
    before = len(server.written)
    server.send("\x04")
    server.until_written("0 done, 0 failed, 50/50 waiting", before)
    tail = server.written[before:]
    assert LEAVES_ALTERNATE_SCREEN in tail and SHOWS_CURSOR in tail
    line = re.search(r"open it again with `(mutitask attach [^`]*)`", tail)
    assert line and f"--name {place.name}" in line[1]
    password = place.url.partition("@")[0].rpartition(":")[2]
    assert password not in server.written
    view = place.attach()
    view.send("S")
    place.until(lambda s: any("start_all" in event.text for event in s.events), view, server)
    server.send("\x03")  # Without a dashboard Ctrl+C stops the server, in order.
    assert server.ended() == 0


def test_two_views_see_what_the_other_did_and_who(place: Place) -> None:
    server = place.serve()
    one, two = place.attach(), place.attach()
    one.send("P")
    seen = place.until(lambda s: any("pause_all" in e.text for e in s.events), one, two, server)
    who = next(event.source for event in seen.events if "pause_all" in event.text)
    assert who.endswith(f":{one.pid}")
    two.until_written(f":{one.pid}")
    two.until_written("pause_all")
    two.send("S")
    seen = place.until(lambda s: any("start_all" in e.text for e in s.events), one, two, server)
    assert next(e.source for e in seen.events if "start_all" in e.text).endswith(f":{two.pid}")
    one.until_written(f":{two.pid}")


def test_a_read_only_view_refuses_commands_and_may_look(place: Place) -> None:
    server = place.serve("--autostart")
    view = place.attach("--read-only")
    view.send("P")
    view.until_written("read-only")
    view.send(":pause_all\r")
    view.send("D")
    view.send("F")
    view.until_written("Fail")
    view.send("\x7f")
    view.send("q")
    view.until_written("Detach")
    server.read()
    now = place.snapshot()
    assert {device.desired for device in now.devices} == {"running"}
    assert not any("pause_all" in event.text for event in now.events)


def test_no_color_means_no_colour(place: Place) -> None:
    server = place.serve(env={"NO_COLOR": "1"})
    view = place.attach(env={"NO_COLOR": "1"})
    for key, shown in (
        ("?", "pause_all"),
        ("?", ""),
        ("F", "Fail"),
        ("\x7f", ""),
        ("H", "1 minute"),
        ("q", "Cancel"),
    ):
        before = len(view.written)
        view.send(key)
        if shown:
            view.until_written(shown, before)
    server.read()
    assert not COLOUR.search(view.written), COLOUR.search(view.written)
    assert not COLOUR.search(server.written)
    assert COLOUR.search(_coloured(place))


def _coloured(place: Place) -> str:
    view = place.attach()
    return view.written


def test_a_choice_outlives_the_view(place: Place, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("# mine\ntheme = 'nord'\n\n[keys]\npause_all = 'ctrl+p'\n")
    place.serve()
    view = place.attach(env={"MUTITASK_CONFIG_FILE": str(config)})
    view.send("g")
    view.until(lambda: "density" in config.read_text(), "the density is written")
    view.send("\x10")
    place.until(lambda s: any("pause_all" in event.text for event in s.events), view)
    view.send("\x04")
    assert view.ended() == 0
    assert config.read_text() == (
        "# mine\ntheme = 'nord'\n\n[keys]\npause_all = 'ctrl+p'\n\n[layout]\ndensity = \"dense\"\n"
    )


@pytest.mark.parametrize("command", ["attach", "run"])
def test_a_wrong_config_is_said_before_anything_begins(
    command: str, place: Place, tmp_path: Path, pty_run: Opened
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("theme = 'drakula'\n")
    env = {"MUTITASK_CONFIG_FILE": str(config)}
    if command == "attach":
        place.serve()
        view = place.attach(env=env, ready="")
    else:
        view = View(
            pty_run(["mutitask", "run", tmp_path / "job.py", "--redis", place.url, "--name", "new"], env)
        )
    assert view.ended() == 2
    said = view.written.replace("\r\n", "")
    assert "line 1: theme is 'drakula' (did you mean dracula?)" in said
    assert ENTERS_ALTERNATE_SCREEN not in said and "Traceback" not in said
