"""The dashboard in a real terminal: resize, suspend, signals, a closed terminal, and several views at once."""

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
    """A program on a terminal of its own, and everything that it wrote there."""

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
        """Everything that the program has written."""
        return self._log.getvalue()

    def read(self) -> None:
        """Read the present output, so that the program never waits for its terminal."""
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            self.child.expect("text that is never written", timeout=0.05)

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Read the output until the condition holds."""

        def check() -> Any:
            self.read()
            return holds()

        return wait_until(check, 20, what=what)

    def until_written(self, text: str, after: int = 0) -> int:
        """Read until `text` appears behind the first `after` characters. Return the length of the output so far."""
        self.until(lambda: text in self.written[after:], f"{text!r} is written")
        return len(self.written)

    def send(self, keys: str) -> None:
        self.child.send(keys)

    def ended(self) -> int:
        """Wait for the end. Return the exit status, or the negative number of the signal."""
        self.child.expect(pexpect.EOF, timeout=20)
        self.child.close()
        status = self.child.exitstatus
        return -self.child.signalstatus if status is None else status


class Namespace:
    """A namespace whose server and views run in terminals."""

    def __init__(self, url: str, name: str, job: Path, pty_run: Opened) -> None:
        self.url, self.name = url, name
        self._job, self._pty_run = job, pty_run
        self._reader = Reader(url, name)

    def serve(self, *options: str, env: dict[str, str] | None = None) -> View:
        """Start `mutitask run`, and wait for its dashboard."""
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
        """Start `mutitask attach`, and wait for its dashboard."""
        line = ["mutitask", "attach", "--redis", self.url, "--name", self.name, *options]
        view = View(self._pty_run(line, env))
        if ready:
            view.until_written(ready)
        return view

    def snapshot(self) -> Snapshot:
        return self._reader.snapshot()

    def until(self, holds: Callable[[Snapshot], Any], *views: View) -> Snapshot:
        """Read the views until a snapshot fulfils the condition. Return that snapshot."""

        def check() -> Snapshot | None:
            for view in views:
                view.read()
            now = self.snapshot()
            return now if holds(now) else None

        return wait_until(check, 20, what="a snapshot that holds")  # type: ignore[return-value]


@pytest.fixture
def namespace(redis_url: str, tmp_path: Path, pty_run: Opened) -> Iterator[Namespace]:
    """A namespace without a server."""
    yield Namespace(redis_url, "terminal", write_job(tmp_path, JOB), pty_run)


def stopped(pid: int) -> bool:
    """Return whether a process is stopped, as by Ctrl+Z."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"


def test_a_resize_redraws_for_the_new_size(namespace: Namespace) -> None:
    view = namespace.serve(
        env={"COLUMNS": "", "LINES": ""}
    )  # The program would prefer them to the terminal's size.
    written = view.until_written("▶ allotting")
    view.child.setwinsize(24, 80)
    narrow = view.until_written("▶ fed", written)
    view.child.setwinsize(40, 120)
    view.until_written("▶ allotting", narrow)


def test_a_suspended_view_restores_the_terminal_and_can_be_resumed(namespace: Namespace) -> None:
    server = namespace.serve()
    view = namespace.attach()
    before = len(view.written)
    view.send("\x1a")
    view.until(lambda: stopped(view.pid), "the view is stopped")
    suspended = view.until_written(LEAVES_ALTERNATE_SCREEN, before)
    assert SHOWS_CURSOR in view.written[before:suspended]
    os.kill(view.pid, signal.SIGCONT)
    view.until_written(ENTERS_ALTERNATE_SCREEN, suspended)
    view.until_written("Device2", view.written.index(ENTERS_ALTERNATE_SCREEN, suspended))
    view.send("P")
    namespace.until(lambda s: any("pause_all" in event.text for event in s.events), view, server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_view_and_restores_the_terminal(number: signal.Signals, namespace: Namespace) -> None:
    server = namespace.serve()
    view = namespace.attach()
    before = len(view.written)
    os.kill(view.pid, number)
    assert view.ended() == 0
    assert LEAVES_ALTERNATE_SCREEN in view.written[before:] and SHOWS_CURSOR in view.written[before:]
    assert "Traceback" not in view.written
    assert namespace.snapshot().server is not None
    server.read()
    assert server.child.isalive()


def test_sigterm_ends_a_server_in_order_and_restores_the_terminal(namespace: Namespace) -> None:
    server = namespace.serve()
    before = len(server.written)
    os.kill(server.pid, signal.SIGTERM)
    assert server.ended() == 0
    assert LEAVES_ALTERNATE_SCREEN in server.written[before:] and SHOWS_CURSOR in server.written[before:]
    assert "counters balanced" in server.written
    assert namespace.snapshot().server is None


def test_a_server_continues_without_its_terminal_and_attach_shows_it_again(namespace: Namespace) -> None:
    server = namespace.serve()
    with Path(os.devnull).open("rb") as null:  # Closes the terminal: the kernel sends SIGHUP.
        os.dup2(null.fileno(), server.child.child_fd)
    view = namespace.attach()
    before = len(view.written)
    view.send("m")
    view.until_written("a smaller one drops no tasks", before)
    view.send("77\r")
    now = namespace.until(lambda s: s.channels[0].waiting == 77, view)
    assert now.server is not None and now.server.pid == server.pid
    os.kill(server.pid, signal.SIGTERM)
    namespace.until(lambda s: s.server is None, view)
    view.until_written("no server")


def test_a_killed_view_harms_neither_the_server_nor_other_views(namespace: Namespace) -> None:
    server = namespace.serve()
    view, other = namespace.attach(), namespace.attach()
    os.kill(view.pid, signal.SIGKILL)
    assert view.ended() == -signal.SIGKILL
    other.send("P")
    namespace.until(lambda s: any("pause_all" in event.text for event in s.events), server, other)
    assert namespace.snapshot().server is not None


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


def test_the_server_continues_after_a_crash_of_its_dashboard(
    namespace: Namespace, tmp_path: Path, pty_run: Opened
) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING)
    line = [
        "python",
        tmp_path / "crashing.py",
        "run",
        tmp_path / "job.py",
        "--redis",
        namespace.url,
        "--name",
        namespace.name,
    ]
    server = View(pty_run(line))
    server.until_written("TaskChannel0")
    before = len(server.written)
    server.send("?")
    server.until_written("open it again with `mutitask attach", before)
    tail = server.written[before:]
    assert LEAVES_ALTERNATE_SCREEN in tail and SHOWS_CURSOR in tail and "the view has a bug" in tail
    assert namespace.url.partition("@")[0].rpartition(":")[2] not in tail
    assert namespace.snapshot().server is not None
    view = namespace.attach(ready="TaskChannel0")
    view.send("P")
    namespace.until(lambda s: any("pause_all" in event.text for event in s.events), view, server)
    os.kill(server.pid, signal.SIGTERM)
    assert server.ended() == 0


