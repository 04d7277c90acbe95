"""Commands over very many failed tasks: they tell how far they are, can be stopped, and let others through."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from mutitask_tui.server.commands.batches import run_many
from mutitask_tui.server.commands.commander import Commander
from mutitask_tui.server.commands.registry import find
from mutitask_tui.server.watch import Watch, current_watch, watched_by
from tests.protocol.world import World
from tests.server.test_failed_pages import add_failed

MANY = 3_500
"""More tasks than three steps move."""


@pytest.fixture
def world(client: redis.Redis) -> World:
    """A namespace with 3,500 failed tasks in channel 0 and ten in channel 1."""
    world = World(client)
    add_failed(world, 0, {n: 1000 + n for n in range(MANY)})
    add_failed(world, 1, {n: 1000 + n for n in range(MANY, MANY + 10)})
    return world


@pytest.fixture
def commander(world: World, redis_url: str) -> Commander:
    """A person's commands for that namespace."""
    return Commander(redis_url, world.keys.name, "a person")


def failed(world: World, channel: int) -> int:
    """Return how many tasks of a channel have failed."""
    return int(world.client.hlen(world.keys.channel(channel).failed))


class Steps:
    """Watches a command, keeps what it tells, and acts after one of its steps."""

    def __init__(self, after: int = 0, act: Callable[[Watch], object] = Watch.stop) -> None:
        self.texts: list[str] = []
        self.watch = Watch(self._told, every_s=0.0)
        self._after, self._act = after, act

    def _told(self, text: str) -> None:
        self.texts.append(text)
        if len(self.texts) == self._after:
            self._act(self.watch)


def test_a_reload_of_all_tells_how_far_it_is(world: World, commander: Commander) -> None:
    steps = Steps()
    with watched_by(steps.watch):
        outcome = commander.reload_all_fail_tasks()
    assert steps.texts[:2] == ["reloaded 1,000 of 3,510", "reloaded 2,000 of 3,510"]
    assert steps.texts[-1] == "reloaded 3,510 of 3,510"
    assert outcome.text == "3,510 failed tasks of TaskChannel0, TaskChannel1 went back"
    assert outcome.data["stopped"] is False and failed(world, 0) == failed(world, 1) == 0


def test_a_stopped_reload_says_how_many_went_back_and_leaves_the_others(
    world: World, commander: Commander
) -> None:
    with watched_by(Steps(after=2).watch):
        outcome = commander.reload_all_fail_tasks()
    assert (
        outcome.text == "stopped: 2,000 of 3,510 failed tasks went back; the others stay in the FailChannel"
    )
    assert outcome.data == {"reloaded": 2_000, "channels": [0, 1], "stopped": True}
    assert (failed(world, 0), failed(world, 1)) == (MANY - 2_000, 10)
    assert world.client.llen(world.at.waiting) == 2_000
    assert commander.reload_all_fail_tasks().data["reloaded"] == 1_510


def test_tasks_that_fail_after_the_command_stay_in_every_channel(world: World, commander: Commander) -> None:
    def fail_later(_watch: Watch) -> None:
        later = int(world.client.time()[0]) * 1000 + 60_000
        add_failed(world, 0, {9_000: later})
        add_failed(world, 1, {9_001: later})

    with watched_by(Steps(after=1, act=fail_later).watch):
        assert commander.reload_all_fail_tasks().data["reloaded"] == 3_510
    assert (failed(world, 0), failed(world, 1)) == (1, 1)


@pytest.mark.parametrize(
    ("name", "verb"), [("reload_one_fail_task", "reloaded"), ("delete_one_fail_task", "deleted")]
)
def test_a_command_on_many_chosen_tasks_can_be_watched_and_stopped(
    world: World, commander: Commander, name: str, verb: str
) -> None:
    targets = [(0, f"testtest{n:012d}") for n in range(MANY)]
    steps = Steps(after=1)
    with watched_by(steps.watch):
        outcome = run_many(commander, find(name), targets)
    assert steps.texts == [f"{verb} 1,000 of 3,500"]
    assert outcome.text.startswith("stopped: 1,000 failed tasks ")
    assert outcome.text.endswith("; the other 2,500 stay in the FailChannel")
    assert failed(world, 0) == 2_500
    again = run_many(commander, find(name), targets)
    assert again.text.endswith("; 1,000 no longer there") and again.data["done"] == 2_500


def test_an_export_can_be_watched_and_stopped(
    world: World, commander: Commander, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    steps = Steps(after=2)
    with watched_by(steps.watch):
        outcome = commander.export_fail_tasks()
    assert steps.texts == ["exported 500 of 3,510", "exported 1,000 of 3,510"]
    assert outcome.text.startswith("stopped: 1,000 failed tasks written to ")
    assert len(Path(outcome.data["path"]).read_text().splitlines()) == 1_000


def test_another_command_is_carried_out_between_two_steps(world: World, commander: Commander) -> None:
    left: list[int] = []

    def pause() -> None:
        commander.pause_channel(1)
        left.append(failed(world, 0))

    def pause_now(_watch: Watch) -> None:
        thread = threading.Thread(target=pause)
        thread.start()
        thread.join(10)

    with watched_by(Steps(after=1, act=pause_now).watch):
        commander.reload_all_fail_tasks()
    assert left == [MANY - 1_000]


def test_a_command_without_a_watch_has_one_that_does_nothing() -> None:
    current_watch().tell("done", 1, 2)
    assert not current_watch().stopped
