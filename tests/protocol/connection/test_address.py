"""Which Redis is used: addresses, server files, and what of an address is shown."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from worker_agent.protocol.connection.address import (
    BadAddress,
    ServerFile,
    build_url,
    check_name,
    cluster_address,
    dump_server_file,
    parse_multi_host,
    read_server_file,
    redact,
    resolve,
    server_file,
    shown_url,
)
from worker_agent.protocol.connection.address import state_dir as find_state_dir
from worker_agent.protocol.errors import JobError, MutiTaskError
from worker_agent.protocol.identity import Identity, this_process

EMBEDDED_URL = "redis://mutitask:geheim@127.0.0.1:7001/0"


def write_server_file(name: str, *, process: Identity | None = None) -> Path:
    path = server_file(name)
    path.parent.mkdir(parents=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_bytes(
        dump_server_file(
            ServerFile(EMBEDDED_URL, "127.0.0.1", 7001, "mutitask", "geheim", process or this_process())
        )
    )
    return path


@pytest.mark.parametrize("name", ["default", "a", "A-1_b.c", "x" * 64])
def test_plain_names_are_accepted(name: str):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "..", ".", "ä", "a\n", "{a}"])
def test_other_names_are_refused_with_what_is_allowed(name: str):
    with pytest.raises(JobError, match="use 1 to 64 letters, digits, dots, dashes and underscores"):
        check_name(name)


def test_the_environment_variable_sets_the_state_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("MUTITASK_STATE_DIR", str(tmp_path / "own"))
    assert server_file("n") == tmp_path / "own" / "n" / "server.json"


def test_the_state_directory_follows_xdg_and_ignores_a_relative_one(monkeypatch, tmp_path):
    monkeypatch.delenv("MUTITASK_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert find_state_dir() == tmp_path / "mutitask"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert find_state_dir() == Path.home() / ".local" / "state" / "mutitask"


def test_an_explicit_url_wins_over_everything(state_dir, monkeypatch):
    write_server_file("n")
    monkeypatch.setenv("MUTITASK_REDIS_URL", "redis://env/1")
    assert resolve("redis://named/2", "n", host="other") == ("redis://named/2", True)


def test_the_environment_wins_over_host_and_port(state_dir, monkeypatch):
    write_server_file("n")
    monkeypatch.setenv("MUTITASK_REDIS_URL", "redis://env/1")
    assert resolve(None, "n", host="other") == ("redis://env/1", True)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"host": "other"}, "redis://other:6379/0"),
        ({"port": 7000}, "redis://localhost:7000/0"),
        ({"db": 3}, "redis://localhost:6379/3"),
        ({"password": "p@/:?#%"}, "redis://:p%40%2F%3A%3F%23%25@localhost:6379/0"),
        ({"host": "::1"}, "redis://[::1]:6379/0"),
    ],
)
def test_an_explicit_host_port_db_or_password_specifies_the_redis(state_dir, given, url):
    write_server_file("n")
    assert resolve(None, "n", **given) == (url, True)


def test_the_password_comes_back_from_the_url_as_it_went_in():
    from redis.connection import parse_url

    hard = "p@/:?#% &ü"
    assert parse_url(build_url("h", 1, 2, username="u@:", password=hard)) == {
        "host": "h", "port": 1, "db": 2, "username": "u@:", "password": hard,
    }  # fmt: skip


def test_without_an_address_the_embedded_valkey_of_the_namespace_is_found(state_dir):
    write_server_file("n")
    assert resolve(None, "n") == (EMBEDDED_URL, True)
    assert resolve(None, "another") == ("redis://localhost:6379/0", False)


def test_a_file_of_another_machine_in_a_shared_home_is_ignored(state_dir):
    write_server_file("n", process=Identity("elsewhere", 1, "another boot", 1))
    assert read_server_file("n") is None


def test_a_file_survives_a_changed_host_name(state_dir):
    write_server_file(
        "n", process=Identity("old-name", this_process().pid, this_process().boot, this_process().start)
    )
    assert read_server_file("n") == EMBEDDED_URL


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize("mode", [0o644, 0o620, 0o606])
def test_a_file_that_others_can_touch_is_refused(state_dir, mode):
    write_server_file("n").chmod(mode)
    with pytest.raises(MutiTaskError, match=r"not trusted: run `chmod 600 .*server.json`"):
        read_server_file("n")


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(state_dir):
    os.chown(write_server_file("n"), 12345, 12345)
    with pytest.raises(MutiTaskError, match="belongs to another user"):
        read_server_file("n")


@pytest.mark.parametrize("content", ["", "[]", "null", "{}", json.dumps({"url": 1, "pid": "x"}), "\x00\xff"])
def test_a_file_with_other_content_is_refused(state_dir, content):
    write_server_file("n").write_text(content)
    with pytest.raises(MutiTaskError, match=r"server.json does not hold a server's address: delete it"):
        read_server_file("n")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "localhost:6379/0"),
        ("redis://", "***"),
        ("redis://localhost", "localhost:6379/0"),
        ("localhost:7000", "localhost:7000/0"),
        ("redis://user:secret@h:1/2", "h:1/2"),
        ("redis://:secret@[::1]:1/2", "[::1]:1/2"),
        ("redis://:secret@h/?db=4&password=secret", "h:6379/4"),
        ("rediss://user:secret@h:1/2", "rediss://h:1/2"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
        ("unix://user:secret@/run/redis.sock?db=1&password=secret", "/run/redis.sock?db=1"),
        (
            "redis+sentinel://u:secret@a:26379,b:26379/main/0?x=secret",
            "redis+sentinel://a:26379,b:26379/main/0",
        ),
        ("redis+cluster://:secret@a:7000,b:7001", "redis+cluster://a:7000,b:7001"),
        ("redis://:se/secret@h:1", "h:1/0"),
        ("redis://:se@secret@h:1", "h:1/0"),
        ("redis://:se?secret@h:1", "***"),
        ("redis://:se#secret@h:1", "***"),
        ("redis://u@a?secret@h:1", "***"),
        ("redis://:secret", "***"),
        ("redis://u:secret", "***"),
        ("user:secret@h:1", "h:1/0"),
        ("se cret://x", "***"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str):
    assert redact(url) == shown
    assert "secret" not in redact(url)


SENTINELS = (
    "redis+sentinel://user:geheim@one:26380,two,[::1]:26381/ours/3?sentinel_password=auch&socket_timeout=2"
)


def test_an_address_of_sentinels_has_hosts_a_service_and_two_logins():
    found = parse_multi_host(SENTINELS)
    assert found is not None
    assert (found.kind, found.service) == ("sentinel", "ours")
    assert found.hosts == (("one", 26380), ("two", 26379), ("::1", 26381))
    assert found.first_host_url == "redis://user:geheim@one:26380/3?socket_timeout=2"
    assert (found.sentinel_username, found.sentinel_password) == (None, "auch")
    assert "geheim" not in repr(found) and "auch" not in repr(found)


def test_an_address_of_a_cluster_has_nodes():
    found = parse_multi_host("rediss+cluster://:geheim@one:7000,two?ssl_ca_certs=/etc/ca.crt")
    assert found is not None
    assert (found.kind, found.hosts) == ("cluster", (("one", 7000), ("two", 6379)))
    assert found.first_host_url == "rediss://:geheim@one:7000/0?ssl_ca_certs=%2Fetc%2Fca.crt"


@pytest.mark.parametrize(
    "url",
    ["redis://one,two/0", "redis+sentinels://one/ours", "unix:///redis+cluster://x", "", "redis+cluster:/x"],
)
def test_other_addresses_have_one_host(url: str):
    assert parse_multi_host(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://", "redis+cluster://one:7000/1", "redis+cluster://one:99999", "redis+cluster://one:0",
        "redis+cluster://:pw@one two", "redis+cluster://one,,two", "redis+sentinel://one:26379",
        "redis+sentinel://one/", "redis+sentinel://one/ours/x", "redis+sentinel://one/ours/-1",
    ],
)  # fmt: skip
def test_an_address_of_several_hosts_that_cannot_be_read_is_refused(url: str):
    with pytest.raises(BadAddress):
        parse_multi_host(url)


def test_no_password_of_several_hosts_is_shown():
    assert redact(SENTINELS) == "redis+sentinel://one:26380,two,[::1]:26381/ours/3"
    assert redact("rediss+cluster://:geheim@one:7000,two:7001/0?password=geheim") == (
        "rediss+cluster://one:7000,two:7001/0"
    )
    assert redact("redis+cluster://:ge/heim@one:7000") == "redis+cluster://one:7000"


def test_an_address_is_shown_as_it_can_be_typed():
    assert shown_url("redis://:geheim@one:7000/1") == "redis://one:7000/1"
    assert shown_url("redis+cluster://:geheim@one:7000,two:7001") == "redis+cluster://one:7000,two:7001"
    assert cluster_address("one:7000/0") == "redis+cluster://one:7000"
    assert cluster_address("rediss://one:7000/0") == "rediss+cluster://one:7000"


def test_a_password_beside_the_address_goes_to_redis_and_not_to_the_sentinels(
    monkeypatch: pytest.MonkeyPatch,
):
    bare = "redis+sentinel://agent@one,two/ours?sentinel_password=auch"
    assert resolve(bare, "n", password="ge/heim")[0] == (
        "redis+sentinel://agent:ge%2Fheim@one,two/ours?sentinel_password=auch"
    )
    monkeypatch.setenv("MUTITASK_REDIS_PASSWORD", "aus der Umgebung")
    assert resolve("redis+cluster://one,two", "n")[0] == "redis+cluster://:aus%20der%20Umgebung@one,two"
