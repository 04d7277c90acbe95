"""Redis addresses, passwords, users and namespace names that cannot be used."""

# ruff: noqa: E501 (each sentence is on one line, so that it can be searched for)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.bad_input.rows import UNREACHABLE, Row, Servers, expect_refusal
from tests.support.programs import Program

WRONG = r"Redis at 127\.0\.0\.1:{port}/0 refuses the password; pass the right one in --redis"
UNALLOWED = (
    r"Redis at 127\.0\.0\.1:{port}/0 denies this user a right that MutiTask needs \(.*\); "
    r"grant the rights that docs/security\.md lists for its role, or name another user in --redis"
)

ROWS = [
    Row("status, unreachable", "mutitask status --redis {dead_url}", 3, UNREACHABLE, process=True),
    Row("ctl, unreachable", "mutitask ctl pause_all --redis {dead_url}", 3, UNREACHABLE),
    Row("run, unreachable", "mutitask run {job} --headless --redis {dead_url}", 3, UNREACHABLE, process=True),
    Row("results, unreachable", "mutitask results export --redis {dead_url}", 3, UNREACHABLE),
    Row("status, wrong password", "mutitask status --redis {wrong_url}", 3, WRONG, process=True),
    Row("ctl, wrong password", "mutitask ctl pause_all --redis {wrong_url}", 3, WRONG),
    Row("run, wrong password", "mutitask run {job} --headless --redis {wrong_url}", 3, WRONG),
    Row("agent, wrong password", "worker-agent {job} --redis {wrong_url}", 3, WRONG, process=True),
    Row("status, no rights", "mutitask status --redis {weak_url}", 3, UNALLOWED),
    Row("run, no rights", "mutitask run {job} --headless --redis {weak_url}", 3, UNALLOWED),
    Row("agent, no rights", "worker-agent {job} --redis {weak_url}", 3, UNALLOWED, process=True),
    Row(
        "not a URL",
        "mutitask status --redis http://:{secret}@host/1",
        3,
        r"http://host/1 is not an address that can be used(?: \(.*\))?; write redis://\[user:password@\]host:port/db, unix:///path, redis\+sentinel://.* or redis\+cluster://.*",
    ),
    Row(
        "an invalid port",
        "mutitask status --redis redis://:{secret}@127.0.0.1:no/0",
        3,
        r"is not an address that can be used(?: \(.*\))?; write redis://",
    ),
    Row(
        "an invalid URL for an agent",
        "worker-agent {job} --redis nonsense",
        3,
        r"is not an address that can be used(?: \(.*\))?; write redis://",
        process=True,
    ),
    Row(
        "a bad name",
        "mutitask status --name ../x",
        2,
        r"'\.\./x' cannot name a namespace: use 1 to 64 letters, digits, dots, dashes and underscores\.",
    ),
    Row(
        "a bad name for run",
        "mutitask run {job} --name a/b",
        2,
        r"'a/b' cannot name a namespace: use 1 to 64 letters",
    ),
    Row(
        "a bad name for an agent",
        "worker-agent {job} --name a/b",
        2,
        r"'a/b' cannot name a namespace: use 1 to 64 letters",
        process=True,
    ),
    Row(
        "--listen and --redis",
        "mutitask run {job} --listen 127.0.0.2 --redis {url}",
        2,
        r"--listen is for the embedded Valkey; leave out --redis and MUTITASK_REDIS_URL",
    ),
    Row(
        "--listen on an unknown host",
        "mutitask run {job} --headless --listen no.such.host.invalid",
        3,
        r"Cannot listen on 'no\.such\.host\.invalid': it is neither an address nor a known host; use an address of this machine\.",
    ),
    Row(
        "--listen on another machine's address",
        "mutitask run {job} --headless --listen 192.0.2.7",
        3,
        r"Cannot listen on 192\.0\.2\.7: this machine has no such address; use one that it has\.",
    ),
    Row(
        "no known server of that name",
        "mutitask status --name unheard",
        3,
        r"no server of namespace 'unheard' is known on this machine: start one with `mutitask run JOB`, or pass its address with --redis",
    ),
    Row(
        "evicting Redis",
        "mutitask run {job} --headless --redis {evicting}",
        3,
        r"evicts keys when memory runs short, which would lose tasks; set maxmemory-policy to noeviction",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_wrong_redis_options_end_with_their_sentence_and_status(
    row: Row, servers: Servers, spawn: Callable[..., Program], tmp_path: Path
) -> None:
    expect_refusal(row, servers, spawn, tmp_path)
