"""The embedded Valkey without disk space, or killed: all programs report it, wait, and continue by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mutitask_tui.server.reader import Reader, Result
from tests.crashes.fleet import wait_for_text
from tests.support.programs import Program
from tests.support.redis_server import give_own_port
from tests.support.small_disk import SmallDisk
from tests.support.waiting import wait_until
from worker_agent.protocol.connection.address import load_server_file
from worker_agent.protocol.errors import MutiTaskError

COUNT = 1_500
SENTENCE = "cannot write to its disk and takes no writes"

JOB = f"""
import time

def tasks():
    yield from range({COUNT})

def task_function(task):
    time.sleep(0.001)
    return task
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Return a small disk. Skips the test if this user may not mount one."""
    try:
        made = SmallDisk(tmp_path / "disk")
    except OSError:
        pytest.skip("mounting a small file system is not allowed here")
    yield made
    made.remove()


class Embedded:
    """A server and its embedded Valkey on the disk of `place`, and agents whose logs are elsewhere."""

    def __init__(self, place: Path, spawn: Callable[..., Program], folder: Path) -> None:
        self.state = place / "state"
        give_own_port(self.state / "default")
        self.job = folder / "job.py"
        self.job.write_text(JOB)
        self._spawn = spawn
        self._env = {"MUTITASK_STATE_DIR": self.state}
        self.reader: Reader

    def serve(self, *options: str) -> Program:
        args = ["mutitask", "run", self.job, "--headless", "--autostart", "--capacity", "200", *options]
        server = self._spawn(args, env=self._env)
        record = wait_until(lambda: load_server_file(self.state / "default" / "server.json"), 30)
        self.reader = Reader(record.url, "default")
        return server

    def agent(self, device: int) -> Program:
        return self._spawn(["worker-agent", self.job, "--device", str(device)], env=self._env)

    def done(self) -> int:
        """Return how many tasks are done; 0 while Redis does not answer."""
        try:
            (channel,) = self.reader.snapshot().channels
        except (MutiTaskError, ValueError):
            return 0
        assert channel.balanced
        return channel.done

    def values(self) -> list[object]:
        return [r.value for r in self.reader.results(0, 0, 10_000)[1] if isinstance(r, Result)]


@pytest.fixture
def embedded(disk: SmallDisk, spawn: Callable[..., Program], tmp_path: Path) -> Iterator[Embedded]:
    made = Embedded(disk.folder, spawn, tmp_path)
    yield made
    record = load_server_file(made.state / "default" / "server.json")
    if record:
        subprocess.run(["kill", "-9", str(record.process.pid)], check=False)


def test_a_full_disk_under_the_embedded_valkey_stops_the_work_and_loses_none_of_it(
    embedded: Embedded, disk: SmallDisk
) -> None:
    server = embedded.serve("--lease", "2")
    agents = [embedded.agent(device) for device in range(2)]
    for agent in agents:
        wait_until(lambda p=agent: " serves " in p.stderr, 30, what="the agent has its device")
    wait_until(lambda: embedded.done() >= 200, 30)

    disk.fill()
    for program in (server, *agents):
        wait_until(lambda p=program: SENTENCE in p.stderr, 20, what=f"it reports why it waits: {program}")
    before = embedded.done()
    disk.make_room()

    wait_until(lambda: embedded.done() == COUNT, 40, what="all is done")
    assert sorted(embedded.values()) == list(range(COUNT))
    assert before >= 200
    for program in (server, *agents):
        assert program.running, program
        wait_until(lambda p=program: "answers again" in p.stderr, what=f"it continues: {program}")
    lines = [line for line in server.stderr.splitlines() if SENTENCE in line and "trying again" in line]
    assert len(lines) <= 4, lines
    assert "(Errors writing to the AOF file: No space left on device); make room there" in lines[0]


def test_an_embedded_valkey_that_a_full_disk_ends_is_started_again_once_there_is_room(
    embedded: Embedded, disk: SmallDisk
) -> None:
    """With `--fsync always`, Valkey ends if it cannot write."""
    server = embedded.serve("--lease", "2", "--fsync", "always")
    agents = [embedded.agent(device) for device in range(2)]
    wait_until(lambda: embedded.done() >= 200, 30)
    first = load_server_file(embedded.state / "default" / "server.json")

    disk.fill()
    wait_for_text(server, f"the embedded Valkey (process {first.process.pid}) ended")
    wait_for_text(server, "Cannot store the embedded Valkey's data in ")
    disk.make_room()

    wait_for_text(server, "the embedded Valkey runs again")
    wait_until(lambda: embedded.done() == COUNT, 40, what="all is done")
    assert sorted(embedded.values()) == list(range(COUNT))
    assert all(program.running for program in (server, *agents)), (server, *agents)


def test_an_embedded_valkey_that_is_killed_is_started_again_and_loses_nothing(
    spawn: Callable[..., Program], tmp_path: Path, state_dir: Path
) -> None:
    embedded = Embedded(state_dir.parent, spawn, tmp_path)
    server = embedded.serve("--lease", "2")
    agents = [embedded.agent(device) for device in range(2)]

    for part in (1, 2):
        wait_until(lambda part=part: embedded.done() >= part * 250, 30, what=f"part {part} is done")
        record = load_server_file(embedded.state / "default" / "server.json")
        os.kill(record.process.pid, signal.SIGKILL)
        wait_for_text(server, "the embedded Valkey runs again", times=part)

    wait_until(lambda: embedded.done() == COUNT, 40, what="all is done")
    assert sorted(embedded.values()) == list(range(COUNT))
    assert all(program.running for program in (server, *agents)), (server, *agents)
    after = load_server_file(embedded.state / "default" / "server.json")
    assert (after.url, after.port) == (record.url, record.port)
