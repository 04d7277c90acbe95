"""Only its user can use the embedded Valkey: it has loopback, a password of its own, and private files."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from mutitask_tui.embedded.errors import EmbeddedError
from mutitask_tui.embedded.process import EmbeddedServer
from mutitask_tui.embedded.valkey import ensure
from mutitask_tui.server.files import Untrusted
from mutitask_tui.server.reader import Reader
from mutitask_tui.server.snapshot import Snapshot
from tests.cli.tools import mutitask
from tests.support.programs import Program
from tests.support.redis_server import free_port
from worker_agent.protocol.connection.address import load_server_file, server_file

NOBODY = 65534


@pytest.fixture
def open_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that every user can enter. The state directory in it has only its own rights as protection."""
    place = Path(tempfile.mkdtemp(prefix="mutitask-open-"))
    place.chmod(0o777)
    monkeypatch.setenv("MUTITASK_STATE_DIR", str(place / "state" / "mutitask"))
    yield place
    for note in place.rglob("server.json"):
        if record := load_server_file(note):
            os.kill(record.process.pid, 9)
    shutil.rmtree(place, ignore_errors=True)


def as_nobody(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command as another user."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can be another user")
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return subprocess.run([*drop, *map(str, command)], capture_output=True, text=True, timeout=20, cwd="/")


def listening(port: int) -> set[str]:
    """Return the local addresses on which a program listens at this port, in the kernel's notation."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                found.add(address)
    return found


def test_it_listens_only_on_loopback_by_default(open_place: Path) -> None:
    server = ensure("n", port=free_port())
    assert listening(server.port) == {"0100007F"}


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_its_files_are_private_with_any_umask(
    open_place: Path, spawn: Callable[..., Program], mask: int
) -> None:
    program = f"""
import os
from mutitask_tui.embedded.valkey import ensure
os.umask({mask})
ensure("n", port={free_port()})
"""
    started = spawn(["python", "-c", program])
    assert started.wait(30) == 0, started
    state = open_place / "state"
    paths = [state, *state.rglob("*")]
    assert {"server.json", "password", "users.acl", "valkey.conf", "valkey.log", "data"} <= {
        p.name for p in paths
    }
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_another_user_can_neither_read_nor_change_its_files(open_place: Path) -> None:
    home = ensure("n", port=free_port()).directory
    assert as_nobody("ls", open_place).returncode == 0
    assert as_nobody("ls", home).returncode != 0
    for path in home.rglob("*"):
        for command in (["cat", path], ["rm", "-rf", path], ["cp", "/etc/hostname", path]):
            result = as_nobody(*command)
            assert result.returncode != 0 and result.stdout == "", (command, result)
    assert as_nobody("mv", open_place / "state" / "mutitask", open_place / "mine").returncode != 0
    assert load_server_file(server_file("n")) is not None


def talk(port: int, *lines: str) -> list[str]:
    """Send these lines as another user. Return one answer for each line."""
    script = "".join(
        f"printf '%s\\r\\n' '{line}' >&3; IFS= read -r a <&3; printf '%s\\n' \"$a\"; " for line in lines
    )
    result = as_nobody("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}; {script}")
    assert result.returncode == 0, result
    return [line.strip() for line in result.stdout.splitlines()]


def test_another_user_may_ping_and_nothing_else(open_place: Path) -> None:
    server: EmbeddedServer = ensure("n", port=free_port())
    answers = talk(
        server.port, "PING", "GET {mt:n}:meta", "KEYS *", "INFO", "CONFIG GET *", "ACL LIST", "FLUSHALL",
        "SHUTDOWN", "EVAL return(1) 0", "SUBSCRIBE x", "AUTH mutitask wrong", "AUTH default x", "CLIENT LIST",
        "MONITOR", "REPLICAOF localhost 1", "MODULE LIST", "PING",
    )  # fmt: skip
    assert (answers[0], answers[-1]) == ("+PONG", "+PONG")
    assert all(answer.startswith(("-NOPERM", "-WRONGPASS", "+OK")) for answer in answers[1:-1]), answers
    # A user without a password accepts any password, and may still only ping.
    assert [i for i, answer in enumerate(answers) if answer == "+OK"] == [11]


def test_its_password_is_long_and_different_in_each_namespace(open_place: Path) -> None:
    passwords = set()
    for name in ("a", "b"):
        ensure(name, port=free_port())
        record = load_server_file(server_file(name))
        assert record is not None and len(record.password) >= 32
        passwords.add(record.password)
        with redis.Redis.from_url(record.url) as client:
            users = client.acl_list()
        assert any("user default on nopass" in user and "-@all +ping" in user for user in users), users
        assert not any(record.password in user for user in users)
    assert len(passwords) == 2


# Ownership


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(
    "part", ["", "data", "password", "users.acl", "valkey.conf", "data/appendonlydir", ".."]
)
def test_files_of_another_user_are_refused(open_place: Path, part: str) -> None:
    server = ensure("n", port=free_port())
    server.stop()
    os.chown(server.directory / part, NOBODY, NOBODY)
    with pytest.raises(Untrusted, match="belongs to nobody and not to root: start this as that user"):
        ensure("n", port=free_port())
    result = mutitask("run", open_place / "job.py", "--headless")
    assert result.status == 2  # The command looks for the job first.


def test_a_link_to_another_users_directory_is_refused(open_place: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    theirs = open_place / "theirs"
    theirs.mkdir(mode=0o755)
    os.chown(theirs, NOBODY, NOBODY)
    (open_place / "state" / "mutitask").mkdir(parents=True)
    (open_place / "state" / "mutitask" / "n").symlink_to(theirs)
    with pytest.raises(Untrusted, match="belongs to nobody"):
        ensure("n", port=free_port())


def test_a_state_directory_that_others_can_write_is_refused(open_place: Path) -> None:
    server = ensure("n", port=free_port())
    server.stop()
    (open_place / "state" / "mutitask").chmod(0o777)
    with pytest.raises(Untrusted, match="can be written by other users: run `chmod go-w "):
        ensure("n", port=free_port())


def test_a_stored_password_that_others_could_read_is_refused(open_place: Path) -> None:
    server = ensure("n", port=free_port())
    server.stop()
    (server.directory / "password").chmod(0o644)
    with pytest.raises(Untrusted, match="can be read or written by other users and is not trusted"):
        ensure("n", port=free_port())


JOB = """
import os, time
def tasks():
    yield from range(40)
