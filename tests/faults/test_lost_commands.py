"""A command whose answer is lost is sent again with its number and acts once. Nobody has to type it again."""

from __future__ import annotations

import pytest
import redis

from mutitask_tui.server.commands.commander import Commander
from tests.protocol.world import World
from tests.support.proxy import Proxy
from tests.support.redis_server import RealServer
from worker_agent.protocol.scripts import script


@pytest.fixture
def commands(world: World, proxy: Proxy, shared_server: RealServer, client: redis.Redis) -> Commander:
    """Return commands that go through the proxy. Redis knows their scripts."""
    for name in ("configure", "reload", "delete", "set_desired", "register_operator"):
        client.script_load(script(name).source)
    return Commander(proxy.url(shared_server.url), "t")


def lose(proxy: Proxy, name: str) -> None:
    proxy.swallow(script(name).sha.encode())


def test_a_device_is_added_once(commands: Commander, world: World, proxy: Proxy) -> None:
    before = len(commands.device_numbers())
    lose(proxy, "configure")

    commands.add_device()

    assert len(commands.device_numbers()) == before + 1


def test_failed_tasks_are_reloaded_once_and_counted(commands: Commander, world: World, proxy: Proxy) -> None:
    world.fail(world.agent(), 5)
    lose(proxy, "reload")

    outcome = commands.reload_all_fail_tasks(0)

    assert "5 " in outcome.text
    assert len(world.waiting()) == 5
    assert world.balanced()


def test_a_failed_task_is_deleted_once_and_not_reported_as_already_gone(
    commands: Commander, world: World, proxy: Proxy
) -> None:
    (id_,) = world.fail(world.agent(), 1)
    lose(proxy, "delete")

    commands.delete_one_fail_task(0, id_)

    assert world.counts()["deleted"] == 1
    assert world.balanced()


def test_a_command_runs_although_its_connection_was_closed_meanwhile(
    commands: Commander, world: World, proxy: Proxy
) -> None:
    commands.reset_max_task(7, 0)
    proxy.drop_all()

    commands.reset_max_task(9, 0)

    assert world.counters()["capacity"] == "9"
