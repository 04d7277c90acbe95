"""A line to type elsewhere is typed into a shell: whatever a job is called, it says what it says and no more."""

from __future__ import annotations

import shlex

import pytest

from mutitask_tui.launch.open_namespace import Place, join_line
from mutitask_tui.server.commands.redis_backend import RedisBackend

HOSTILE = ["we ird;touch x $(y) 'q'.py", "a`b`.py", "$HOME.py", "a\nb.py", "-x.py", "plain.py"]


@pytest.mark.parametrize("job", HOSTILE)
def test_the_join_line_is_one_command(job: str) -> None:
    place = Place("redis+sentinel://u:p@one,two/ours/0?sentinel_username=x&sentinel_password=y", None)
    words = shlex.split(join_line(place, job, "pages", with_password=True))
    assert words == [
        "worker-agent", job, "--redis", place.url, "--name", "pages", "--device", "auto", "--channel", "0",
    ]  # fmt: skip
    hidden = shlex.split(join_line(place, job, "default", with_password=False))
    assert hidden[:2] == ["worker-agent", job] and "p@" not in hidden[3].partition("://")[2].partition("@")[0]


def test_an_attached_views_line_is_one_command() -> None:
    backend = RedisBackend("redis+sentinel://one,two/ours/0?sentinel_username=x&sentinel_password=y", "pages")
    words = shlex.split(backend.join_line())
    assert words[:3] == ["worker-agent", "JOB", "--redis"] and words[4:6] == ["--name", "pages"]
