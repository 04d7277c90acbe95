"""`mutitask run`, `demo` and the help texts, as headless processes with a given Redis address."""

from __future__ import annotations

import re
import shutil
import signal
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from mutitask_tui.server.reader import Reader
from mutitask_tui.server.snapshot import Snapshot
from tests.cli.tools import mutitask, write_job
from tests.support.programs import Program
from tests.support.waiting import wait_until
from worker_agent.protocol.identity import is_gone, process_of
from worker_agent.protocol.keys import Keys

Spawn = Callable[..., Program]

NUMBERS = """
def tasks():
    yield from range(100)
def task_function(task):
    if task % 10 == 7:
        raise ValueError(f"{task} ends in seven")
    return [task]
"""


def until(url: str, name: str, holds: Callable[[Snapshot], object], *programs: Program) -> Snapshot:
    reader = Reader(url, name)

    def look() -> Snapshot | None:
        try:
            snapshot = reader.snapshot()
        except Exception:
            return None
        return snapshot if holds(snapshot) else None

    return wait_until(look, 20, every=0.02, what=f"a snapshot that holds; {programs}")  # type: ignore[return-value]


def test_headless_until_done_ends_by_itself_with_the_right_counts(
    redis_url: str, spawn: Spawn, tmp_path: Path
) -> None:
    """Every option has its effect, and the address comes from the environment."""
    program = spawn(
        ["mutitask", "run", write_job(tmp_path, NUMBERS), "--name", "counts", "--headless", "--until-done",
         "--autostart", "--local-agents", "2", "--retries", "1", "--capacity", "30", "--devices", "4",
         "--results-max", "5000", "--retry-delay", "0.1", "--lease", "5"],
        env={"MUTITASK_REDIS_URL": redis_url},
    )  # fmt: skip
    assert program.wait() == 7, program
    assert program.stdout == ""
    *_, summary, closing = program.stderr.splitlines()
    assert "100 tasks allotted: 90 done, 10 failed; counters balanced; " in summary
    assert closing.endswith("10 tasks failed: the exit status is 7 (--failed-ok makes it 0)")
    password = redis_url.partition(":")[2].partition("@")[0].strip("/:")
    assert password and password not in program.stderr

    status = mutitask("status", "--json", "--redis", redis_url, "--name", "counts").json
    (channel,) = status["channels"]
    assert status["server"] is None
    assert (channel["allotted"], channel["done"], channel["failed"], channel["waiting"]) == (100, 90, 10, 0)
    assert channel["capacity"] == 30 and channel["balanced"] is True and channel["exhausted"] is True
    assert [device["id"] for device in status["devices"]] == [0, 1, 2, 3]
    assert sum(device["done"] for device in status["devices"]) == 90
    assert {task.runs for task in Reader(redis_url, "counts").failed_tasks(0, 0, 100)} == {2}
    lines = mutitask("results", "export", "--redis", redis_url, "--name", "counts").lines
    assert sorted(line["result"] for line in lines) == [[n] for n in range(100) if n % 10 != 7]
    meta = redis.Redis.from_url(redis_url).hgetall(Keys("counts").meta)
    assert (meta[b"results_max"], meta[b"lease_ms"]) == (b"5000", b"5000")
    assert meta[b"retry"] == b"1 100 2 600000 0.2 - -"


TWO_CHANNELS = """
from pathlib import Path
def numbers():
    yield from range(10)
def words():
    yield from ("a", "b", "c")
tasks = [numbers, words]
def double(number):
    return 2 * number
def shout(word):
    return word.upper()
def save(result):
    with (Path(__file__).parent / "saved").open("a") as file:
        file.write(f"{result}\\n")
task_functions = [double, shout]
save_functions = [None, save]
"""


