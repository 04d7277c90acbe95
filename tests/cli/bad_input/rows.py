"""Rows of bad input: each a command line with the exit status and the sentence that it must end with.

`docs/errors.md` has a row for each sentence. `tests/cli/test_docs.py` checks the sentences that no row here produces.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.cli import errors_page
from tests.cli.tools import mutitask, write_job
from tests.support.programs import Program
from worker_agent.protocol.keys import Keys

SECRET = "s3cret-of-the-url"
GOOD = """
def tasks():
    yield from range(5)
def task_function(task):
    return task
"""
TWO_CHANNELS = """
def one():
    yield from range(5)
tasks = [one, one]
def task_function(task):
    return task
"""


@dataclass(frozen=True)
class Row:
    """A command line with placeholders such as {url} and {job}, and how it must end."""

    id: str
    line: str
    status: int
    sentence: str
    """A regular expression that its output must match once."""
    job: str = GOOD
    process: bool = False
    """Whether it runs in a process of its own; else it runs in this one."""


@dataclass(frozen=True)
class Servers:
    """The Redis servers of the rows: the values of {url} and so on, and the passwords that must never be printed."""

    values: dict[str, str]
    secrets: tuple[str, ...]
    client: redis.Redis

    def fill(self, text: str) -> str:
        """Replace the placeholders."""
        for name, value in self.values.items():
            text = text.replace("{" + name + "}", value)
        return text


UNREACHABLE = (
    r"Redis at 127\.0\.0\.1:{dead}/0 cannot be reached: Connection refused; "
    r"check that it runs and can be reached from here, or name another with --redis"
)
HELD = "--redis {url} --name held"


def expect_refusal(row: Row, servers: Servers, spawn: Callable[..., Program], folder: Path) -> None:
    """Run the row's command line: it must end as the row says, print no traceback and no password, and lose nothing."""
    job = write_job(folder, row.job)
    words = servers.fill(row.line.replace("{job}", str(job))).split()
    before = stored_tasks(servers.client)

    if row.process:
        program = spawn(words, cwd=folder)
        status, out = program.wait(), program.stdout + program.stderr
    else:
        result = mutitask(*words[1:])
        status, out = result.status, result.stdout + result.stderr

    assert status == row.status, out
    text = " ".join(out.split())
    assert len(re.findall(servers.fill(row.sentence), text)) == 1, out
    assert errors_page.holds(text), f"docs/errors.md has no row for: {text}"
    assert "Traceback" not in out and 'File "' not in out
    assert not any(secret in out for secret in servers.secrets)
    assert stored_tasks(servers.client) == before


def stored_tasks(client: redis.Redis) -> list[Any]:
    """Everything in Redis that could be lost."""
    found: list[Any] = []
    for name, number in (("held", 0), ("held", 1), ("live", 0), ("old", 0), ("bare", 0)):
        at = Keys(name).channel(number)
        found += [
            client.lrange(at.waiting, 0, -1), client.hgetall(at.failed), client.lrange(at.results, 0, -1),
            client.hgetall(at.claim_counts), client.hgetall(at.counters),
        ]  # fmt: skip
    return found
