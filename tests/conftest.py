"""Fixtures that all tests share. Every test that needs Redis gets a real one."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pexpect
import pytest
import redis

from tests.support.programs import Program, start_in_terminal
from tests.support.redis_cluster import RealCluster
from tests.support.redis_sentinel import RealSentinels
from tests.support.redis_server import RealServer
from tests.support.waiting import wait_until as _wait_until
from worker_agent.protocol.connection.address import load_server_file
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.identity import process_of

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, so that a misspelled one is an error."""
    config.addinivalue_line("markers", "protocol: runs against every kind of server (.ci/run repeats these)")


LONGEST = (
    "chaos",
    "cluster",
    "test_counters_balance",
    "crashes",
    "faults",
    "launch",
    "agent",
    "security",
    "cli",
)
"""The files and folders whose tests take longest. Most of that time they wait for programs."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, so that no test worker ends long after the others (`make test`)."""

    def rank(item: pytest.Item) -> int:
        names = {item.path.stem, *(folder.name for folder in item.path.relative_to(HERE).parents)}
        return next((n for n, name in enumerate(LONGEST) if name in names), len(LONGEST))

    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=rank)


@pytest.fixture(autouse=True)
def _private_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests from reading or writing the state of the person who runs them."""
    monkeypatch.delenv("MUTITASK_REDIS_URL", raising=False)
    # pytest-xdist sets the terminal size of its workers. Programs on a terminal would prefer it to the real size.
    for size in ("COLUMNS", "LINES"):
        monkeypatch.delenv(size, raising=False)
    monkeypatch.setenv("MUTITASK_STATE_DIR", str(tmp_path_factory.getbasetemp() / "no-state-here"))
    monkeypatch.setenv("MUTITASK_CONFIG_FILE", str(tmp_path_factory.getbasetemp() / "no-config-here.toml"))


TOPOLOGY_VARIABLE = "MUTITASK_TEST_TOPOLOGY"
TOPOLOGIES: dict[str, Callable[[], Any]] = {
    "single": RealServer,
    "cluster": RealCluster,
    "sentinel": RealSentinels,
}
"""The kinds of `shared_server`. The protocol's tests run on each of them (.ci/run)."""


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RealServer]:
    """The server that all tests share. Use `own_server` to kill or freeze one."""
    server = TOPOLOGIES[os.environ.get(TOPOLOGY_VARIABLE, "single")]()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="session")
def valkey(shared_server: RealServer) -> str:
    """The shared server's URL with its password. It still contains the data of earlier tests."""
    return shared_server.url


@pytest.fixture
def redis_url(shared_server: RealServer) -> str:
    """The shared server's URL with its password. The server is emptied for this test."""
    with shared_server.client() as admin:
        admin.flushall()
    return shared_server.url


@pytest.fixture
def client(shared_server: RealServer, redis_url: str) -> Iterator[redis.Redis]:
    """A client of the emptied shared server, with bytes, RESP 3, time-outs of 5 s and no retries."""
    with shared_server.client() as connected:
        yield connected


@pytest.fixture
def own_server() -> Iterator[RealServer]:
    """A durable server for only this test, which may kill, freeze and restart it."""
    server = RealServer(durable=True)
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty state directory, set in the environment, also for programs that `spawn` starts.

    Embedded servers that were started in it are killed at the end.
    """
    directory = tmp_path / "state"
    monkeypatch.setenv("MUTITASK_STATE_DIR", str(directory))
    yield directory
    for path in directory.glob("*/server.json"):
        with contextlib.suppress(MutiTaskError):
            record = load_server_file(path)
            if (
                record
                and record.process.pid != os.getpid()
                and record.process == process_of(record.process.pid)
            ):
                os.kill(record.process.pid, signal.SIGKILL)


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """`wait_until(predicate, timeout=10)`: return the first true value, and fail after the time-out."""
    return _wait_until


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """`spawn(["mutitask", "run", ...], env={...}, cwd=...)`: start a program. Its session ends with the test."""
    started: list[Program] = []

    def start(
        args: Sequence[str | Path], env: Mapping[str, str | Path] | None = None, *, cwd: Path | None = None
    ) -> Program:
        program = Program(args, env, tmp_path / "programs" / str(len(started)), cwd)
        started.append(program)
        return program

    yield start
    for program in started:
        program.kill_session()


@pytest.fixture
def pty_run() -> Iterator[Callable[..., pexpect.spawn[str]]]:
    """`pty_run(["mutitask", ...], env={...}, size=(40, 120))`: start a pexpect child on a terminal of its own."""
    started: list[pexpect.spawn[str]] = []

    def start(
        args: Sequence[str | Path], env: Mapping[str, str | Path] | None = None, **how: Any
    ) -> pexpect.spawn[str]:
        child = start_in_terminal(args, env, **how)
        started.append(child)
        return child

    yield start
    for child in started:
        with contextlib.suppress(Exception):
            child.kill(signal.SIGKILL)
        child.close(force=True)
