"""`rediss://` with a private CA and client certificates. Each TLS error is reported in one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.cli.tools import Stack, mutitask, no_agents_left
from tests.support.programs import Program
from tests.support.redis_server import BINARY_VARIABLE, free_port
from tests.support.tls import authority, certificate, tls_binary
from tests.support.waiting import wait_until

__all__ = ["no_agents_left"]

NAME = "tls"
PASSWORD = "of-the-tls-server"
JOB = "def tasks():\n    yield from range(20)\ndef task_function(task):\n    return task + 1\n"


@dataclass(frozen=True)
class Place:
    """A server with a TLS port, a TLS port with an expired certificate, and a plain port."""

    directory: Path
    tls: int
    expired: int
    plain: int

    def url(self, *, ca: str = "ours", client: str = "client", port: int = 0, scheme: str = "rediss") -> str:
        at = f"{self.directory}/"
        files = {"ssl_ca_certs": f"{ca}.crt", "ssl_certfile": f"{client}.crt", "ssl_keyfile": f"{client}.key"}
        given = {key: file for key, file in files.items() if not file.startswith(".")}
        query = "&".join(f"{key}={at}{file}" for key, file in given.items()) if scheme == "rediss" else ""
        return f"{scheme}://:{PASSWORD}@127.0.0.1:{port or self.tls}/0" + (f"?{query}" if query else "")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    binary = tls_binary()
    if binary is None or not shutil.which("openssl"):
        pytest.skip(f"no server with TLS here: install redis-server, or set {BINARY_VARIABLE}")
    directory = tmp_path_factory.mktemp("certificates")
    for ca in ("ours", "theirs"):
        authority(directory, ca)
    loopback = "IP:127.0.0.1,DNS:localhost"
    certificate(directory, "server", "ours", hosts=loopback)
    certificate(directory, "client", "ours", hosts=loopback)
    certificate(directory, "stranger", "theirs", hosts=loopback)
    certificate(directory, "elsewhere", "ours", hosts="DNS:other.example")
    certificate(directory, "expired", "ours", hosts=loopback, ends="20210101000000Z")
    place = Place(directory, free_port(), free_port(), free_port())
    processes = []
    for name, tls, plain in (("server", place.tls, place.plain), ("expired", place.expired, 0)):
        home = directory / f"{name}.d"
        home.mkdir()
        settings = {
            "port": plain, "tls-port": tls, "bind": "127.0.0.1", "requirepass": PASSWORD, "save": '""',
            "tls-cert-file": f"{directory}/{name}.crt", "tls-key-file": f"{directory}/{name}.key",
            "tls-ca-cert-file": f"{directory}/ours.crt", "tls-auth-clients": "yes", "dir": home,
        }  # fmt: skip
        (home / "conf").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        with (home / "log").open("wb") as log:
            processes.append(subprocess.Popen([binary, home / "conf"], stdout=log, stderr=log, stdin=-3))

    def answers() -> bool:
        logs = [(directory / f"{name}.d" / "log").read_text() for name in ("server", "expired")]
        return all("eady to accept connections" in log for log in logs)

    try:
        wait_until(answers, 20)
        yield place
    finally:
        for process in processes:
            process.kill()
            process.wait(10)


@pytest.fixture(autouse=True)
def _empty(place: Place) -> None:
    with redis.Redis.from_url(place.url()) as client:
        client.flushall()


def test_server_agents_and_commands_work_over_tls(
    place: Place, tmp_path: Path, spawn: Callable[..., Program]
) -> None:
    job = tmp_path / "job.py"
    job.write_text(JOB)
    environment = {"MUTITASK_REDIS_URL": place.url()}
    agent = spawn(["worker-agent", job, "--device", "1", "--name", NAME], environment)
    server = spawn(
        ["mutitask", "run", job, "--name", NAME, "--autostart", "--local-agents", "1", "--until-done"], environment
    )  # fmt: skip
    assert server.wait(30) == 0, server
    at = ["--redis", place.url(), "--name", NAME]
    assert mutitask("status", "--json", *at).json["channels"][0]["done"] == 20
    assert len(mutitask("results", "export", *at).lines) == 20
    agent.terminate()
    assert agent.wait(20) == 0, agent
    shown = server.stdout + server.stderr + agent.stderr
    assert f"rediss://127.0.0.1:{place.tls}/0" in shown and PASSWORD not in shown and "ssl_" not in shown


def test_an_address_of_a_cluster_goes_with_tls(place: Place) -> None:
    with Stack(place.url(), NAME, iter(range(3))):
        pass
    nodes = place.url().replace("rediss://", "rediss+cluster://")
    assert mutitask("status", "--redis", nodes, "--name", NAME).status == 0
    stranger = place.url(ca="theirs").replace("rediss://", "rediss+cluster://")
    result = mutitask("status", "--redis", stranger, "--name", NAME)
    assert result.status == 3 and "is not trusted" in result.stderr and result.stderr.count("\n") == 1


def test_an_address_of_sentinels_gives_its_tls_files_to_them_and_to_redis(place: Place) -> None:
    url = place.url().replace("rediss://", "rediss+sentinel://").replace("/0?", "/ours?")
    url += f"&sentinel_password={PASSWORD}"
    result = mutitask("status", "--redis", url, "--name", NAME)
    # This is Redis's own port: the client connects by TLS with its certificate, and finds no Sentinel.
    assert result.status == 3 and "do not answer like Sentinels" in result.stderr, result
    result = mutitask("status", "--redis", url.replace("ours.crt", "theirs.crt"), "--name", NAME)
    assert result.status == 3 and "answers with a master" in result.stderr, result


def test_a_password_file_goes_with_tls(place: Place, tmp_path: Path) -> None:
    with Stack(place.url(), NAME, iter(range(3))):
        pass
    file = tmp_path / "pw"
    file.touch(0o600)
    file.write_text(PASSWORD)
    bare = place.url().replace(f":{PASSWORD}@", "")
    assert mutitask("status", "--redis", bare, "--name", NAME, "--password-file", file).status == 0


WRONG = {
    "another CA": (lambda p: p.url(ca="theirs"), "the certificate of Redis at {} is not trusted"),
    "the system's CAs": (lambda p: p.url(ca=""), "the certificate of Redis at {} is not trusted"),
    "an expired certificate": (lambda p: p.url(port=p.expired), "the certificate of Redis at {} is not trusted"),
    "another host": (
        lambda p: p.url().replace("127.0.0.1", "127.0.0.2"), "cannot be reached"
    ),
    "no client certificate": (lambda p: p.url(client=""), "Redis at {}"),
    "a client certificate of another CA": (lambda p: p.url(client="stranger"), "Redis at {}"),
    "TLS to a plain port": (lambda p: p.url(port=p.plain), "does not speak TLS at that port"),
    "plain to a TLS port": (lambda p: p.url(scheme="redis"), "Redis at {}"),
    "a CA file that is not there": (lambda p: p.url(ca="away"), "cannot be read or do not match"),
    "a key that does not fit": (
        lambda p: p.url().replace("client.key", "server.key"), "cannot be read or do not match"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_each_tls_error_is_reported_in_one_sentence(
    place: Place, case: str, tmp_path: Path, spawn: Callable[..., Program]
) -> None:
    make, says = WRONG[case]
    url = make(place)
    job = tmp_path / "job.py"
    job.write_text(JOB)
    result = mutitask("status", "--redis", url, "--name", NAME)
    server = spawn(["mutitask", "run", job, "--headless", "--name", NAME], {"MUTITASK_REDIS_URL": url})
    assert (result.status, server.wait(30)) == (3, 3), (result, server)
    print(result.stderr)
    for text in (result.stderr, server.stderr):
        assert text.startswith("mutitask: ") and text.count("\n") == 1, text
        assert "Traceback" not in text and PASSWORD not in text
        assert says.partition("{}")[0] in text and says.partition("{}")[2] in text, text
    assert os.environ.get("MUTITASK_REDIS_URL") is None
