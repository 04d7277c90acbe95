"""Each role of docs/security.md works with exactly the rights of the page, and can do nothing else."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
import redis

from mutitask_tui.server.commands.redis_backend import RedisBackend
from mutitask_tui.server.commands.registry import COMMANDS, Command, CommandError
from mutitask_tui.server.inspector import Inspector
from tests.cli.tools import Stack, double, mutitask, no_agents_left
from tests.security.rights import Roles, denials, made
from tests.support.redis_server import RealServer
from tests.support.waiting import wait_until
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.bodies import body_key, key_prefix
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.redis_errors import NoRights
from worker_agent.protocol.identity import this_process
from worker_agent.protocol.keys import Keys

__all__ = ["no_agents_left"]

pytestmark = pytest.mark.protocol

NAME = "rights"
KEYS = Keys(NAME)


@pytest.fixture
def roles(shared_server: RealServer, client: redis.Redis) -> Iterator[Roles]:
    with made(shared_server, NAME) as users:
        yield users


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a temporary directory, because exports go to the current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(client: redis.Redis) -> dict[bytes, bytes | None]:
    """Return all keys with their dumped values."""
    return {key: client.dump(key) for key in sorted(client.keys("*"))}


def refused(url: str, *command: Any) -> bool:
    """Return whether Redis refuses this command to the user of the URL."""
    with redis.Redis.from_url(url, protocol=3) as user:
        try:
            user.execute_command(*command)
        except redis.exceptions.NoPermissionError:
            return True
    return False


def refused_in_script(url: str, command: str, key: str, *args: str) -> bool:
    """Return whether Redis refuses the command in a script, both with and without the declared key."""
    call = f"return redis.call({', '.join(repr(word) for word in (command, key, *args))})"
    refusals = 0
    with redis.Redis.from_url(url, protocol=3) as user:
        for keys in ([], [key]):
            try:
                user.execute_command("EVAL", call, len(keys), *keys)
            except redis.ResponseError as error:
                refusals += any(word in str(error) for word in ("ermission", "can't"))
    return refusals == 2


# An agent


def test_an_agent_works_with_its_rights(
    shared_server: RealServer, client: redis.Redis, roles: Roles, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "worker_agent")
    with Stack(
        roles.server, NAME, iter(range(30)), iter([]), devices=1, retries=1, retry_delay_ms=50
    ) as stack:
        stack.url = roles.agent
        stack.agent(0)
        stack.agent(3, channel=1)  # A device outside the grid makes the grid larger.
        stack.url = roles.server
        assert stack.done("start_all")
        stack.until(lambda s: s.channels[0].done == 27 and s.channels[0].failed == 3)
        assert stack.done("detect_one", 0)["devices"]["0"]["state"] == "running"
        stack.until(lambda s: s.devices[0].done == 27)
        wait_until(lambda: client.llen(KEYS.device_log(0)), what="the device's log")
        wait_until(lambda: client.llen(KEYS.channel(0).history), what="the history")
        assert any(event.source == "Device0" for event in stack.snapshot().events)
        stack.done("pause_one", 0)
        stack.until(lambda s: s.devices[0].state == "paused")
        stack.done("stop_all")
        stack.until(lambda s: all(device.state == "offline" for device in s.devices))
    assert denials(shared_server) == []


def test_large_tasks_and_results_need_no_other_rights(
    shared_server: RealServer, client: redis.Redis, roles: Roles
) -> None:
    bodies = key_prefix(NAME) + b"*"
    with Stack(
        roles.server, NAME, iter(["large " * 2_000] * 6), devices=1, autostart=True, retries=0
    ) as stack:
        left_behind = body_key(NAME, 0, "otherrun000000000000", "x")
        client.set(left_behind, b"")
        stack.core._new_body_sweep().sweep()
        assert not client.exists(left_behind)
        runs = iter(range(6))
        stack.url = roles.agent
        stack.agent(0, task_function=lambda task: None if next(runs) == 0 else task)
        stack.url = roles.server
        stack.until(lambda s: s.channels[0].done == 5 and s.channels[0].failed == 1)
        assert len(client.keys(bodies)) == 6
        reader = Inspector(roles.dashboard, NAME)
        assert [
            len(result.value) for result in reader.results(0, 0, 9)[1] if not isinstance(result, bytes)
        ] == [12_000] * 5
        [failed] = reader.failed_tasks(0, 0, 9)
        assert reader.failed_task(0, failed.id).payload == "large " * 2_000  # type: ignore[union-attr]
        lines = mutitask("results", "export", "--drain", "--redis", roles.server, "--name", NAME).lines
        assert len(lines) == 5 and len(client.keys(bodies)) == 1
        stack.done("delete_one_fail_task", 0, failed.id)
        assert not client.keys(bodies)
    assert denials(shared_server) == []


def test_agents_recover_a_dead_one_without_a_server(
    shared_server: RealServer, client: redis.Redis, roles: Roles
) -> None:
    with Stack(roles.server, NAME, iter(range(10)), devices=2, autostart=True) as stack:
        lost = Broker(connect(roles.agent), NAME, Actor.agent(), address="here")
        lost.join(1, None, this_process())
        lost.heartbeat(1, wire.pack({}), claims_from=[0])
        stack.until(lambda s: s.channels[0].waiting == 10)
        assert len(lost.settle_and_claim(0, [], 4).items) == 4
        stack.core.stop()
        client.zadd(KEYS.leases, {lost.actor.id: 1})
        stack.url = roles.agent
        stack.agent(0)
        stack.until(lambda s: s.channels[0].open == 0)
        assert stack.channel().balanced
    assert denials(shared_server) == []


DESIRED = ["devices", "channels", "server", "stop", "detect", "assign"]


@pytest.mark.parametrize("desired", DESIRED)
def test_an_agent_cannot_write_the_desired_state(roles: Roles, desired: str) -> None:
    key = f"{KEYS.prefix}:wish:{desired}"
    assert refused(roles.agent, "HSET", key, "0", "running")
    assert refused_in_script(roles.agent, "HSET", key, "0", "running")
    assert refused(roles.agent, "HDEL", key, "0")
    assert refused_in_script(roles.agent, "DEL", key)


@pytest.mark.parametrize("field", ["server", "server_record", "protocol", "results_max"])
def test_an_agent_cannot_write_meta(client: redis.Redis, roles: Roles, field: str) -> None:
    client.hset(KEYS.meta, field, "1.0")
    assert refused(roles.agent, "HSET", KEYS.meta, field, "x")
    assert refused_in_script(roles.agent, "HSET", KEYS.meta, field, "x")
    assert refused(roles.agent, "HDEL", KEYS.meta, field)
    assert refused_in_script(roles.agent, "DEL", KEYS.meta)
    assert not refused(roles.agent, "HGET", KEYS.meta, field)


@pytest.mark.parametrize(
    "command",
    [
        ("LRANGE", "results", "0", "-1"),
        ("HGETALL", "failed"),
        ("HGET", "failed", "x"),
        ("DEL", "waiting"),
        ("DEL", "results"),
    ],
)
def test_an_agent_can_neither_read_results_and_failed_tasks_nor_drop_a_channel(
    client: redis.Redis, roles: Roles, command: tuple[str, ...]
) -> None:
    name, key, *args = command
    assert refused(roles.agent, name, f"{KEYS.prefix}:channel:0:{key}", *args)
    assert refused_in_script(roles.agent, name, f"{KEYS.prefix}:channel:0:{key}", *args)


@pytest.mark.parametrize("role", ["server", "agent", "dashboard"])
def test_no_role_reaches_another_namespace_or_the_servers_settings(roles: Roles, role: str) -> None:
    url = getattr(roles, role)
    for key in (
        Keys("other").meta, Keys(f"{NAME}2").meta, f"{KEYS.prefix[:-1]}x}}:meta", "mt", f"{NAME}:meta"
    ):  # fmt: skip
        assert refused(url, "HGET", key, "run")
        assert refused(url, "HSET", key, "run", "x")
        assert refused_in_script(url, "HGET", key, "run")
    for key in ("mt:other:body:0:x:y", f"mt:{NAME}2:body:0:x:y", f"mt:{NAME}:other"):
        assert refused(url, "MGET", key) and refused(url, "MSET", key, "x") and refused(url, "UNLINK", key)
    # A server looks for bodies that no task needs any more. It sees the names of all keys.
    assert refused(url, "SCAN", "0") is (role != "server")
    for command in (
        ["CONFIG", "GET", "*"], ["FLUSHALL"], ["KEYS", "*"], ["ACL", "LIST"], ["SHUTDOWN"],
        ["SCRIPT", "FLUSH"], ["MONITOR"], ["CLIENT", "LIST"], ["PUBLISH", "c", "x"],
        ["SUBSCRIBE", "c"], ["FUNCTION", "LIST"], ["SAVE"], ["REPLICAOF", "h", "1"],
    ):  # fmt: skip
        assert refused(url, *command), command


def test_commands_with_an_agents_rights_are_refused_with_one_sentence(
    client: redis.Redis, roles: Roles
) -> None:
    with Stack(roles.server, NAME, iter(range(5)), devices=1):
        pass
    before = client.hgetall(KEYS.desired_devices)
    result = mutitask("ctl", "start_all", "--redis", roles.agent, "--name", NAME)
    assert result.status == 3 and result.stdout == ""
    assert_one_sentence(result.stderr)
    assert client.hgetall(KEYS.desired_devices) == before


# A server

AT_WORK = [
    "detect_all", "detect_one 0", "assign 1 0,1", "pause_all", "pause_one 0", "start_one 0", "start_all", "pause_allot",
    "start_allot", "detect_fail_channel", "reset_max_task 40", "reset_max_task 30 0", "reset_rate 9000/s",
    "reset_rate off 0", "pause_channel 0", "start_channel 0", "add_device", "del_device",
    "export_fail_tasks", "export_fail_tasks 0", "restart_one 0", "restart_all",
]  # fmt: skip


def test_a_server_and_every_command_work_with_its_rights(
    shared_server: RealServer, roles: Roles, in_tmp: Path
) -> None:
    def broken() -> Iterator[Any]:
        yield 1
        yield 7
        yield object()
        yield 2

    done: set[str] = set()
    with Stack(roles.server, NAME, iter(range(60)), broken(), devices=2, capacity=30) as stack:

        def carry_out(line: str) -> None:
            stack.done(*line.split(" ", 3))
            done.add(line.split()[0])

        stack.agent(0)
        stack.agent(1, channel=1)
        for line in AT_WORK:
            carry_out(line)
        stack.until(lambda s: s.channels[0].failed == 6 and s.channels[1].failed == 1)
        first, second, third, *_ = stack.failed_ids()
        carry_out(f"reload_one_fail_task 0 {first}")
        carry_out(f"delete_one_fail_task 0 {second}")
        carry_out(f'edit_fail_task 0 {third} {{"a":[1]}}')
        carry_out("reload_all_fail_tasks")
        stack.until(lambda s: s.channels[1].halted)
        carry_out("skip_item 1")
        stack.until(lambda s: s.channels[1].done == 2)
        carry_out("stop_one 1")
        stack.until(lambda s: s.devices[1].state == "offline")
        carry_out("purge_device 1")
        carry_out("stop_all")
        carry_out("stop_allot")
        link = RedisBackend(roles.server, NAME)
        assert link.history() and link.fail_groups(None) and link.failed_tasks(None, 0, 10)
        assert len(link.last_results(0, 5)) == 5 and link.waiting_tasks(0, 5) == () == link.device_log(9)
        drained = mutitask("results", "export", "--drain", "--redis", roles.server, "--name", NAME)
        assert len(drained.lines) > 50
        carry_out("exit")
        assert stack.core.ended.wait(15) and stack.core.quit
    assert done | {"cancel_task"} == {command.name for command in COMMANDS if command.run}
    assert denials(shared_server) == []


def test_a_running_task_is_cancelled_with_the_rights_of_a_server_and_of_an_agent(
    shared_server: RealServer, roles: Roles
) -> None:
    begun, released = threading.Event(), threading.Event()

    def held(_task: Any) -> None:
        begun.set()
        assert released.wait(60)

    with Stack(roles.server, NAME, iter(["held"]), devices=1, autostart=True) as stack:
        stack.url = roles.agent
        stack.agent(0, task_function=held)
        stack.url = roles.server
        assert begun.wait(20)
        assert stack.done("cancel_task", 0, 0)["state"] == "asked"
        released.set()
        stack.until(lambda s: s.channels[0].failed == 1)
    assert denials(shared_server) == []


def test_a_server_takes_over_from_a_dead_one_and_starts_fresh_with_its_rights(
    shared_server: RealServer, client: redis.Redis, roles: Roles
) -> None:
    lost = Broker(connect(roles.agent), NAME, Actor.agent(), address="here")
    with Stack(roles.server, NAME, iter(range(10)), autostart=True) as stack:
        stack.until(lambda s: s.channels[0].waiting == 10)
        lost.join(0, None, this_process())
        assert lost.settle_and_claim(0, [], 4).items
    with Stack(roles.server, NAME, iter(range(20)), mode="resume") as stack:
        client.zadd(KEYS.leases, {lost.actor.id: 1})
        stack.until(lambda s: s.channels[0].waiting == 20)
    with Stack(roles.server, NAME, iter(range(3)), mode="fresh") as stack:
        stack.until(lambda s: s.channels[0].waiting == 3)
    assert denials(shared_server) == []


# A read-only dashboard


@pytest.fixture
def held(client: redis.Redis, roles: Roles) -> Iterator[Stack]:
    """A namespace with work of every kind, without a running server or agent."""
    with Stack(roles.server, NAME, iter(range(20)), devices=2, capacity=5) as stack:
        stack.agent(0, task_function=double)
        stack.done("start_all")
        stack.until(lambda s: s.channels[0].done == 18 and s.channels[0].failed == 2)
    assert stack.core._supervisor is not None
    stack.core._supervisor.join(5)  # Its last sweep writes to meta.
    client.rpush(KEYS.channel(0).waiting, list_item.header(stack.core.run.id, 99) + wire.pack("waits"))
    yield stack


def test_a_dashboard_reads_everything_with_its_rights(
    shared_server: RealServer, roles: Roles, held: Stack
) -> None:
    at = ["--redis", roles.dashboard, "--name", NAME]
    assert mutitask("status", "--json", *at).json["channels"][0]["done"] == 18
    assert "18 done, 2 failed" in mutitask("status", *at).stdout
    assert len(mutitask("results", "export", *at).lines) == 18
    link = RedisBackend(roles.dashboard, NAME, read_only=True)
    assert link.snapshot().channels[0].results == 18
    failed = link.failed_tasks(None, 0, 10)
    assert len(failed) == 2 and link.failed_task(0, failed[0].id)
    assert link.fail_groups(None)[0].count and link.waiting_tasks(0, 5)[0].task == "waits"
    assert len(link.last_results(0, 5)) == 5 and link.device_log(9) == () and len(link.history()) == 1
    assert denials(shared_server) == []


def test_a_dashboard_opens_read_only_on_a_terminal(
    shared_server: RealServer, roles: Roles, held: Stack, pty_run: Callable[..., pexpect.spawn[str]]
) -> None:
    child = pty_run(
        ["mutitask", "attach", "--read-only", "--name", NAME], {"MUTITASK_REDIS_URL": roles.dashboard}
    )
    child.expect("TaskChannel0")
    os.kill(child.pid, 15)
    child.expect(pexpect.EOF)
    assert denials(shared_server) == []


def arguments(command: Command, failed_id: str) -> list[str]:
    """Return valid arguments for the command."""
    by_kind = {
        "device": "1",
        "channel": "0",
        "fail": failed_id,
        "task": failed_id,
        "count": "9",
        "json": "5",
        "channels": "all",
        "rate": "10/s",
    }
    return [by_kind[param.kind] for param in command.params]


WRITING = [c for c in COMMANDS if c.run and c.name not in ("detect_fail_channel", "export_fail_tasks")]


def test_every_act_with_a_dashboards_rights_is_refused_with_one_sentence_and_changes_nothing(
    client: redis.Redis, roles: Roles, held: Stack
) -> None:
    (failed_id, *_) = held.failed_ids()
    client.hset(KEYS.channel(0).counters, "halted", "item 20 is nothing")
    # The commands that stop an agent need one.
    client.hset(KEYS.agents, "0", "a-0123456789abcdef")
    client.zadd(KEYS.leases, {"a-0123456789abcdef": 9_999_999_999_999})
    client.hset(KEYS.channel(0).claim_counts, "a-0123456789abcdef", "1")
    client.hset(KEYS.channel(0).claims("a-0123456789abcdef"), "1", failed_id)
    before = everything(client)
    for command in WRITING:
        words = arguments(command, failed_id)
        if command.name in ("stop_one", "restart_one"):
            words = ["0"]
        result = mutitask(
            "ctl", command.name, *words, "--yes", "--redis", roles.dashboard, "--name", NAME
        )  # fmt: skip
        assert result.status == 3 and result.stdout == "", (command.name, result)
        assert_one_sentence(result.stderr)
    drained = mutitask("results", "export", "--drain", "--redis", roles.dashboard, "--name", NAME)
    assert drained.status == 3 and drained.stdout == ""
    assert_one_sentence(drained.stderr)
    assert everything(client) == before


def test_a_read_only_backend_refuses_by_itself_and_redis_refuses_detect(roles: Roles, held: Stack) -> None:
    link = RedisBackend(roles.dashboard, NAME, read_only=True)
    for command in WRITING:
        values = command.parse(arguments(command, "x"))
        expected = NoRights if command.name.startswith("detect") else CommandError
        with pytest.raises(expected):
            link.run(command, values)


@pytest.mark.parametrize("role", ["agent", "dashboard"])
def test_a_program_with_the_rights_of_another_role_is_refused_at_once_and_changes_nothing(
    client: redis.Redis, roles: Roles, role: str, tmp_path: Path, spawn: Callable[..., Any]
) -> None:
    job = tmp_path / "job.py"
    job.write_text("def tasks(): yield 1\ndef task_function(t): return t\n")
    program = ["mutitask", "run", "--headless", "--resume"] if role == "agent" else ["worker-agent"]
    with Stack(roles.server, NAME, iter(range(5)), devices=1) as stack:
        supervisor = stack.core._supervisor
    assert supervisor is not None
    supervisor.join(5)  # Its last sweep writes to meta.
    before = everything(client)
    started = spawn([*program, job, "--name", NAME], {"MUTITASK_REDIS_URL": getattr(roles, role)})
    assert started.wait(20) != 0
    assert "denies this user a right that MutiTask needs" in started.stderr
    assert "Traceback" not in started.stderr
    assert everything(client) == before


def assert_one_sentence(text: str) -> None:
    assert text.startswith("mutitask: Redis at 127.0.0.1:"), text
    assert "denies this user a right that MutiTask needs (" in text
    assert "docs/security.md" in text and "script: " not in text
    assert text.count("\n") == 1 and "Traceback" not in text
