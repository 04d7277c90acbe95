"""`mutitask run` and `worker-agent` without a Redis address: the embedded Valkey is found, kept and ended."""

from __future__ import annotations

import fcntl
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from tests.cli.tools import mutitask, write_job
from tests.support.programs import Program
from tests.support.waiting import wait_until

Spawn = Callable[..., Program]

JOB = """
def tasks():
    yield from range(60)
def task_function(task):
    return [task]
"""


def runs(state_dir: Path, name: str = "default") -> bool:
    """Return whether the Valkey of a namespace runs. It holds the lock on its data while it runs."""
    with (state_dir / name / "data.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_the_embedded_valkey_is_kept_and_resumed(state_dir: Path, spawn: Spawn, tmp_path: Path) -> None:
    line = ["mutitask", "run", write_job(tmp_path, JOB), "--headless", "--capacity", "10"]
    first = spawn(line)
    wait_until(lambda: "10/10 waiting" in first.stderr, 20, what=repr(first))
    first.terminate()
    assert first.wait() == 0, first
    assert not runs(state_dir)  # It ends with its server.
    assert mutitask("status", "--json").json["channels"][0]["waiting"] == 10
    assert not runs(state_dir)

    refused = spawn(line)
    assert refused.wait() == 5, refused
    assert not runs(state_dir)
    second = spawn([*line, "--resume", "--autostart", "--until-done", "--local-agents", "1"])
    assert second.wait() == 0, second

    assert not runs(state_dir)
    lines = mutitask("results", "export", "--drain").lines
    assert sorted(line["number"] for line in lines) == list(range(60))
    secret = (state_dir / "default" / "password").read_text().strip()
    assert not any(secret in program.stderr for program in (first, refused, second))


def test_the_embedded_valkey_keeps_running_for_agents_that_the_server_did_not_start(
    state_dir: Path, spawn: Spawn, tmp_path: Path
) -> None:
    job = write_job(tmp_path, JOB)
    line = ["mutitask", "run", job, "--headless", "--capacity", "10", "--devices", "1"]
    server = spawn(line)
    wait_until(lambda: "10/10 waiting" in server.stderr, 20, what=repr(server))
    agent = spawn(["worker-agent", job])
    wait_until(lambda: "Device0 serves" in agent.stderr, 20, what=repr(agent))
    server.terminate()
    assert server.wait() == 0, server
    assert "the embedded Valkey keeps running for Device0; `mutitask ctl exit` stops it" in server.stderr
    assert runs(state_dir)
    result = mutitask("ctl", "exit", "--yes", "--json").json
    assert (
        "there is no server to close; the embedded Valkey was stopped, and its data is kept" in result["text"]
    )
    assert agent.wait() == 0, agent
    assert not runs(state_dir)
    assert mutitask("status", "--json").json["channels"][0]["waiting"] == 10


def test_exit_ends_the_embedded_valkey_and_keeps_waiting_tasks(
    state_dir: Path, spawn: Spawn, tmp_path: Path
) -> None:
    line = [
        "mutitask",
        "run",
        write_job(tmp_path, JOB),
        "--headless",
        "--capacity",
        "10",
        "--local-agents",
        "1",
    ]
    server = spawn(line)
    wait_until(lambda: "10/10 waiting" in server.stderr, 20, what=repr(server))
    result = mutitask("ctl", "exit", "--yes", "--json").json
    assert result["ok"] is True and result["server"] is True
    assert server.wait() == 0, server
    assert not (state_dir / "default" / "server.json").exists()

    again = spawn([*line, "--resume", "--autostart", "--until-done"])
    assert again.wait() == 0, again
    assert mutitask("status", "--json").json["channels"][0]["done"] == 60


def test_agents_may_start_before_their_server(state_dir: Path, spawn: Spawn, tmp_path: Path) -> None:
    """Also in a second namespace, while the Valkey of the first has the default port and refuses others."""
    job = write_job(tmp_path, JOB)
    early = spawn(["worker-agent", job, "--name", "first"])
    wait_until(lambda: "waiting for a server" in early.stderr, 20, what=repr(early))
    first = spawn(["mutitask", "run", job, "--name", "first", "--headless", "--autostart", "--until-done"])
    assert first.wait() == 0, first
    early.terminate()
    assert early.wait() == 0, early
    assert "Device0 serves TaskChannel0 of 'first'" in early.stderr

    other = spawn(["worker-agent", job, "--name", "second"])
    wait_until(lambda: "waiting for a server" in other.stderr or not other.running, 20, what=repr(other))
    second = spawn(["mutitask", "run", job, "--name", "second", "--headless", "--autostart", "--until-done"])
    assert second.wait() == 0, (second, other)
    other.terminate()
    assert other.wait() == 0, other


def test_the_printed_line_starts_an_agent_on_another_machine(
    state_dir: Path, spawn: Spawn, tmp_path: Path
) -> None:
    """The line works as it was printed, with another state directory."""
    job = write_job(tmp_path, JOB)
    server = spawn(
        ["mutitask", "run", "job.py", "--headless", "--listen", "127.0.0.2", "--until-done", "--autostart"],
        cwd=tmp_path,
    )
    wait_until(lambda: "on other machines: " in server.stderr, 20, what=repr(server))
    found = re.search(r"on other machines: (worker-agent .*)", server.stderr)
    assert found
    words = shlex.split(found[1])
    assert words[:2] == ["worker-agent", "job.py"]
    assert re.fullmatch(r"redis://mutitask:\S+@127\.0\.0\.2:\d+/0", words[words.index("--redis") + 1])

    elsewhere = tmp_path / "elsewhere"
    write_job(elsewhere, job.read_text())
    agent = spawn(words, env={"MUTITASK_STATE_DIR": tmp_path / "another-state"}, cwd=elsewhere)

    assert server.wait() == 0, (server, agent)
    assert "60 tasks allotted: 60 done, 0 failed" in server.stderr
    agent.terminate()
    assert agent.wait() == 0, agent
    assert words[words.index("--redis") + 1] not in agent.stderr
