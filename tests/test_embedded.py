from __future__ import annotations

import os
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

from mutitask_tui.embedded import valkey as embedded
from mutitask_tui.embedded.valkey import EmbeddedError, EmbeddedServer, ensure, find
from mutitask_tui.embedded import ports as embedded_ports
from tests.support.redis_server import RealServer, free_port
from tests.support.waiting import wait_until
from worker_agent.protocol.connection.address import read_server_file, resolve, server_file
from worker_agent.protocol.errors import JobError
from worker_agent.protocol.identity import is_gone, of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no Valkey comes along on Windows")


@pytest.fixture(autouse=True)
def usual_port(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A port that is free here and now, in the place of 6379."""
    port = free_port()
    monkeypatch.setattr(embedded, "DEFAULT_PORT", port)
    monkeypatch.setattr(embedded, "_DATA_SECONDS", 0.5)
    return port


def connected(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, protocol=3, socket_timeout=5, socket_connect_timeout=5)


def kill(server: EmbeddedServer) -> None:
    who = of(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: is_gone(who))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody else's program on a port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken


def test_it_starts_on_the_usual_port_and_every_program_of_the_namespace_finds_it(usual_port):
    server = ensure("n", usual_port=True)
    assert (server.started, server.port) == (True, usual_port)
    assert resolve(None, "n") == (server.url, True)
    with connected(server.url) as client:
        assert client.set("key", "value")
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("appendonly")["appendonly"] == "yes"
        assert client.acl_whoami() == b"mutitask"


def test_the_second_to_ask_finds_the_first_ones_server():
    first, second = ensure("n"), ensure("n")
    assert (second.started, second.pid, second.url) == (False, first.pid, first.url)
    assert find("n").pid == first.pid


def test_many_that_start_at_once_share_one_server():
    start = threading.Barrier(6)

    def one() -> EmbeddedServer:
        start.wait()
        return ensure("n")

    with ThreadPoolExecutor(6) as pool:
        servers = [future.result() for future in [pool.submit(one) for _ in range(6)]]
    assert len({server.pid for server in servers}) == 1
    assert sum(server.started for server in servers) == 1


def test_namespaces_have_servers_of_their_own(usual_port):
    first, second = ensure("a", usual_port=True), ensure("b", usual_port=True)
    assert first.port == usual_port
    assert second.port != first.port
    assert second.url != first.url


def test_without_the_password_nobody_can_do_more_than_ping():
    server = ensure("n")
    with connected(f"redis://127.0.0.1:{server.port}") as stranger:
        assert stranger.ping()
        for command in (["GET", "key"], ["CONFIG", "GET", "*"], ["SHUTDOWN"], ["EVAL", "return 1", "0"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                stranger.execute_command(*command)


def test_the_password_stands_in_no_argument_and_in_no_file_that_others_can_read():
    server = ensure("n")
    password = redis.connection.parse_url(server.url)["password"]
    assert password not in Path(f"/proc/{server.pid}/cmdline").read_text()
    assert password not in repr(server)
    for path in server.directory.rglob("*"):
        kind = "directory" if path.is_dir() else "file"
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if kind == "directory" else 0o600), path
    assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700


def test_what_a_killed_server_held_is_there_again_with_the_same_password_and_port():
    first = ensure("n", fsync="always")
    with connected(first.url) as client:
        client.set("key", "value")
    kill(first)
    assert find("n") is None
    second = ensure("n")
    assert (second.started, second.url) == (True, first.url)
    with connected(second.url) as client:
        assert client.get("key") == b"value"


def test_it_waits_until_what_a_killed_server_held_is_loaded(monkeypatch):
    first = ensure("n", fsync="always")
    with connected(first.url) as client:
        client.eval("for i = 1, 5000 do redis.call('RPUSH', 'list', i) end", 0)
    kill(first)
    plain = embedded.configuration
    slow = b"key-load-delay 200\n"  # Microseconds a command: a second in all.
    monkeypatch.setattr(embedded, "configuration", lambda *given: plain(*given) + slow)
    states = []
    ask = embedded._state

    def noting_state(url: str, pid: int) -> embedded._State:
        states.append(ask(url, pid))
        return states[-1]

    monkeypatch.setattr(embedded, "_state", noting_state)
    second = ensure("n")
    assert embedded._State.LOADING in states
    with connected(second.url) as client:
        assert client.llen("list") == 5000


def test_stop_ends_it_keeps_the_data_and_forgets_the_address():
    server = ensure("n")
    who = of(server.pid)
    with connected(server.url) as client:
        client.set("key", "value")
    server.stop()
    assert is_gone(who)
    assert read_server_file("n") is None
    with connected(ensure("n").url) as client:
        assert client.get("key") == b"value"


def test_stop_from_one_who_only_found_it_works_too():
    who = of(ensure("n").pid)
    found = find("n")
    assert found
    found.stop()
    assert is_gone(who)
    found.stop()  # Once more does no harm.


def test_a_taken_usual_port_means_another_port(listener, monkeypatch):
    monkeypatch.setattr(embedded, "DEFAULT_PORT", listener.getsockname()[1])
    server = ensure("n", usual_port=True)
    assert server.port != listener.getsockname()[1]


def test_the_usual_port_is_left_to_others_unless_it_is_asked_for(usual_port):
    first = ensure("n", usual_port=True)
    first.stop()
    assert ensure("n").port != usual_port


def test_a_taken_port_that_was_named_is_an_error(listener):
    taken = listener.getsockname()[1]
    with pytest.raises(EmbeddedError, match=f"Port {taken} is in use: leave the port out, name another"):
        ensure("n", port=taken)


def test_a_port_that_is_taken_at_the_last_moment_means_another_try(listener, monkeypatch):
    monkeypatch.setattr(embedded_ports, "is_free", lambda port: True)
    monkeypatch.setattr(embedded, "DEFAULT_PORT", listener.getsockname()[1])
    assert ensure("n", usual_port=True).port != listener.getsockname()[1]
    with ensure("t", throwaway=True, port=free_port()) as server, connected(server.url) as client:
        assert client.ping()
    with pytest.raises(EmbeddedError, match="is in use: somebody took it just now"):
        ensure("m", port=listener.getsockname()[1])


def test_a_running_one_on_another_port_than_the_named_is_an_error():
    server = ensure("n")
    with pytest.raises(EmbeddedError, match=f"already runs on port {server.port}"):
        ensure("n", port=free_port())


def test_a_note_whose_process_is_gone_or_whose_port_another_has_is_not_believed(listener):
    first = ensure("n")
    note = server_file("n").read_bytes()
    first.stop()
    server_file("n").touch(mode=0o600)
    server_file("n").write_bytes(
        note.replace(str(first.port).encode(), str(listener.getsockname()[1]).encode())
    )
    assert find("n") is None
    assert ensure("n").started


def test_a_frozen_server_is_not_joined_by_a_second_one_on_its_data():
    server = ensure("n")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(EmbeddedError, match=f"process {server.pid}.* does not answer: end it"):
            ensure("n")
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert ensure("n").pid == server.pid


def test_a_deleted_note_does_not_lead_to_a_second_server_on_the_same_data():
    server = ensure("n")
    server_file("n").unlink()
    with pytest.raises(EmbeddedError, match="does not answer: end it"):
        ensure("n")
    os.kill(server.pid, signal.SIGTERM)
    assert ensure("n").started


def test_beyond_loopback_it_lets_others_in_with_the_password_only():
    host = embedded.outward_address()
    server = ensure("n", listen="0.0.0.0")
    assert server.join_url == server.url.replace("127.0.0.1", host)
    with connected(server.join_url) as client:
        assert client.set("key", "value")
    with connected(f"redis://{host}:{server.port}") as stranger, pytest.raises(redis.ResponseError):
        stranger.get("key")


def test_one_that_runs_on_loopback_can_be_opened_later():
    host = embedded.outward_address()
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
        ({"port": 0}, "0 is no port"),
        ({"port": 70000}, "70000 is no port"),
    ],
)
def test_an_address_that_cannot_be_is_said_before_anything_starts(options, sentence):
    with pytest.raises(EmbeddedError, match=sentence):
        ensure("n", **options)
    assert find("n") is None


def test_a_name_that_cannot_be_is_refused():
    with pytest.raises(JobError):
        ensure("../up")


def test_a_directory_that_cannot_be_written_is_named(state_dir):
    state_dir.parent.mkdir(exist_ok=True)
    state_dir.write_text("a file where the directory should be")
    with pytest.raises(
        EmbeddedError, match=r"Cannot keep the embedded Valkey's data in .*MUTITASK_STATE_DIR"
    ):
        ensure("n")


def test_a_valkey_that_ends_at_its_start_is_quoted():
    server = ensure("n")
    server.stop()
    next((server.directory / "data").rglob("*.manifest")).write_text("nonsense\n")
    with pytest.raises(EmbeddedError, match=r"ended at its start \(.+\): see .*valkey.log"):
        ensure("n")


def test_where_no_valkey_comes_along_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match="pass --redis with the address"):
        ensure("n")


def test_a_directory_with_spaces_and_quotes_in_its_name_will_do(tmp_path):
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


def test_a_throwaway_server_is_noted_nowhere_and_leaves_nothing(state_dir):
    with ensure("n", throwaway=True) as server:
        who = of(server.pid)
        with connected(server.url) as client:
            assert client.set("key", "value")
        assert find("n") is None
    assert is_gone(who)
    assert not server.directory.exists()
    assert not state_dir.exists()


def test_a_throwaway_server_ends_with_the_program_that_started_it_not_with_the_thread(tmp_path):
    """It lives through the end of the thread that started it, and dies with a `kill -9` of the process."""
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
        who = of(int(pid))
        with connected(url) as client:
            assert client.ping()
        program.kill()
    wait_until(lambda: is_gone(who))
    wait_until(lambda: not Path(directory).exists())


def test_the_default_address_counts_as_taken_unless_it_is_another_namespaces_embedded_server(
    monkeypatch, listener
):
    def default_at(port: int) -> None:
        monkeypatch.setattr(embedded, "DEFAULT_URL", f"redis://localhost:{port}/0")

    default_at(free_port())
    assert not embedded.default_redis_listens()
    default_at(ensure("n").port)
    assert not embedded.default_redis_listens()
    default_at(listener.getsockname()[1])
    assert embedded.default_redis_listens()
    server = RealServer()
    try:
        default_at(server.start().port)
        assert embedded.default_redis_listens()
    finally:
        server.remove()