@pytest.mark.parametrize("kind", ["server", "view"])
def test_ctrl_c_ends_nothing(kind: str, namespace: Namespace) -> None:
    server = namespace.serve()
    view = server if kind == "server" else namespace.attach()
    view.send("\x03\x03")
    view.send("P")
    namespace.until(lambda s: any("pause_all" in event.text for event in s.events), view, server)
    assert view.child.isalive() and server.child.isalive()


def test_detach_leaves_progress_lines_and_prints_the_attach_line(namespace: Namespace) -> None:
    server = namespace.serve()
    before = len(server.written)
    server.send("\x04")
    server.until_written("0 done, 0 failed, 50/50 waiting", before)
    tail = server.written[before:]
    assert LEAVES_ALTERNATE_SCREEN in tail and SHOWS_CURSOR in tail
    line = re.search(r"open it again with `(mutitask attach [^`]*)`", tail)
    assert line and f"--name {namespace.name}" in line[1]
    password = namespace.url.partition("@")[0].rpartition(":")[2]
    assert password not in server.written
    view = namespace.attach()
    view.send("S")
    namespace.until(lambda s: any("start_all" in event.text for event in s.events), view, server)
    server.send("\x03")  # Without a dashboard Ctrl+C stops the server, in order.
    assert server.ended() == 0


def test_two_views_show_who_ran_which_command(namespace: Namespace) -> None:
    server = namespace.serve()
    one, two = namespace.attach(), namespace.attach()
    one.send("P")
    seen = namespace.until(lambda s: any("pause_all" in e.text for e in s.events), one, two, server)
    who = next(event.source for event in seen.events if "pause_all" in event.text)
    assert who.endswith(f":{one.pid}")
    two.until_written(f":{one.pid}")
    two.until_written("pause_all")
    two.send("S")
    seen = namespace.until(lambda s: any("start_all" in e.text for e in s.events), one, two, server)
    assert next(e.source for e in seen.events if "start_all" in e.text).endswith(f":{two.pid}")
    one.until_written(f":{two.pid}")


def test_a_read_only_view_shows_everything_and_refuses_commands(namespace: Namespace) -> None:
    server = namespace.serve("--autostart")
    view = namespace.attach("--read-only")
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
    now = namespace.snapshot()
    assert {device.desired for device in now.devices} == {"running"}
    assert not any("pause_all" in event.text for event in now.events)


def test_no_color_means_no_colour(namespace: Namespace) -> None:
    server = namespace.serve(env={"NO_COLOR": "1"})
    view = namespace.attach(env={"NO_COLOR": "1"})
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
    assert COLOUR.search(_coloured(namespace))


def _coloured(namespace: Namespace) -> str:
    view = namespace.attach()
    return view.written


def test_a_changed_setting_is_saved_for_the_next_view(namespace: Namespace, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("# mine\ntheme = 'nord'\n\n[keys]\npause_all = 'ctrl+p'\n")
    namespace.serve()
    view = namespace.attach(env={"MUTITASK_CONFIG_FILE": str(config)})
    view.send("g")
    view.until(lambda: "density" in config.read_text(), "the density is written")
    view.send("\x10")
    namespace.until(lambda s: any("pause_all" in event.text for event in s.events), view)
    view.send("\x04")
    assert view.ended() == 0
    assert config.read_text() == (
        "# mine\ntheme = 'nord'\n\n[keys]\npause_all = 'ctrl+p'\n\n[layout]\ndensity = \"dense\"\n"
    )


@pytest.mark.parametrize("command", ["attach", "run"])
def test_a_wrong_config_file_is_reported_before_the_dashboard_opens(
    command: str, namespace: Namespace, tmp_path: Path, pty_run: Opened
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("theme = 'drakula'\n")
    env = {"MUTITASK_CONFIG_FILE": str(config)}
    if command == "attach":
        namespace.serve()
        view = namespace.attach(env=env, ready="")
    else:
        view = View(
            pty_run(["mutitask", "run", tmp_path / "job.py", "--redis", namespace.url, "--name", "new"], env)
        )
    assert view.ended() == 2
    output = view.written.replace("\r\n", "")
    assert "line 1: theme is 'drakula' (did you mean dracula?)" in output
    assert ENTERS_ALTERNATE_SCREEN not in output and "Traceback" not in output
