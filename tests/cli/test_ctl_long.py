"""`mutitask ctl` with a command that takes long: progress on stderr, and Ctrl+C stops it in order."""

from __future__ import annotations

import gc
import json
import re
import signal
from collections.abc import Callable

import pytest
import redis

import mutitask_tui.cli.ctl as ctl_command
from mutitask_tui.server.watch import current_watch
from tests.protocol.world import World
from tests.server.test_failed_pages import add_failed
from tests.support.programs import Program
from tests.support.waiting import wait_until

MANY = 150_000
"""So many that a reload takes longer than it takes to send a signal."""


def test_ctrl_c_stops_a_reload_of_all_and_the_rest_stays(
    client: redis.Redis, redis_url: str, spawn: Callable[..., Program]
) -> None:
    world = World(client)
    for first in range(0, MANY, 10_000):
        add_failed(world, 0, {n: 1000 + n for n in range(first, first + 10_000)})
    program = spawn(
        ["mutitask", "ctl", "reload_all_fail_tasks", "--yes", "--json", "--redis", redis_url,
         "--name", world.keys.name],
    )  # fmt: skip
    wait_until(lambda: client.llen(world.at.waiting), 20, every=0.001)
    program.process.send_signal(signal.SIGINT)
    assert program.wait() == 130, program
    answer = json.loads(program.stdout)
    assert answer["stopped"] is True and 0 < answer["reloaded"] < MANY
    assert re.fullmatch(
        r"stopped: [\d,]+ of 150,000 failed tasks went back; the others stay in .*", answer["text"]
    )
    assert client.llen(world.at.waiting) == answer["reloaded"]
    assert client.hlen(world.at.failed) == MANY - answer["reloaded"]
    assert "Traceback" not in program.stderr


def test_progress_goes_to_stderr_and_a_second_ctrl_c_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(ctl_command, "_PROGRESS_S", 0.0)
    # A shell starts programs in the background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    # Within a callback of the garbage collector the exception would be lost.
    gc.disable()
    request.addfinalizer(gc.enable)
    with pytest.raises(KeyboardInterrupt), ctl_command._interruptible():
        current_watch().tell("reloaded", 120_000, 1_000_000)
        signal.raise_signal(signal.SIGINT)
        assert current_watch().stopped
        signal.raise_signal(signal.SIGINT)
    assert capsys.readouterr().err == "reloaded 120,000 of 1,000,000 (Ctrl+C stops it)\n"
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
