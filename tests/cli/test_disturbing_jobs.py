"""A job may change its process during its import: MutiTask's output and work continue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from mutitask_tui.server.reader import Reader
from tests.cli.tools import mutitask, write_job
from tests.support.programs import Program
from tests.support.waiting import wait_until

Spawn = Callable[..., Program]

BODY = """
def tasks():
    yield from range(40)
def task_function(task):
    return [task]
"""

DISTURBING = {
    "none": "import sys; sys.stdout = sys.stderr = sys.stdin = None",
    "replaced": "import io, sys; sys.stdout = sys.stderr = io.StringIO()",
    "closed": "import sys; sys.stdout.close(); sys.stderr.close(); sys.stdin.close()",
    "descriptors": "import os\nfor n in (0, 1, 2): os.close(n)",
    "pipes": "from signal import *\nsignal(SIGPIPE, SIG_DFL); signal(SIGCHLD, SIG_IGN)",
    "disabled": "import logging; logging.disable(logging.CRITICAL)",
    "configured": "import logging.config; logging.config.dictConfig({'version': 1, 'root': {'level': 'ERROR'}})",
    "basic": "import logging; logging.basicConfig(filename='/dev/null', level=logging.ERROR, force=True)",
    "elsewhere": "import os; os.chdir('/'); os.environ.clear()",
}


@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize("how", DISTURBING)
def test_server_and_agents_continue_and_report(
    how: str, kind: str, redis_url: str, state_dir: Path, spawn: Spawn, tmp_path: Path
) -> None:
    write_job(tmp_path, f"{DISTURBING[how]}\n{BODY}")
    run = spawn(
        ["mutitask", "run", "job.py", "--redis", redis_url, "--name", how, "--headless", "--autostart",
         "--until-done", "--local-agents", "1", "--kind", kind],
        cwd=tmp_path,
    )  # fmt: skip
    assert run.wait() == 0, run
    assert "40 tasks allotted: 40 done, 0 failed; counters balanced" in run.stderr
    assert f"namespace {how!r} on" in run.stderr
    log = (state_dir / how / "agents" / "device0.log").read_text()
    assert f"Device0 serves TaskChannel0 of {how!r}" in log and "stopped; 0 tasks handed back" in log


@pytest.mark.parametrize("how", ["none", "closed", "descriptors"])
def test_the_dashboard_opens_although_the_job_changed_the_streams(
    how: str, redis_url: str, state_dir: Path, tmp_path: Path, pty_run: Callable[..., Any]
) -> None:
    job = write_job(tmp_path, f"{DISTURBING[how]}\n{BODY}")
    name = f"seen-{how}"
    child = pty_run(
        ["mutitask", "run", job, "--redis", redis_url, "--name", name, "--local-agents", "1", "--autostart"]
    )
    child.expect("finished", timeout=30)
    mutitask("ctl", "exit", "--yes", "--redis", redis_url, "--name", name)
    child.expect(pexpect.EOF, timeout=30)
    child.close()
    assert child.exitstatus == 0
    assert Reader(redis_url, name).snapshot().channels[0].done == 40


def test_failed_tasks_go_to_stdout(redis_url: str, state_dir: Path, spawn: Spawn, tmp_path: Path) -> None:
    job = write_job(tmp_path, BODY.replace("return [task]", "raise ValueError(task)"))
    run = spawn(
        ["mutitask", "run", job, "--redis", redis_url, "--name", "out", "--headless", "--autostart",
         "--until-done", "--local-agents", "1", "--retries", "0"],
    )  # fmt: skip
    assert run.wait() == 7, run
    for words in (["-"], ["0", "-"]):
        result = mutitask("ctl", "export_fail_tasks", *words, "--redis", redis_url, "--name", "out")
        assert result.status == 0 and len(result.lines) == 40
    result = mutitask("ctl", "export_fail_tasks", "3", "-", "--redis", redis_url, "--name", "out")
    assert result.status == 2 and "there is no channel 3" in result.stderr
    assert not list(tmp_path.glob("fail-tasks*"))


@pytest.mark.parametrize("how", ["none", "replaced", "closed"])
def test_a_person_is_asked_although_the_job_changed_the_streams(
    how: str, redis_url: str, state_dir: Path, tmp_path: Path, pty_run: Callable[..., Any], spawn: Spawn
) -> None:
    job = write_job(tmp_path, f"{DISTURBING[how]}\n{BODY}")
    line = ["mutitask", "run", job, "--redis", redis_url, "--name", f"asked-{how}"]
    first = spawn([*line, "--headless"])
    wait_until(lambda: "40/50 waiting" in first.stderr, 20, what=repr(first))
    first.terminate()
    assert first.wait() == 0, first
    child = pty_run(line)
    child.expect("resume continues this work, fresh deletes it", timeout=30)
    child.sendline("cancel")
    child.expect("nothing was started and nothing was deleted", timeout=30)
    child.expect(pexpect.EOF, timeout=30)
    child.close()
    assert child.exitstatus == 2
