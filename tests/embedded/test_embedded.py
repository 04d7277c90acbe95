"""The embedded Valkey: started once for each namespace, found again, kept private, and stopped without losing data."""

from __future__ import annotations

import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from mutitask_tui.embedded import ports, start, valkey
from mutitask_tui.embedded.errors import EmbeddedError
from mutitask_tui.embedded.ports import outward_address
from mutitask_tui.embedded.process import EmbeddedServer, ServerState
from mutitask_tui.embedded.valkey import default_redis_listens, ensure, find
from tests.support.redis_server import RealServer, free_port
from tests.support.waiting import wait_until
from worker_agent.protocol.connection.address import read_server_file, resolve, server_file
from worker_agent.protocol.errors import JobError
from worker_agent.protocol.identity import is_gone, process_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no embedded Valkey on Windows")


@pytest.fixture(autouse=True)
def usual_port(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port that replaces 6379 in this test."""
    port = free_port()
    monkeypatch.setattr(valkey, "DEFAULT_PORT", port)
    monkeypatch.setattr(start, "_DATA_SECONDS", 0.5)
    return port


def connected(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, protocol=3, socket_timeout=5, socket_connect_timeout=5)


def kill(server: EmbeddedServer) -> None:
    who = process_of(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: is_gone(who))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Another program that listens on a port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken


def test_it_starts_on_the_default_port_and_every_program_of_the_namespace_finds_it(usual_port):
    server = ensure("n", usual_port=True)
    assert (server.started, server.port) == (True, usual_port)
    assert resolve(None, "n") == (server.url, True)
    with connected(server.url) as client:
        assert client.set("key", "value")
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("appendonly")["appendonly"] == "yes"
        assert client.acl_whoami() == b"mutitask"


def test_a_second_call_finds_the_server_of_the_first():
    first, second = ensure("n"), ensure("n")
    assert (second.started, second.pid, second.url) == (False, first.pid, first.url)
    assert find("n").pid == first.pid


def test_concurrent_starts_share_one_server():
    barrier = threading.Barrier(6)

    def one() -> EmbeddedServer:
        barrier.wait()
        return ensure("n")

    with ThreadPoolExecutor(6) as pool:
        servers = [future.result() for future in [pool.submit(one) for _ in range(6)]]
    assert len({server.pid for server in servers}) == 1
    assert sum(server.started for server in servers) == 1


def test_each_namespace_has_its_own_server(usual_port):
    first, second = ensure("a", usual_port=True), ensure("b", usual_port=True)
    assert first.port == usual_port
    assert second.port != first.port
    assert second.url != first.url


def test_without_the_password_only_ping_is_allowed():
    server = ensure("n")
    with connected(f"redis://127.0.0.1:{server.port}") as stranger:
        assert stranger.ping()
        for command in (["GET", "key"], ["CONFIG", "GET", "*"], ["SHUTDOWN"], ["EVAL", "return 1", "0"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                stranger.execute_command(*command)


def test_the_password_is_in_no_argument_and_in_no_file_that_others_can_read():
    server = ensure("n")
    password = redis.connection.parse_url(server.url)["password"]
    assert password not in Path(f"/proc/{server.pid}/cmdline").read_text()
    assert password not in repr(server)
    for path in server.directory.rglob("*"):
        kind = "directory" if path.is_dir() else "file"
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if kind == "directory" else 0o600), path
    assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700


def test_the_data_of_a_killed_server_is_restored_with_the_same_password_and_port():
    first = ensure("n", fsync="always")
    with connected(first.url) as client:
        client.set("key", "value")
    kill(first)
    assert find("n") is None
    second = ensure("n")
    assert (second.started, second.url) == (True, first.url)
    with connected(second.url) as client:
        assert client.get("key") == b"value"


def test_it_waits_until_the_data_of_a_killed_server_is_loaded(monkeypatch):
    first = ensure("n", fsync="always")
    with connected(first.url) as client:
        client.eval("for i = 1, 5000 do redis.call('RPUSH', 'list', i) end", 0)
    kill(first)
    plain = start.configuration
    slow = b"key-load-delay 500\n"  # Microseconds a command: 2.5 seconds in all.
    monkeypatch.setattr(start, "configuration", lambda *given: plain(*given) + slow)
    states = []
    read_state = start.server_state

    def recording_state(url: str, pid: int) -> ServerState:
        states.append(read_state(url, pid))
        return states[-1]

    monkeypatch.setattr(start, "server_state", recording_state)
    second = ensure("n")
    assert ServerState.LOADING in states
    with connected(second.url) as client:
        assert client.llen("list") == 5000


def test_it_takes_as_many_clients_as_the_file_limit_allows():
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ensure("limits", throwaway=True) as server, redis.Redis.from_url(server.url) as client:
        most = int(client.config_get("maxclients")["maxclients"])
    assert 0 < most <= 200_000
    if 10_032 <= most_files <= 200_000:
        assert most == most_files - 32


def test_stop_ends_the_process_keeps_the_data_and_removes_the_server_file():
    server = ensure("n")
    who = process_of(server.pid)
    with connected(server.url) as client:
        client.set("key", "value")
    server.stop()
    assert is_gone(who)
    assert read_server_file("n") is None
    with connected(ensure("n").url) as client:
        assert client.get("key") == b"value"


def test_a_program_that_found_the_server_can_stop_it():
    who = process_of(ensure("n").pid)
    found = find("n")
    assert found
    found.stop()
    assert is_gone(who)
    found.stop()  # A second call has no effect.


def test_another_port_is_used_if_the_default_port_is_taken(listener, monkeypatch):
    monkeypatch.setattr(valkey, "DEFAULT_PORT", listener.getsockname()[1])
    server = ensure("n", usual_port=True)
    assert server.port != listener.getsockname()[1]


def test_the_default_port_is_used_only_on_request(usual_port):
    first = ensure("n", usual_port=True)
    first.stop()
    assert ensure("n").port != usual_port


def test_a_requested_port_that_is_taken_is_an_error(listener):
    taken = listener.getsockname()[1]
    with pytest.raises(EmbeddedError, match=f"Port {taken} is in use: omit the port, choose another one"):
        ensure("n", port=taken)


def test_the_next_port_is_tried_if_one_is_taken_at_the_last_moment(listener, monkeypatch):
    monkeypatch.setattr(ports, "is_free", lambda port: True)
    monkeypatch.setattr(valkey, "DEFAULT_PORT", listener.getsockname()[1])
    assert ensure("n", usual_port=True).port != listener.getsockname()[1]
    with ensure("t", throwaway=True, port=free_port()) as server, connected(server.url) as client:
        assert client.ping()
    with pytest.raises(EmbeddedError, match="is in use: another program took it just now"):
        ensure("m", port=listener.getsockname()[1])


def test_a_running_server_on_another_port_than_the_requested_one_is_an_error():
    server = ensure("n")
    with pytest.raises(EmbeddedError, match=f"already runs on port {server.port}"):
        ensure("n", port=free_port())


def test_a_server_file_whose_process_is_gone_or_whose_port_is_reused_is_ignored(listener):
    first = ensure("n")
    content = server_file("n").read_bytes()
    first.stop()
    server_file("n").touch(mode=0o600)
    server_file("n").write_bytes(
        content.replace(str(first.port).encode(), str(listener.getsockname()[1]).encode())
    )
    assert find("n") is None
    assert ensure("n").started


def test_no_second_server_starts_on_the_data_of_a_frozen_one():
    server = ensure("n")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(EmbeddedError, match=f"process {server.pid}.* does not answer: stop it"):
            ensure("n")
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert ensure("n").pid == server.pid


def test_a_deleted_server_file_does_not_lead_to_a_second_server_on_the_same_data():
    server = ensure("n")
    server_file("n").unlink()
    with pytest.raises(EmbeddedError, match="does not answer: stop it"):
        ensure("n")
    os.kill(server.pid, signal.SIGTERM)
    assert ensure("n").started


def test_other_machines_can_connect_only_with_the_password():
    host = outward_address()
    server = ensure("n", listen="0.0.0.0")
    assert server.join_url == server.url.replace("127.0.0.1", host)
    with connected(server.join_url) as client:
        assert client.set("key", "value")
    with connected(f"redis://{host}:{server.port}") as stranger, pytest.raises(redis.ResponseError):
        stranger.get("key")


def test_a_server_on_loopback_can_be_opened_to_other_machines_later():
    host = outward_address()
    if host.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    first = ensure("n")
    with pytest.raises(redis.ConnectionError):
        connected(first.url.replace("127.0.0.1", host)).ping()
    opened = ensure("n", listen=host)
    assert (opened.pid, opened.listen) == (first.pid, host)
    for url in (opened.url, opened.join_url):
        with connected(url) as client:
            assert client.ping()
    assert ensure("n").listen == host


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"listen": "192.0.2.7"}, "Cannot listen on 192.0.2.7: this machine has no such address"),
        ({"listen": "no such host"}, "Cannot listen on 'no such host'"),
        ({"port": 0}, "0 is not a port"),
        ({"port": 70000}, "70000 is not a port"),
    ],
)
def test_an_impossible_address_is_reported_before_the_start(options, sentence):
    with pytest.raises(EmbeddedError, match=sentence):
        ensure("n", **options)
    assert find("n") is None


def test_an_invalid_name_is_refused():
    with pytest.raises(JobError):
        ensure("../up")


def test_the_error_names_a_directory_that_cannot_be_written(state_dir):
    state_dir.parent.mkdir(exist_ok=True)
    state_dir.write_text("a file where the directory should be")
    with pytest.raises(
        EmbeddedError, match=r"Cannot store the embedded Valkey's data in .*MUTITASK_STATE_DIR"
    ):
        ensure("n")


def test_the_error_quotes_the_log_of_a_valkey_that_ends_during_its_start():
    server = ensure("n")
    server.stop()
    next((server.directory / "data").rglob("*.manifest")).write_text("nonsense\n")
    with pytest.raises(EmbeddedError, match=r"ended during its start \(.+\): see .*valkey.log"):
        ensure("n")


def test_without_a_valkey_binary_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match="pass --redis with the address"):
        ensure("n")


def test_a_directory_name_may_contain_spaces_and_quotes(tmp_path):
    server = ensure("n", directory=tmp_path / 'a "b" \\ ü')
    try:
        with connected(server.url) as client:
            assert client.ping()
        assert find("n", directory=tmp_path / 'a "b" \\ ü').pid == server.pid
    finally:
        server.stop()


def test_it_outlives_the_killed_program_that_started_it(spawn):
    program = spawn(
        [
            "python",
            "-c",
            "from mutitask_tui.embedded.valkey import ensure; ensure('n'); import signal; signal.pause()",
        ]
    )
    server = wait_until(lambda: find("n"))
    program.kill_session()
    with connected(server.url) as client:
        assert client.ping()


def test_a_throwaway_server_writes_no_server_file_and_leaves_nothing(state_dir):
    with ensure("n", throwaway=True) as server:
        who = process_of(server.pid)
        with connected(server.url) as client:
            assert client.set("key", "value")
        assert find("n") is None
    assert is_gone(who)
    assert not server.directory.exists()
    assert not state_dir.exists()


def test_a_throwaway_server_ends_with_the_process_that_started_it_and_not_with_the_thread(tmp_path):
    """It survives the end of the thread that started it, and ends after a `kill -9` of the process."""
    code = (
        "import threading, sys\n"
        "from mutitask_tui.embedded.valkey import ensure\n"
        "made = []\n"
        "thread = threading.Thread(target=lambda: made.append(ensure('n', throwaway=True)))\n"
        "thread.start(); thread.join()\n"
        "print(made[0].pid, made[0].directory, made[0].url, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        pid, directory, url = program.stdout.readline().split()
        who = process_of(int(pid))
        with connected(url) as client:
            assert client.ping()
        program.kill()
    wait_until(lambda: is_gone(who))
    wait_until(lambda: not Path(directory).exists())


def test_the_default_address_is_taken_unless_an_embedded_server_of_another_namespace_uses_it(
    monkeypatch, listener
):
    def default_at(port: int) -> None:
        monkeypatch.setattr(valkey, "DEFAULT_URL", f"redis://localhost:{port}/0")

    default_at(free_port())
    assert not default_redis_listens()
    default_at(ensure("n").port)
    assert not default_redis_listens()
    default_at(listener.getsockname()[1])
    assert default_redis_listens()
    server = RealServer()
    try:
        default_at(server.start().port)
        assert default_redis_listens()
    finally:
        server.remove()
