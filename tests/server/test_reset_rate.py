"""The command `reset_rate`: it writes how many tasks of a channel may start in a time, and everybody shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from mutitask_tui import Server
from mutitask_tui.server.commands.commander import Commander
from mutitask_tui.server.commands.registry import CommandError, find, parse_line
from tests.cli.tools import Stack, mutitask
from worker_agent.protocol.keys import Keys

NAME = "limiting"
KEYS = Keys(NAME)


@pytest.fixture
def commander(redis_url: str) -> Iterator[Commander]:
    """The commands on a namespace with three channels and one device without an agent."""
    with Stack(redis_url, NAME, iter("a"), iter("b"), iter("c"), devices=1):
        yield Commander(redis_url, NAME)


def limits(client: redis.Redis) -> dict[str, str]:
    return {field.decode(): value.decode() for field, value in client.hgetall(KEYS.desired_channels).items()}


def test_it_limits_one_channel_and_wakes_its_agents(commander: Commander, client: redis.Redis) -> None:
    client.delete(KEYS.channel(1).token)
    outcome = commander.reset_rate("10/s", 1)
    assert outcome.text == "tasks of TaskChannel1 are limited to 10/s now"
    assert outcome.data == {"rate": "10/s", "channels": [1]}
    assert limits(client) == {"rate:1": "10 1000"}
    assert client.llen(KEYS.channel(1).token) == 1


def test_it_limits_each_channel_and_off_removes_the_limit(commander: Commander, client: redis.Redis) -> None:
    outcome = commander.reset_rate(" 90/min ")
    assert (
        outcome.text == "tasks of each of TaskChannel0, TaskChannel1, TaskChannel2 are limited to 90/min now"
    )
    assert limits(client) == {f"rate:{channel}": "90 60000" for channel in range(3)}
    assert commander.reset_rate("off", 1).text == "tasks of TaskChannel1 are claimed without a limit"
    assert limits(client) == {"rate:0": "90 60000", "rate:2": "90 60000"}
    assert commander.reset_rate("off").data == {"rate": "off", "channels": [0, 1, 2]}
    assert limits(client) == {}


def test_a_limit_and_a_pause_of_a_channel_are_independent(commander: Commander, client: redis.Redis) -> None:
    commander.reset_rate("1/h", 0)
    commander.pause_channel(0)
    assert limits(client) == {"0": "paused", "rate:0": "1 3600000"}
    commander.start_channel(0)
    assert limits(client) == {"rate:0": "1 3600000"}


def test_the_snapshot_and_status_show_it(commander: Commander, redis_url: str) -> None:
    commander.reset_rate("0.5/s", 2)
    assert [channel.rate_limit for channel in commander.reader.snapshot().channels] == ["", "", "0.5/s"]
    status = mutitask("status", "--redis", redis_url, "--name", NAME)
    lines = {line.partition(":")[0]: line for line in status.stdout.splitlines()}
    assert ", limited 0.5/s; " in lines["TaskChannel2"]
    assert "limited" not in lines["TaskChannel0"]
    data = mutitask("status", "--json", "--redis", redis_url, "--name", NAME).json
    assert [channel["rate_limit"] for channel in data["channels"]] == ["", "", "0.5/s"]


@pytest.mark.parametrize(
    ("rate", "channel", "why"),
    [
        (
            "ten", 0,
            "a rate is a number of tasks per s, min or h, such as 10/s, 0.5/s or 90/min, not 'ten'; "
            "off removes the limit",
        ),
        ("0/s", 0, "a rate is at least 0.01/h, not '0/s'; off removes the limit"),
        ("2000000/s", None, "a rate is at most 1,000,000/s, not '2000000/s'; off removes the limit"),
        ("1/s", 7, "there is no TaskChannel7; there is TaskChannel0 to TaskChannel2"),
    ],
)  # fmt: skip
def test_what_is_no_rate_or_channel_is_refused_and_changes_nothing(
    commander: Commander, client: redis.Redis, rate: str, channel: int | None, why: str
) -> None:
    with pytest.raises(CommandError) as refused:
        commander.reset_rate(rate, channel)
    assert str(refused.value) == why
    assert limits(client) == {}


@pytest.mark.parametrize("value", [10, 0.5, None, True, ["10/s"]])
def test_a_program_gets_a_type_error_for_a_value_of_another_type(commander: Commander, value: Any) -> None:
    with pytest.raises(TypeError, match="a rate is text such as '10/s', not "):
        commander.reset_rate(value)


def test_a_program_sets_it_and_the_event_log_shows_it(commander: Commander, client: redis.Redis) -> None:
    server = Server(1, name=NAME)
    server._url = commander.url  # As after start().
    server.reset_rate("10/s", 2)  # type: ignore[attr-defined]
    assert limits(client) == {"rate:2": "10 1000"}
    texts = [event.text for event in commander.reader.snapshot().events]
    assert "reset_rate 10/s 2 - tasks of TaskChannel2 are limited to 10/s now" in texts


def test_ctl_sets_it(commander: Commander, client: redis.Redis, redis_url: str) -> None:
    said = mutitask("ctl", "reset_rate", "600/min", "0", "--redis", redis_url, "--name", NAME)
    assert said.status == 0 and said.stdout == "tasks of TaskChannel0 are limited to 600/min now\n"
    assert limits(client) == {"rate:0": "600 60000"}


def test_a_typed_line_becomes_the_usual_text() -> None:
    assert parse_line("reset_rate 010/s 2") == (find("reset_rate"), ("10/s", 2))
    assert parse_line("reset_rate off") == (find("reset_rate"), ("off",))
    with pytest.raises(CommandError, match=r"^usage: reset_rate RATE \[C\]$"):
        parse_line("reset_rate")


@pytest.mark.parametrize("stored", [b"", b"nonsense", b"nan 1000", b"10", b"\xff\xfe 5"])
def test_a_limit_that_cannot_be_read_is_not_shown(
    commander: Commander, client: redis.Redis, stored: bytes
) -> None:
    client.hset(KEYS.desired_channels, "rate:0", stored)
    assert commander.reader.snapshot().channels[0].rate_limit == ""


def test_a_new_rate_reaches_agents_that_sleep_until_the_old_one_allows_a_task(redis_url: str) -> None:
    with Stack(
        redis_url, "sleeping", iter(range(40)), autostart=True, rates={"rate:0": "1 3600000"}
    ) as stack:
        stack.agent(0, task_function=lambda task: [task])
        stack.until(lambda s: s.channels[0].done == 1 and s.channels[0].claimed == 0)
        stack.done("reset_rate", "1000/s", 0)
        stack.until(lambda s: s.channels[0].done == 40)
        assert stack.channel().balanced


def test_an_agent_obeys_a_limit_that_is_set_while_it_works(redis_url: str) -> None:
    with Stack(redis_url, "working", iter(range(10_000_000)), autostart=True) as stack:
        stack.agent(0, task_function=lambda task: [task])
        stack.until(lambda s: s.channels[0].done > 50)
        stack.done("reset_rate", "1/h")
        stack.until(lambda s: s.channels[0].claimed == 0 and s.channels[0].waiting == 50)
        held = stack.channel().done
        stack.done("reset_rate", "off")
        stack.until(lambda s: s.channels[0].done > held + 50)
