"""Another program with full rights may write anything anywhere: MutiTask shows it as foreign, or reports it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from mutitask_tui.server.commands.redis_backend import RedisBackend
from tests.cli.tools import CommandResult, Stack, mutitask, no_agents_left
from tests.security.fuzzing import SCRAPS
from tests.support.programs import Program
from tests.support.waiting import wait_until
from worker_agent.protocol import PROTOCOL, list_item, wire
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.keys import Keys
from worker_agent.protocol.recovery import recover_and_promote

__all__ = ["no_agents_left"]

NAME = "strangers"
KEYS = Keys(NAME)
AT = KEYS.channel(0)
GARBAGE = [
    b"",
    b"\x00",
    b"\xff" * 40,
    b"[bold]x[/]\x1b[31m\n",
    b"9" * 40,
    b"-1",
    b"nan",
    b"1e999",
    *SCRAPS[-4:],
]

SOME_TIME = re.compile(rb"1[0-9]{12}")
"""A time in ms since the epoch."""


@pytest.fixture
def stack(redis_url: str) -> Iterator[Stack]:
    with Stack(redis_url, NAME, iter(range(20)), devices=2, autostart=True, lease_ms=10_000) as stack:
        stack.agent(0, task_function=lambda task: task)
        stack.until(lambda s: s.channels[0].done == 20)
        yield stack


def status() -> CommandResult:
    return mutitask("status", "--redis", URL[0], "--name", NAME)


URL: list[str] = []


@pytest.fixture(autouse=True)
def _url(redis_url: str) -> None:
    URL[:] = [redis_url]


def look_everywhere(url: str) -> list[str]:
    """Send every query of a dashboard. Return the messages of those that failed."""
    link = RedisBackend(url, NAME)
    errors: list[str] = []
    questions: list[Callable[[], Any]] = [
        link.snapshot, lambda: link.failed_tasks(None, 0, 50), lambda: link.fail_groups(None),
        lambda: link.waiting_tasks(0, 50), lambda: link.last_results(0, 50), lambda: link.device_log(0),
        lambda: link.task_lines(0), lambda: link.running_task("a-stranger", 0, "r" * 20),
        lambda: [link.running_task(d.actor, 0, task.id) for d in link.snapshot().devices for task in d.tasks],
        link.history, lambda: [link.failed_task(0, task.id) for task in link.failed_tasks(0, 0, 50)],
    ]  # fmt: skip
    for question in questions:
        try:
            question()
        except MutiTaskError as error:
            errors.append(str(error))
    return errors


def still_works(stack: Stack, client: redis.Redis) -> None:
    """Expect that a newly pushed task runs and that commands work."""
    done = int(client.hget(AT.agent_counters, "done") or 0)
    client.rpush(AT.waiting, list_item.header(stack.core.run.id, 777) + wire.pack(5))
    stack.until(lambda s: s.channels[0].done > done)
    assert stack.done("detect_one", 0)["devices"]["0"]["state"] == "running"


def test_foreign_items_are_kept_as_they_are_and_counted(stack: Stack, client: redis.Redis) -> None:
    items = [item for item in (*GARBAGE, *SCRAPS) if item] + [
        list_item.header("run12345", 5)[:-1], list_item.header("run12345", 6)[:-1] + b"Z" + b"x", b"M1" + b"\xff" * 40,
    ]  # fmt: skip
    odd = [
        list_item.header("run12345", n) + bytes_
        for n, bytes_ in enumerate((b"", b"\xc1", b"\xdd\xff\xff\xff\xff"))
    ]
    client.rpush(AT.waiting, *items, *odd)
    stack.until(lambda s: s.channels[0].failed == len(items) + len(odd) and s.channels[0].open == 0)
    channel = stack.channel()
    assert channel.foreign == len(items)
    assert set(client.hvals(AT.failed)) >= set(items)
    stages = [task.stage for task in RedisBackend(stack.url, NAME).failed_tasks(0, 0, 100)]
    assert stages.count("foreign") == len(items) and stages.count("decode") == len(odd)
    assert look_everywhere(stack.url) == []
    still_works(stack, client)


@pytest.mark.parametrize(
    "key",
    [
        AT.results,
        AT.history,
        KEYS.device_log(0),
        KEYS.device_lines(0),
        KEYS.server_token,
        KEYS.device_token(0),
    ],
)
def test_garbage_in_a_list_does_no_harm(stack: Stack, client: redis.Redis, key: str) -> None:
    client.rpush(key, *GARBAGE, *SCRAPS)
    assert look_everywhere(stack.url) == []
    assert status().status == 0
    export = mutitask("results", "export", "--redis", stack.url, "--name", NAME)
    assert len(export.lines) == client.llen(AT.results)
    still_works(stack, client)


@pytest.mark.parametrize("desired", ["devices", "channels", "server", "stop", "detect", "assign"])
def test_garbage_in_the_desired_state_does_no_harm(stack: Stack, client: redis.Redis, desired: str) -> None:
    key = f"{KEYS.prefix}:wish:{desired}"
    for number, garbage in enumerate(GARBAGE):
        client.hset(key, mapping={garbage or b"empty": garbage, f"skip:{number}": garbage, b"7": garbage})
    client.hset(key, mapping={b"quit": b"\xff\xfe", b"skip:0": b"9" * 400, b"skip:99": b"1"})
    assert look_everywhere(stack.url) == []
    assert status().status == 0
    still_works(stack, client)
    ends: set[float | None] = set()

    def renewed_twice() -> bool:
        """Return whether the lease was renewed twice. The server reads the desired state after each renewal."""
        ends.add(client.zscore(KEYS.server_lease, stack.core._broker.actor.id))
        return len(ends) > 2

    wait_until(renewed_twice, 4)
    assert not stack.core.ended.is_set()


def test_garbage_assigned_to_a_device_does_no_harm(stack: Stack, client: redis.Redis) -> None:
    for garbage in (*GARBAGE, *SCRAPS, b"0,", b"0,0", b"99999999", b"0,99999", b"ALL", "\u0663".encode()):
        client.hset(KEYS.desired_assignments, "0", garbage)
        client.rpush(KEYS.device_token(0), "1")
        wait_until(lambda: not client.llen(KEYS.device_token(0)), what="the agent reads its desired state")
        assert look_everywhere(stack.url) == []
    still_works(stack, client)
    assert status().status == 0


def test_garbage_in_the_events_does_no_harm(stack: Stack, client: redis.Redis) -> None:
    for garbage in (*GARBAGE, *SCRAPS):
        client.rpush(KEYS.events, garbage, b"1700000000000" + garbage, b"1700000000000" + wire.pack(garbage))
        client.rpush(KEYS.events, b"1700000000000" + wire.pack([garbage, garbage, garbage]))
    assert look_everywhere(stack.url) == []
    still_works(stack, client)


def test_garbage_in_a_report_does_no_harm(stack: Stack, client: redis.Redis) -> None:
    for number, garbage in enumerate((*GARBAGE, *SCRAPS)):
        client.hset(KEYS.devices, mapping={str(number + 1): garbage, garbage: garbage})
        client.hset(KEYS.devices, str(number + 100), b"1700000000000" + garbage)
    client.hset(KEYS.fleet, "devices", 130)
    assert look_everywhere(stack.url) == []
    assert status().status == 0
    still_works(stack, client)


def test_garbage_among_the_agents_and_leases_does_no_harm(stack: Stack, client: redis.Redis) -> None:
    for number, garbage in enumerate(GARBAGE):
        client.hset(KEYS.agents, mapping={garbage or b"e": garbage, str(number + 20): garbage})
        client.zadd(KEYS.leases, {garbage: 5, b"a-" + garbage: 5, b"a0-" + garbage: 5})
        client.zadd(AT.agents, {garbage: 1})
    assert look_everywhere(stack.url) == []
    client.delete(AT.agents)
    still_works(stack, client)


# Malformed values of these numbers end a running server and the heartbeats of agents: SECURITY.md, "What is known".
NUMBERS = [
    "channels",
    "started_ms",
    "lease_ms",
    "retries",
    "retry_delay_ms",
    "results_max",
]


def test_garbage_in_the_fleets_numbers_does_no_harm(stack: Stack, client: redis.Redis) -> None:
    for garbage in (*GARBAGE, *SCRAPS, b"x", b"nan", b"inf", b"-1", b"9" * 4400, b"999999999999"):
        client.hset(KEYS.fleet, "devices", garbage)
        assert look_everywhere(stack.url) == []
        assert [device.id for device in stack.snapshot().devices] == [0]
        client.hset(KEYS.fleet, "swept_ms", garbage)
        # Any heartbeat may find that a sweep is due and write the time, also before this test does.
        if stack.core._broker.renew_server_lease():
            recover_and_promote(stack.core._broker, None)
        assert SOME_TIME.fullmatch(client.hget(KEYS.fleet, "swept_ms")), garbage
    client.hset(KEYS.fleet, "swept_ms", GARBAGE[0])
    wait_until(
        lambda: SOME_TIME.fullmatch(client.hget(KEYS.fleet, "swept_ms")), what="a sweep by server or agent"
    )
    assert stack.done("add_device")
    still_works(stack, client)


def test_a_malformed_number_in_meta_is_reported_in_one_sentence(stack: Stack, client: redis.Redis) -> None:
    agent, thread = stack.agents[0]
    agent.stop()
    thread.join(10)
    stack.core.stop()
    for field in NUMBERS:
        kept = client.hget(KEYS.meta, field)
        for garbage in (b"x", b"\xff", b""):
            client.hset(KEYS.meta, field, garbage)
            for words in (["status"], ["ctl", "pause_all"], ["results", "export"]):
                result = mutitask(*words, "--redis", stack.url, "--name", NAME)
                assert result.status in (0, 1, 3), (field, garbage, result)
                assert result.stderr.count("\n") == (result.status != 0), result
                assert result.status == 0 or "choose another --name" in result.stderr, result
        if kept is None:
            client.hdel(KEYS.meta, field)
        else:
            client.hset(KEYS.meta, field, kept)


WRONG_KIND = [
    KEYS.meta, KEYS.leases, KEYS.agents, KEYS.devices, KEYS.events, KEYS.desired_devices, KEYS.desired_channels,
    KEYS.desired_server, KEYS.fleet, KEYS.server_lease, AT.agent_counters, AT.counters, AT.waiting,
    AT.delayed, AT.failed, AT.results, AT.claim_counts,
]  # fmt: skip


def test_a_key_of_another_type_is_reported_in_one_sentence_and_work_continues_without_it(
    stack: Stack, client: redis.Redis
) -> None:
    for key in WRONG_KIND:
        kept = client.dump(key)
        client.set(key, "a stranger's")
        result = status()
        refusals = look_everywhere(stack.url)
        client.delete(key)
        if kept:
            client.restore(key, 0, kept)
        assert result.status == 3 and result.stderr.count("\n") == 1, (key, result)
        assert (
            "holds a key of this namespace that MutiTask did not write; choose another --name"
            in result.stderr
        )
        assert all("MutiTask did not write" in text for text in refusals), (key, refusals)
        assert status().status == 0


# Versions

MAJOR, MINOR = PROTOCOL.split(".")
JOB = "def tasks():\n    yield 1\ndef task_function(task):\n    return task\n"


@pytest.mark.parametrize(
    "theirs", [f"{MAJOR}.{int(MINOR) + 1}", f"{int(MAJOR) + 1}.0", "0.9", "new", "\xff[b]"]
)
def test_a_namespace_of_another_version_refuses_every_program_and_names_both_versions(
    redis_url: str, client: redis.Redis, tmp_path: Path, spawn: Callable[..., Program], theirs: str
) -> None:
    with Stack(redis_url, "versions", iter(range(3))) as stack:
        supervisor = stack.core._supervisor
    assert supervisor is not None
    supervisor.join(5)  # Its last sweep writes to meta.
    client.hset(Keys("versions").meta, "protocol", theirs)
    before = {key: client.dump(key) for key in client.keys("{mt:versions}*")}
    job = tmp_path / "job.py"
    job.write_text(JOB)
    at = ["--redis", redis_url, "--name", "versions"]
    agent = spawn(["worker-agent", job, *at])
    server = spawn(["mutitask", "run", job, "--headless", "--fresh", *at])
    ctl = mutitask("ctl", "pause_all", *at)
    assert (agent.wait(20), server.wait(20), ctl.status) == (6, 6, 6)
    for text in (agent.stderr, server.stderr, ctl.stderr):
        assert f"speaks protocol {theirs} and this program {PROTOCOL}" in text
        assert text.count("\n") == 1 and "Traceback" not in text
    assert {key: client.dump(key) for key in client.keys("{mt:versions}*")} == before


def test_another_patch_version_of_the_same_protocol_works_together(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The protocol version has no patch number. Agents only report their version, and no program compares it."""
    monkeypatch.setattr("worker_agent.agent.heartbeat._version", lambda: "0.1.99")
    with Stack(redis_url, NAME, iter(range(5)), devices=1, autostart=True) as stack:
        stack.agent(0, task_function=lambda task: task + 1)
        stack.until(lambda s: s.channels[0].done == 5 and s.devices[0].version == "0.1.99")
    assert PROTOCOL.count(".") == 1
