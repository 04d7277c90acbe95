"""A printed `worker-agent` line is one shell command, whatever the name of the job file is."""

from __future__ import annotations

import shlex

import pytest

from mutitask_tui.launch.redis_location import RedisLocation
from mutitask_tui.server.commands.redis_backend import RedisBackend

HOSTILE = ["we ird;touch x $(y) 'q'.py", "a`b`.py", "$HOME.py", "a\nb.py", "-x.py", "plain.py"]


@pytest.mark.parametrize("job", HOSTILE)
def test_the_join_line_is_one_command(job: str) -> None:
    location = RedisLocation("redis+sentinel://u:p@one,two/ours/0?sentinel_username=x&sentinel_password=y")
    words = shlex.split(location.join_line(job, "pages", with_password=True))
    assert words == [
        "worker-agent", job, "--redis", location.url, "--name", "pages", "--device", "auto",
    ]  # fmt: skip
    hidden = shlex.split(location.join_line(job, "default", with_password=False))
    assert hidden[:2] == ["worker-agent", job] and "p@" not in hidden[3].partition("://")[2].partition("@")[0]


def test_an_attached_views_line_is_one_command() -> None:
    backend = RedisBackend("redis+sentinel://one,two/ours/0?sentinel_username=x&sentinel_password=y", "pages")
    words = shlex.split(backend.join_line())
    assert words[:3] == ["worker-agent", "JOB", "--redis"] and words[4:6] == ["--name", "pages"]