def task_function(task):
    time.sleep(0.1)
    return task
"""


def test_the_agents_logs_are_private_with_any_umask(
    open_place: Path, spawn: Callable[..., Program], tmp_path: Path
) -> None:
    job = tmp_path / "job.py"
    job.write_text(JOB.replace("range(40)", "range(2)"))
    line = ["mutitask", "run", str(job), "--headless", "--until-done", "--autostart", "--local-agents", "1"]
    program = (
        f"import os, sys; from mutitask_tui.cli.main import main; os.umask(0); sys.argv = {line!r}; main()"
    )
    assert spawn(["python", "-c", program]).wait(60) == 0
    paths = [path for path in (open_place / "state").rglob("*") if path.exists()]
    assert {"device0.log", "device0.ended"} <= {path.name for path in paths}
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


# Removal of the directory while Valkey runs


def test_a_removed_directory_does_not_lead_to_a_second_server(open_place: Path) -> None:
    first = ensure("n", port=free_port())
    shutil.rmtree(first.directory)
    with pytest.raises(
        EmbeddedError, match=rf"\(process {first.pid}\) is still running, but its directory .* was removed"
    ):
        ensure("n")
    assert not first.has_data and first.restore_server_file()
    assert not first.restore_server_file() and not first.has_data
    assert ensure("n").pid == first.pid
    os.kill(first.pid, 9)


def test_a_run_whose_directory_is_removed_reports_it_and_loses_nothing(
    open_place: Path, spawn: Callable[..., Program], tmp_path: Path, wait_until: Callable[..., object]
) -> None:
    job, go = tmp_path / "job.py", tmp_path / "go"
    # The run must not end before everything that is looked at during it.
    job.write_text(JOB.replace("time.sleep(0.1)", f"while not os.path.exists({str(go)!r}): time.sleep(0.01)"))
    home = server_file("default").parent
    line = ["mutitask", "run", job, "--headless", "--until-done", "--autostart", "--local-agents", "1"]
    run = spawn(line)
    wait_until(lambda: "1 of 1 devices running" in run.stderr, 30)
    shutil.rmtree(home)
    wait_until(lambda: "its data is in memory only" in run.stderr, 10)
    assert any("in memory only" in event.text for event in snapshot_of(home).events)
    second = spawn(["mutitask", "run", job, "--headless", "--resume"])
    assert second.wait(30) == 4 and "already has a server" in second.stderr
    go.touch()
    assert run.wait(60) == 0, run
    assert "40 done, 0 failed" in run.stderr and "keeps running, because its data was removed" in run.stderr
    exported = mutitask("results", "export")
    assert len(exported.lines) == 40
    record = load_server_file(home / "server.json")
    assert record is not None
    os.kill(record.process.pid, 9)


def snapshot_of(home: Path) -> Snapshot:
    record = load_server_file(home / "server.json")
    assert record is not None
    return Reader(record.url, "default").snapshot()
