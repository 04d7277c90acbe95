"""The command `assign`: it writes which channels devices should serve, and refuses what cannot be served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from mutitask_tui import Server
from mutitask_tui.server.commands.batches import run_many
from mutitask_tui.server.commands.commander import Commander
from mutitask_tui.server.commands.registry import CommandError, find, parse_line
from tests.cli.tools import Stack
from worker_agent.protocol.keys import Keys

NAME = "assigning"
KEYS = Keys(NAME)
ASSIGN = find("assign")


@pytest.fixture
def commander(redis_url: str) -> Iterator[Commander]:
    """The commands on a namespace with three channels and three devices without agents."""
    with Stack(redis_url, NAME, iter("a"), iter("b"), iter("c"), devices=3):
        yield Commander(redis_url, NAME)


def assigned(client: redis.Redis) -> dict[int, str]:
    return {int(device): text.decode() for device, text in client.hgetall(KEYS.desired_assignments).items()}


@pytest.mark.parametrize(
    ("channels", "text", "numbers", "names"),
    [
        ("0,2", "0,2", [0, 2], "TaskChannel0, TaskChannel2"),
        ([2, 0], "2,0", [2, 0], "TaskChannel2, TaskChannel0"),
        (range(1, 3), "1,2", [1, 2], "TaskChannel1, TaskChannel2"),
        (1, "1", [1], "TaskChannel1"),
        ("all", "all", [0, 1, 2], "all channels"),
    ],
)
def test_it_writes_the_channels_and_wakes_the_agent(
    commander: Commander, client: redis.Redis, channels: Any, text: str, numbers: list[int], names: str
) -> None:
    outcome = commander.assign(1, channels)
    assert outcome.text == f"asked Device1 to serve {names}"
    assert outcome.data == {"devices": [1], "channels": numbers}
    assert assigned(client) == {1: text}
    assert client.llen(KEYS.device_token(1)) == 1


@pytest.mark.parametrize(
    ("device", "channels", "why"),
    [
        (0, "7", "there is no TaskChannel7; there is TaskChannel0 to TaskChannel2"),
        (0, [0, 3], "there is no TaskChannel3; there is TaskChannel0 to TaskChannel2"),
        (9, "0", "there is no Device9; there is Device0 to Device2"),
        (0, "", "channels are numbers such as 0 or 0,2, or all, not ''"),
        (0, "0,1,0", "a channel is named twice in '0,1,0'"),
        (0, 999_999, "there are never more than 100,000 channels"),
    ],
)
def test_channels_that_cannot_be_served_are_refused_and_change_nothing(
    commander: Commander, client: redis.Redis, device: int, channels: Any, why: str
) -> None:
    with pytest.raises(CommandError) as refused:
        commander.assign(device, channels)
    assert str(refused.value) == why
    assert assigned(client) == {}


@pytest.mark.parametrize("value", [1.5, True, -1, [], ["0"], None, {0}, 2**60])
def test_a_program_gets_a_type_error_for_a_value_of_another_type(commander: Commander, value: Any) -> None:
    with pytest.raises(TypeError, match="channels must be 'all', a number or a list of numbers, not "):
        commander.assign(0, value)


def test_many_devices_are_assigned_in_one_call(
    commander: Commander, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Callable[..., Any]] = []
    call = commander.call
    monkeypatch.setattr(commander, "call", lambda write: (calls.append(write), call(write))[1])
    outcome = run_many(commander, ASSIGN, [(0, "0,2"), (2, "0,2"), (9, "0,2")])
    assert outcome.text == "asked 2 devices to serve TaskChannel0, TaskChannel2"
    assert outcome.data == {"devices": [0, 2], "channels": [0, 2], "asked": 3, "done": 2}
    assert assigned(client) == {0: "0,2", 2: "0,2"}
    assert len(calls) == 2  # The command and its line of the event log.


def test_devices_with_different_channels_are_assigned_one_by_one(
    commander: Commander, client: redis.Redis
) -> None:
    outcome = run_many(commander, ASSIGN, [(0, "0"), (1, "all"), (2, "7")])
    assert outcome.text == (
        "assign on 2 of 3; refused: there is no TaskChannel7; there is TaskChannel0 to TaskChannel2"
    )
    assert assigned(client) == {0: "0", 1: "all"}


def test_a_program_assigns_and_the_event_log_shows_it(commander: Commander, client: redis.Redis) -> None:
    server = Server(3, name=NAME)
    server._url = commander.url  # As after start().
    server.assign(1, [0, 2])  # type: ignore[attr-defined]
    assert assigned(client) == {1: "0,2"}
    texts = [event.text for event in commander.reader.snapshot().events]
    assert "assign 1 0,2 - asked Device1 to serve TaskChannel0, TaskChannel2" in texts


def test_purge_device_forgets_the_assigned_channels(commander: Commander, client: redis.Redis) -> None:
    commander.assign(1, "0")
    commander.purge_device(1)
    assert assigned(client) == {}


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("assign 3 0,2", (3, "0,2")),
        ("assign 3 0, 2", (3, "0,2")),
        ("assign 3 02", (3, "2")),
        ("assign 3 all", (3, "all")),
    ],
)
def test_a_typed_line_becomes_the_usual_text(line: str, values: tuple[int, str]) -> None:
    assert parse_line(line) == (ASSIGN, values)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("assign 3", "usage: assign N CHANNELS"),
        ("assign 3 0 2", "channels are numbers such as 0 or 0,2, or all, not '0 2'"),
        ("assign 3 some", "channels are numbers such as 0 or 0,2, or all, not 'some'"),
        ("assign all 0", "N must be a whole number of 0 or more, not 'all'"),
    ],
)
def test_a_typed_line_with_a_mistake_is_refused_in_one_sentence(line: str, why: str) -> None:
    with pytest.raises(CommandError) as refused:
        parse_line(line)
    assert str(refused.value) == why