def test_each_channel_has_its_own_functions(redis_url: str, spawn: Spawn, tmp_path: Path) -> None:
    program = spawn(
        ["mutitask", "run", write_job(tmp_path, TWO_CHANNELS), "--redis", redis_url, "--headless",
         "--until-done", "--autostart", "--local-agents", "2"],
    )  # fmt: skip
    assert program.wait() == 0, program
    lines = mutitask("results", "export", "--redis", redis_url).lines
    assert [line["channel"] for line in lines] == [0] * 10
    assert sorted(line["result"] for line in lines) == [2 * number for number in range(10)]
    assert sorted((tmp_path / "saved").read_text().split()) == ["A", "B", "C"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_in_order_and_a_resume_ends_the_work(
    number: signal.Signals, redis_url: str, spawn: Spawn, tmp_path: Path
) -> None:
    line = ["mutitask", "run", write_job(tmp_path, NUMBERS), "--redis", redis_url, "--headless", "--retries", "0",
            "--capacity", "10", "--local-agents", "1"]  # fmt: skip
    first = spawn(line)
    before = until(redis_url, "default", lambda s: s.devices[0].pid and s.channels[0].waiting == 10, first)
    agent = process_of(before.devices[0].pid)

    first.signal(number)

    assert first.wait() == 0, first
    assert (
        "10 tasks allotted: 0 done, 0 failed, 10 still to do, kept in Redis; counters balanced"
        in first.stderr
    )
    assert "Traceback" not in first.stderr and "Aborted" not in first.stderr
    assert is_gone(agent)
    after = Reader(redis_url, "default").snapshot()
    assert after.server is None and after.channels[0].waiting == 10

    second = spawn([*line, "--resume", "--autostart", "--until-done", "--failed-ok"])
    assert second.wait() == 0, second
    done = Reader(redis_url, "default").snapshot()
    assert done.run == before.run
    assert (done.channels[0].allotted, done.channels[0].done, done.channels[0].failed) == (100, 90, 10)


def test_fresh_drops_the_earlier_run(redis_url: str, spawn: Spawn, tmp_path: Path) -> None:
    line = ["mutitask", "run", write_job(tmp_path, NUMBERS), "--redis", redis_url, "--headless", "--until-done",
            "--autostart", "--local-agents", "1", "--failed-ok"]  # fmt: skip
    assert spawn(line).wait() == 0
    before = Reader(redis_url, "default").snapshot()
    again = spawn([*line, "--fresh"])
    assert again.wait() == 0, again
    after = Reader(redis_url, "default").snapshot()
    assert after.run != before.run
    assert (after.channels[0].allotted, after.channels[0].results) == (100, 90)


def test_stop_allot_runs_the_waiting_tasks_and_ends_the_run(
    redis_url: str, spawn: Spawn, tmp_path: Path
) -> None:
    endless = "def tasks():\n  n = 0\n  while True:\n    yield n\n    n += 1\ndef task_function(task): return [task]\n"
    program = spawn(
        ["mutitask", "run", write_job(tmp_path, endless), "--redis", redis_url, "--headless", "--until-done",
         "--autostart", "--local-agents", "1"],
    )  # fmt: skip
    until(redis_url, "default", lambda s: s.channels[0].done > 100, program)
    assert mutitask("ctl", "stop_allot", "--redis", redis_url).status == 0
    assert program.wait() == 0, program
    after = Reader(redis_url, "default").snapshot()
    assert after.balanced and after.channels[0].open == 0 and not after.channels[0].exhausted


SERVER_PROGRAM = """
import sys, threading
from mutitask_tui import Server
from mutitask_tui.server.commands.registry import CommandError

server = Server(WorksNumb=2, TasksChannelMax=7, redis_url=sys.argv[1], name="methods", headless=True)

def drive():
    while not server._url:
        pass
    while True:
        try:
            result = server.start_all()
            break
        except Exception:  # Not open yet.
            pass
    print(result.text, result.data["devices"])
    print(server.pause_one(0).text)
    print(server.reset_task_max(9, 0).data["capacity"])
    print(server.detect_fail_channel().data["failed"])
    try:
        server.pause_one(7)
    except CommandError as error:
        print(error)
    print(server.exit().ok)

threading.Thread(target=drive).start()
server.start([iter(range(100))])
print("ended")
"""


def test_every_command_is_a_method_of_the_server(redis_url: str, spawn: Spawn, tmp_path: Path) -> None:
    program = spawn(["python", write_job(tmp_path, SERVER_PROGRAM, "program.py"), redis_url])
    assert program.wait() == 0, program
    assert program.stdout.splitlines() == [
        "asked 2 devices to start [0, 1]",
        "asked Device0 to pause",
        "9",
        "{'0': 0}",
        "there is no Device7; there is Device0 to Device1",
        "True",
        "ended",
    ]
    assert Reader(redis_url, "methods").snapshot().devices[0].desired == "paused"


SMALL_LIBRARY = """
import sysconfig

path_of = sysconfig.get_path
sysconfig.get_path = lambda name, *how, **more: {library!r} if name == "stdlib" else path_of(name, *how, **more)
"""


def test_the_demo_ends_by_itself_without_a_terminal(spawn: Spawn, state_dir: Path, tmp_path: Path) -> None:
    """Use a part of the standard library, because all of it takes 20 s. CI also runs the whole demo."""
    library = tmp_path / "library"
    shutil.copytree(Path(sysconfig.get_path("stdlib"), "email"), library / "email")
    (library / "broken.py").write_text("def broken(:\n")
    (tmp_path / "sitecustomize.py").write_text(SMALL_LIBRARY.format(library=str(library)))
    files = len(list(library.rglob("*.py")))
    program = spawn(["mutitask", "demo"], env={"PYTHONPATH": tmp_path})
    assert program.wait(60) == 0, program
    told = rf" {files} tasks allotted: {files - 1} done, 1 failed; counters balanced; "
    assert re.search(told, program.stderr.splitlines()[-1]), program
    assert not (state_dir / "demo" / "server.json").exists()


HELP = {
    "mutitask --help": ["attach", "config", "ctl", "demo", "results", "run", "status", "--debug", "--version"],
    "mutitask run --help": [
        "JOB", "--redis", "--name", "--devices", "--capacity", "--retries", "--retry-delay", "--lease",
        "--results-max", "--local-agents", "--autostart", "--headless", "--until-done", "--resume", "--fresh",
        "--listen",
    ],
    "mutitask attach --help": ["--redis", "--name", "--read-only"],
    "mutitask ctl --help": ["pause_one N", "reset_max_task N [C]", "exit", "--json", "--yes"],
    "mutitask status --help": ["--json"],
    "mutitask results --help": ["export"],
    "mutitask results export --help": ["--channel", "--format", "--drain"],
    "mutitask demo --help": ["--agents", "--headless"],
}  # fmt: skip


@pytest.mark.parametrize("line", HELP)
def test_help_names_everything_and_fits_a_terminal(line: str) -> None:
    result = mutitask(*line.split()[1:])
    assert result.status == 0 and result.stderr == ""
    assert all(word in result.stdout for word in HELP[line])
    assert max(len(text) for text in result.stdout.splitlines()) <= 80
    assert "..." not in result.stdout.replace("[ARGS]...", "").replace("COMMAND [ARGS]", "")


def test_an_agents_help(spawn: Spawn) -> None:
    program = spawn(["worker-agent", "-h"])
    assert program.wait() == 0
    for word in ("JOB", "--redis", "--name", "--device", "--channel", "--concurrency", "--debug"):
        assert word in program.stdout


def environment_of(pid: int) -> dict[str, Any]:
    text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    return dict(part.split("=", 1) for part in text.split("\0") if "=" in part)


def test_no_argument_contains_a_password(redis_url: str, spawn: Spawn, tmp_path: Path) -> None:
    program = spawn(
        ["mutitask", "run", write_job(tmp_path, NUMBERS), "--headless", "--local-agents", "1"],
        env={"MUTITASK_REDIS_URL": redis_url},
    )
    snapshot = until(redis_url, "default", lambda s: s.devices and s.devices[0].pid, program)
    agent = snapshot.devices[0].pid
    password = redis_url.partition("//:")[2].partition("@")[0]
    assert password
    assert password not in Path(f"/proc/{agent}/cmdline").read_text()
    assert environment_of(agent)["MUTITASK_REDIS_URL"] == redis_url
    program.terminate()
    assert program.wait() == 0, program
    assert password not in program.stderr
