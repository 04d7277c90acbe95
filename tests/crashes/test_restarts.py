"""Agents restart with the job as it is now: `restart_one`, `restart_all`, `--reload`; and what dies meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.tools import no_agents_left as no_agents_left
from tests.crashes.fleet import Fleet, wait_for_text, write_job
from tests.support.programs import Program
from tests.support.waiting import wait_until

COUNT = 3_000
JOB = """
import time
from pathlib import Path

VERSION = 1

def tasks():
    for number in range(3_000):
        while number >= 1_000 and not Path(FOLDER, "release").exists():
            time.sleep(0.005)
        yield number

def task_function(task):
    time.sleep(0.001)
    return VERSION
"""
HELD = """
import os, time
from pathlib import Path

def tasks():
    yield "held"
    yield from range(20)

def task_function(task):
    if task == "held":
        Path(FOLDER, "began-%d" % len(list(Path(FOLDER).glob("began-*")))).touch()
        while not Path(FOLDER, "release").exists():
            time.sleep(0.01)
    return task
"""


def change_version(fleet: Fleet) -> None:
    fleet.job_path.write_text(fleet.job_path.read_text().replace("VERSION = 1", "VERSION = 2"))


def job_of(fleet: Fleet, device: int) -> tuple[str, bool]:
    found = next(d for d in fleet.snapshot().devices if d.id == device)
    return found.job, found.job_changed


@pytest.mark.parametrize("kind", ["thread", "process", "asyncio", "asyncio --processes 2 --concurrency 4"])
def test_a_restarted_fleet_runs_the_new_job_and_no_task_is_lost_or_crashed(fleet: Fleet, kind: str) -> None:
    fleet.job(JOB)
    fleet.serve("--devices", "3")
    agents = [fleet.agent("--device", device, "--kind", *kind.split()) for device in ("0", "auto", "2")]
    fleet.wait_for(lambda c: c.done >= 200)
    wait_until(lambda: all(device.pid for device in fleet.snapshot().devices), what="all have reported")
    pids = {device.id: device.pid for device in fleet.snapshot().devices}
    actors = {device.id: device.actor for device in fleet.snapshot().devices}
    old, _ = job_of(fleet, 0)
    change_version(fleet)
    wait_until(lambda: all(job_of(fleet, n) == (old, True) for n in range(3)), what="they notice the change")

    assert fleet.ctl("restart_all") == "asked 3 agents to restart\n"

    def restarted() -> bool:
        devices = fleet.snapshot().devices
        return all(d.state == "running" and d.actor != actors[d.id] for d in devices)

    wait_until(restarted, 40, what="all agents have a new actor")
    (fleet.folder / "release").touch()
    fleet.wait_until_over(COUNT)
    assert {device.id: device.pid for device in fleet.snapshot().devices} == pids, "each is the same process"
    new = {job_of(fleet, n) for n in range(3)}
    assert len(new) == 1 and old not in {version for version, _ in new}
    results = fleet.results()
    assert {(r.attempt, r.crashes) for r in results} == {(0, 0)}
    assert {r.value for r in results if r.number >= 1_500} == {2}
    assert all(agent.running for agent in agents), agents


def drain_for_restart(fleet: Fleet, lease: str = "600") -> Program:
    """Ask an agent to restart while it runs the held task. Return it."""
    fleet.job(HELD)
    fleet.serve("--lease", lease)
    agent = fleet.agent("--device", "0")
    wait_until(lambda: (fleet.folder / "began-0").exists(), what="the held task runs")
    fleet.ctl("restart_one", "0")
    return agent


def test_an_agent_drains_before_it_restarts_and_a_second_restart_does_not_wait(fleet: Fleet) -> None:
    agent = drain_for_restart(fleet)
    wait_for_text(agent, "restarting: waiting for 1 running tasks, without a limit")
    assert agent.stderr.count(" serves ") == 1

    said = fleet.ctl("restart_one", "0")

    assert said == "asked 1 agent to restart; 1 agent for the second time: running tasks are handed back\n"
    wait_for_text(agent, " serves ", times=2)
    wait_until(lambda: (fleet.folder / "began-1").exists(), what="the held task runs again")
    (fleet.folder / "release").touch()
    results = fleet.expect_each_once(["held", *range(20)])
    assert {(r.attempt, r.crashes) for r in results} == {(0, 0)}


def test_the_drain_timeout_ends_the_wait_before_a_restart(fleet: Fleet) -> None:
    fleet.job(HELD)
    fleet.serve("--lease", "600")
    agent = fleet.agent("--device", "0", "--drain-timeout", "0.2")
    wait_until(lambda: (fleet.folder / "began-0").exists(), what="the held task runs")

    fleet.ctl("restart_one", "0")

    wait_for_text(agent, " serves ", times=2)
    assert "tasks that still run after 0.2 s (--drain-timeout) are handed back" in agent.stderr
    (fleet.folder / "release").touch()
    fleet.expect_each_once(["held", *range(20)])


@pytest.mark.parametrize("stop", ["signal", "command"])
def test_a_stop_wins_over_a_restart(fleet: Fleet, stop: str) -> None:
    agent = drain_for_restart(fleet)
    wait_for_text(agent, "restarting: waiting for 1 running tasks")

    if stop == "signal":
        agent.terminate()
    else:
        assert fleet.ctl("stop_one", "0") == "asked 1 agent to stop\n"
        wait_for_text(agent, "asked to stop")
        refused = fleet.start("mutitask", "ctl", "restart_one", "0", "--yes")
        assert refused.wait() == 2 and "1 agent cannot restart: asked to stop before" in refused.stderr
    (fleet.folder / "release").touch()

    assert agent.wait() == 0, agent
    assert agent.stderr.count(" serves ") == 1
    assert "stopped; " in agent.stderr


def test_a_job_that_cannot_be_loaded_is_told_as_at_any_start_and_in_the_events(fleet: Fleet) -> None:
    fleet.job(JOB)
    fleet.serve()
    agent = fleet.agent("--device", "0")
    fleet.wait_for(lambda c: c.done >= 20)
    fleet.job_path.write_text("def tasks(:\n")

    fleet.ctl("restart_one", "0")

    assert agent.wait() == 2, agent
    assert "worker-agent: " in agent.stderr and "job.py" in agent.stderr.splitlines()[-1]
    told = [e for e in fleet.snapshot().events if e.level == "error" and e.source == "Device0"]
    assert len(told) == 1 and told[0].text.startswith("its agent could not start again: ")


def test_local_agents_restart_without_a_death_and_start_again_when_a_broken_job_is_mended(
    fleet: Fleet,
) -> None:
    fleet.job(JOB)
    good = fleet.job_path.read_text()
    server = fleet.serve("--local-agents", "2")
    fleet.wait_for(lambda c: c.done >= 100)
    wait_until(lambda: all(device.pid for device in fleet.snapshot().devices), what="both have reported")
    actors = {d.id: d.actor for d in fleet.snapshot().devices}
    pids = {d.id: d.pid for d in fleet.snapshot().devices}
    change_version(fleet)

    def restarted() -> bool:
        devices = fleet.snapshot().devices
        return all(d.state == "running" and d.actor != actors[d.id] for d in devices)

    fleet.ctl("restart_all")
    wait_until(restarted, 40, what="both have a new actor")
    assert {d.id: d.pid for d in fleet.snapshot().devices} == pids
    assert "died" not in server.stderr

    fleet.job_path.write_text("def tasks(:\n")
    fleet.ctl("restart_all")
    wait_for_text(server, "'s agent ended: ", times=2)
    events = [e.text for e in fleet.snapshot().events]
    assert sum("'s agent ended: " in text for text in events) == 2
    fleet.job_path.write_text(good)
    wait_for_text(server, "'s job has changed; starting its agent again", times=2)
    (fleet.folder / "release").touch()

    fleet.wait_until_over(COUNT, 60)
    assert {(r.attempt, r.crashes) for r in fleet.results()} == {(0, 0)}
    assert "died" not in server.stderr
    server.terminate()
    assert server.wait() == 0, server


def test_an_agent_killed_while_it_drains_for_a_restart_loses_nothing(fleet: Fleet) -> None:
    agent = drain_for_restart(fleet, lease="2")
    wait_for_text(agent, "restarting: waiting for 1 running tasks")

    agent.kill()

    (fleet.folder / "release").touch()
    other = fleet.agent("--device", "0")
    results = fleet.expect_each_once(["held", *range(20)])
    assert [r.crashes for r in results if r.value == "held"] == [1]
    assert other.running


def test_an_agent_that_dies_between_its_leave_and_its_start_loses_nothing(fleet: Fleet) -> None:
    """The new job ends its process at once, when the old agent has already left."""
    fleet.job(JOB)
    fleet.serve()
    agent = fleet.agent("--device", "0")
    fleet.wait_for(lambda c: c.done >= 20)
    good = fleet.job_path.read_text()
    fleet.job_path.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    fleet.ctl("restart_one", "0")
    assert agent.wait() == -signal.SIGKILL, agent
    assert fleet.counters().claimed == 0

    fleet.job_path.write_text(good)
    fleet.agent("--device", "0")
    (fleet.folder / "release").touch()

    fleet.wait_until_over(COUNT)
    assert {(r.attempt, r.crashes) for r in fleet.results()} == {(0, 0)}


def test_an_agent_that_could_not_leave_takes_its_device_again_at_once(own_fleet: Fleet) -> None:
    """Redis is away while the agent leaves. The new start of the same process recovers what the former one held."""
    fleet = own_fleet
    agent = drain_for_restart(fleet)
    wait_for_text(agent, "restarting: waiting for 1 running tasks")
    fleet.redis.kill()
    (fleet.folder / "release").touch()
    wait_for_text(agent, "starts anew with the job as it is now")

    fleet.redis.start()

    wait_for_text(agent, " serves ", times=2)
    assert "took over Device0 from an agent that is gone" in agent.stderr
    fleet.expect_each_once(["held", *range(20)])


def test_an_agent_killed_while_a_cancel_is_on_its_way_loses_nothing(fleet: Fleet) -> None:
    fleet.job(HELD)
    fleet.serve("--lease", "60")
    agent = fleet.agent("--device", "0")
    wait_until(lambda: (fleet.folder / "began-0").exists(), what="the held task runs")
    agent.freeze()
    asked = fleet.start("mutitask", "ctl", "cancel_task", "0", "0", "--yes")
    wait_until(lambda: fleet.client.exists(fleet.keys.desired_cancels), what="the request is written")

    agent.kill()

    assert asked.wait() == 0 and "it has not answered within 3 s" in asked.stdout, asked
    (fleet.folder / "release").touch()
    fleet.agent("--device", "0")
    results = fleet.expect_each_once(["held", *range(20)])
    assert [r.crashes for r in results if r.value == "held"] == [1]


def test_a_program_with_a_client_restarts_as_a_whole(
    fleet: Fleet, spawn: Callable[..., Program], tmp_path: Path
) -> None:
    fleet.job(JOB)
    fleet.serve()
    program = tmp_path / "elsewhere" / "program.py"
    program.parent.mkdir()
    program.write_text(
        "import os, sys\n"
        "from worker_agent import Client\n"
        "print('arguments', sys.argv[1:], flush=True)\n"
        "a = Client(device=0, name='crash')\n"
        "a.initial_task_function(task_func=lambda task: 1)\n"
        "os.chdir('/')\n"
        "os.environ['MUTITASK_REDIS_URL_LATER'] = 'set by the program'\n"
        "a.start()\n"
    )
    client = spawn(
        ["python", "program.py", "--an-option", "a b"],
        env={"MUTITASK_REDIS_URL": fleet.redis.url}, cwd=program.parent,
    )  # fmt: skip
    wait_for_text(client, " serves ")
    program.write_text(program.read_text().replace("lambda task: 1", "lambda task: 2"))
    wait_until(lambda: job_of(fleet, 0) == ("", True), what="it notices the change")

    fleet.ctl("restart_one", "0")

    wait_for_text(client, " serves ", times=2)
    assert client.stdout.count("arguments ['--an-option', 'a b']") == 2
    (fleet.folder / "release").touch()
    fleet.wait_until_over(COUNT)
    assert [r.value for r in fleet.results()][-1] == 2


@pytest.mark.parametrize("changed", ["job.py", "helper.py", "package/part.py"])
def test_with_reload_an_agent_restarts_when_its_job_or_a_module_beside_it_changes(
    fleet: Fleet, changed: str
) -> None:
    pytest.importorskip("watchfiles")
    (fleet.folder / "package").mkdir()
    for name in ("helper.py", "package/__init__.py", "package/part.py"):
        (fleet.folder / name).write_text("VALUE = 1\n")
    fleet.job(JOB)
    fleet.serve()
    agent = fleet.agent("--device", "0", "--reload")
    (fleet.folder / "unrelated.txt").write_text("no")

    path = fleet.folder / changed
    path.write_text(path.read_text() + "\n# changed\n")

    wait_for_text(agent, " serves ", times=2)
    assert f"{path.name} has changed: the agent restarts" in agent.stderr


def test_with_reload_a_broken_job_waits_until_it_is_mended(fleet: Fleet) -> None:
    pytest.importorskip("watchfiles")
    fleet.job(JOB)
    good = fleet.job_path.read_text()
    fleet.serve()
    agent = fleet.agent("--device", "0", "--reload")
    fleet.job_path.write_text("def tasks(:\n")
    wait_for_text(agent, "waiting for a change of the job or of a module beside it (--reload)")

    fleet.job_path.write_text(good)

    wait_for_text(agent, " serves ", times=2)
    assert agent.running


def test_local_agents_reload_with_their_server_and_no_death_is_told(fleet: Fleet) -> None:
    pytest.importorskip("watchfiles")
    fleet.job(JOB)
    server = fleet.serve("--local-agents", "2", "--reload")
    fleet.wait_for(lambda c: c.done >= 100)
    wait_until(lambda: all(device.pid for device in fleet.snapshot().devices), what="both have reported")
    actors = {device.id: device.actor for device in fleet.snapshot().devices}

    change_version(fleet)

    def restarted() -> bool:
        devices = fleet.snapshot().devices
        return all(d.state == "running" and d.actor != actors[d.id] for d in devices)

    wait_until(restarted, 40, what="both have a new actor")
    (fleet.folder / "release").touch()
    fleet.wait_until_over(COUNT, 60)
    assert "died" not in server.stderr
    server.terminate()
    assert server.wait() == 0, server


def test_reload_without_watchfiles_says_how_to_install_it(
    spawn: Callable[..., Program], tmp_path: Path
) -> None:
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "watchfiles.py").write_text("raise ImportError('not installed')\n")
    write_job(tmp_path, JOB)
    for program in (
        "worker-agent job.py --reload",
        "mutitask run job.py --headless --local-agents 1 --reload",
    ):
        refused = spawn(program.split(), cwd=tmp_path, env={"PYTHONPATH": tmp_path / "shadow"})
        assert refused.wait() == 2
        assert refused.stderr.endswith("--reload needs watchfiles: pip install 'mutitask[reload]'\n"), refused
