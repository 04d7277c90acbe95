"""A table of valid calls: at least one for each script, with work to do and data in each key.

Add an entry for each new script. `test_scripts_are_harmless.py` then tests the script.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import redis

from tests.protocol.tap import LUA, RawCall
from tests.protocol.world import World, crashed, done, failed, failed_for_good, handed_back, reason, saved
from tests.run_plan import run_plan
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.cancels import CancelRequest
from worker_agent.protocol.identity import this_process


class FilledWorld(World):
    """A namespace with data in every key of channel 0. The agents `mine` and `neighbour` have claims."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client, retry_delay_ms=60_000)
        self.mine = self.agent(0, None)
        self.feed(12)
        first = self.claim(self.mine, 8)
        self.claims = first[5:]
        self.settle(
            self.mine,
            *done(first[0]), *done(first[1]), *failed_for_good(first[2]), *failed_for_good(first[3]),
            *failed(first[4]),
        )  # fmt: skip
        self.failures = first[2:4]
        self.neighbour = self.agent(1)
        self.neighbours = self.claim(self.neighbour, 2)
        self.ctl = self.operator()
        self.ctl.set_desired(self.keys.desired_devices, {"0": "running"}, tokens=[self.keys.device_token(0)])
        self.ctl.set_desired(self.keys.desired_channels, {"1": "paused"})
        self.ctl.set_desired(self.keys.desired_server, {"old": "wish"})
        self.ctl.set_desired(self.keys.desired_assignments, {"0": "all"})
        self.ctl.request_cancel(CancelRequest("q0", "r-000000000000000001", "test"), {0: self.mine.actor.id})
        self.ctl.append_event("info", "test", "filled")


Build = Callable[[FilledWorld], RawCall]


@dataclass(frozen=True)
class ValidCall:
    """A call that the script accepts. `unread` are the indexes of keys that this call neither reads nor changes."""

    script: str
    variant: str
    build: Build
    unread: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.script}-{self.variant}"

    @property
    def numbered(self) -> bool:
        return self.script in NUMBERED


NUMBERED = {path.name.removesuffix(".lua") for path in LUA.iterdir() if "= check_number(" in path.read_text()}
"""The scripts whose calls are numbered."""

VALID_CALLS: list[ValidCall] = []


def valid(script: str, variant: str = "plain", *, unread: tuple[int, ...] = ()) -> Callable[[Build], Build]:
    """Add the call that the function builds to the table."""

    def register(build: Build) -> Build:
        VALID_CALLS.append(ValidCall(script, variant, build, unread))
        return build

    return register


@valid("allot", unread=(9,))
def _allot(world: FilledWorld) -> RawCall:
    items = world.items(world.cursor(), 3)
    return world.capture(lambda: world.server.allot(0, world.cursor(), items, exhausted=True, halted="why"))


@valid("allot", "above-the-capacity", unread=(9,))
def _allot_full(world: FilledWorld) -> RawCall:
    items = world.items(world.cursor(), 100)
    return world.capture(lambda: world.server.allot(0, world.cursor(), items))


@valid("answer_detect")
def _answer_detect(world: FilledWorld) -> RawCall:
    world.mine.answer_detect("d1", b"earlier")
    return world.capture(lambda: world.mine.answer_detect("d1", b"answer"))


@valid("configure")
def _configure(world: FilledWorld) -> RawCall:
    return world.capture(lambda: world.ctl.set_capacity(0, 7))


@valid("configure", "a-step")
def _configure_step(world: FilledWorld) -> RawCall:
    return world.capture(lambda: world.ctl.add_devices(1))


@valid("delete")
def _delete(world: FilledWorld) -> RawCall:
    return world.capture(lambda: world.ctl.delete(0, world.failures))


@valid("drain")
def _drain(world: FilledWorld) -> RawCall:
    world.client.hset(world.at.agent_counters, "starved", "1")
    return world.capture(lambda: world.ctl.drain(0, 0, 1))


@valid("edit")
def _edit(world: FilledWorld) -> RawCall:
    return world.capture(lambda: world.ctl.edit(0, world.failures[0], b"another"))


@valid("register_operator")
def _register_operator(world: FilledWorld) -> RawCall:
    return world.capture(world.broker(Actor.operator()).register_operator)


@valid("join", "a-free-device")
def _join(world: FilledWorld) -> RawCall:
    newcomer = world.broker(Actor.agent())
    return world.capture(lambda: newcomer.join(5, (0,), this_process()))


@valid("join", "instead-of-a-dead-agent")
def _join_instead(world: FilledWorld) -> RawCall:
    world.expire(world.mine)
    newcomer = world.broker(Actor.agent())
    return world.capture(lambda: newcomer.join(0, (0,), this_process(), holder=world.mine.actor.id))


@valid("append_event", "a-server")
def _append_event(world: FilledWorld) -> RawCall:
    return world.capture(lambda: world.server.append_event("info", "test", "began"))


@valid("append_event", "an-agent")
def _append_event_of_an_agent(world: FilledWorld) -> RawCall:
    return world.capture(lambda: world.mine.append_event("info", "test", "joined"))


@valid("leave", "an-agent-with-claims")
def _leave(world: FilledWorld) -> RawCall:
    return world.capture(lambda: world.mine.leave(0, 2))


@valid("leave", "an-agent-without-claims")
def _leave_empty(world: FilledWorld) -> RawCall:
    world.settle(world.mine, *(part for id_ in world.claims for part in handed_back(id_)))
    return world.capture(lambda: world.mine.leave(0, 2))


@valid("leave", "a-server", unread=(2,))
def _leave_server(world: FilledWorld) -> RawCall:
    return world.capture(world.server.leave)


def _open(world: FilledWorld, **plan: object) -> RawCall:
    successor = world.broker(Actor.server())
    world.expire(world.server)
    changed = run_plan(**(world.plan | plan))  # type: ignore[arg-type]
    return world.capture(lambda: successor.open_run(changed, this_process()))


def _claims(channels: int) -> tuple[int, ...]:
    """Return the indexes of the claims of both agents. Only a fresh run changes them."""
    first = 10 + 15 * channels
    return (first, first + 1)


# A fresh run deletes the claims whatever their type is, so a wrong type cannot stop it half-way.
@valid("open_run", "fresh", unread=_claims(3))
def _open_fresh(world: FilledWorld) -> RawCall:
    return _open(world, mode="fresh", channels=3)


@valid("open_run", "resume", unread=_claims(2))
def _open_resume(world: FilledWorld) -> RawCall:
    return _open(world, mode="resume")


@valid("open_run", "first")
def _open_first(world: FilledWorld) -> RawCall:
    world.client.flushdb()
    world.client.rpush(world.keys.server_token, "1")
    first = world.broker(Actor.server())
    return world.capture(lambda: first.open_run(run_plan(**world.plan), this_process()))


@valid("promote")
def _promote(world: FilledWorld) -> RawCall:
    item = world.client.zrange(world.at.delayed, 0, 0)[0]
    world.client.zadd(world.at.delayed, {item: 1})
    return world.capture(lambda: world.ctl.promote(0))


@valid("purge_device")
def _purge_device(world: FilledWorld) -> RawCall:
    world.expire(world.mine)
    return world.capture(lambda: world.ctl.purge_device(0))


@valid("recover", "an-agent")
def _recover(world: FilledWorld) -> RawCall:
    world.expire(world.mine)
    return world.capture(lambda: world.neighbour.recover(world.mine.actor.id, reason("crashed")))


@valid("recover", "a-third-crash")
def _recover_third(world: FilledWorld) -> RawCall:
    world.set_crashes(world.mine, *world.claims, crashes=2)
    return _recover(world)


@valid("reload", "all")
def _reload_all(world: FilledWorld) -> RawCall:
    return world.capture(lambda: world.ctl.reload_all(0))


@valid("reload", "by-id")
def _reload(world: FilledWorld) -> RawCall:
    return world.capture(lambda: world.ctl.reload(0, world.failures))


@valid("renew_server_lease")
def _renew_server_lease(world: FilledWorld) -> RawCall:
    return world.capture(world.server.renew_server_lease)


@valid("heartbeat", "running")
def _heartbeat(world: FilledWorld) -> RawCall:
    return world.capture(lambda: world.mine.heartbeat(0, b"now", claims_from=[0]))


@valid("heartbeat", "two-channels")
def _heartbeat_of_two_channels(world: FilledWorld) -> RawCall:
    return world.capture(lambda: world.mine.heartbeat(0, b"now", claims_from=[1], not_from=[0]))


@valid("heartbeat", "paused")
def _heartbeat_paused(world: FilledWorld) -> RawCall:
    return world.capture(lambda: world.mine.heartbeat(0, b"now", not_from=[0]))


@valid("settle_and_claim", "every-outcome")
def _settle(world: FilledWorld) -> RawCall:
    world.client.hset(world.at.agent_counters, "starved", "1")
    world.client.delete(world.at.token)
    one, two, three = world.claims
    settlements = [*done(one), *failed(two), *failed_for_good(three), *handed_back(world.neighbours[0])]
    return world.capture(lambda: world.mine.settle_and_claim(0, settlements, 10))


@valid("settle_and_claim", "saved-and-handed-back", unread=(2, 14))
def _settle_saved(world: FilledWorld) -> RawCall:
    settlements = [*saved(world.claims[0]), *handed_back(world.claims[1])]
    return world.capture(lambda: world.mine.settle_and_claim(0, settlements, 0))


@valid("settle_and_claim", "crashed-once-and-thrice", unread=(2, 14))
def _settle_crashed(world: FilledWorld) -> RawCall:
    one, two = world.claims[:2]
    world.set_crashes(world.mine, two, crashes=2)
    return world.capture(lambda: world.mine.settle_and_claim(0, [*crashed(one), *crashed(two)], 0))


# The script does not read what it does not need: delayed tasks and reasons (only failed runs need them), results, and
# the token of a server that does not wait for capacity.
@valid("settle_and_claim", "all-done-at-first", unread=(2, 4, 7, 14, 17, 18, 19))
def _settle_done(world: FilledWorld) -> RawCall:
    settlements = [part for id_ in world.claims for part in done(id_)]
    return world.capture(lambda: world.mine.settle_and_claim(0, settlements, 0))


@valid("settle_and_claim", "claim", unread=(2, 4, 7, 8, 14, 17, 18, 19))
def _claim(world: FilledWorld) -> RawCall:
    world.client.rpush(world.at.waiting, "foreign")
    return world.capture(lambda: world.mine.settle_and_claim(0, [], 10))


@valid("settle_and_claim", "beside-another-channel", unread=(2, 4, 7, 8, 14, 17, 18, 19))
def _claim_beside(world: FilledWorld) -> RawCall:
    world.ctl.set_desired(world.keys.desired_channels, {"1": ""})
    return world.capture(lambda: world.mine.settle_and_claim(0, [], 10, others=[1], held_elsewhere=1))


@valid("skip_item")
def _skip_item(world: FilledWorld) -> RawCall:
    world.client.hset(world.at.counters, "halted", "why")
    return world.capture(lambda: world.server.skip_item(0, world.cursor()))


@valid("snapshot", unread=(10,))
def _snapshot(world: FilledWorld) -> RawCall:
    return RawCall("snapshot", snapshot_keys(world), (100, 0, 0, 0, 0))


@valid("snapshot", "changes")
def _snapshot_of_changes(world: FilledWorld) -> RawCall:
    return RawCall("snapshot", snapshot_keys(world), (100, world.ctl.now_ms() - 1, 2, 2, 2))


def snapshot_keys(world: FilledWorld) -> tuple[str, ...]:
    """Return the keys of a snapshot of two channels."""
    keys = [
        world.keys.meta, world.keys.leases, world.keys.agents, world.keys.devices, world.keys.events,
        world.keys.desired_devices, world.keys.desired_channels, world.keys.desired_server, world.keys.fleet,
        world.keys.server_lease, world.keys.heard,
    ]  # fmt: skip
    for channel in range(2):
        at = world.keys.channel(channel)
        keys += [
            at.counters, at.waiting, at.delayed, at.failed, at.results, at.claim_counts, at.agent_counters,
        ]  # fmt: skip
    return tuple(keys)


@valid("sample_counters")
def _sample_counters(world: FilledWorld) -> RawCall:
    for channel in range(2):
        world.client.rpush(world.keys.channel(channel).history, "1 0 50 0 0 0 0 0")
    return world.capture(lambda: world.ctl.sample_counters(2))


@valid("append_device_log")
def _append_device_log(world: FilledWorld) -> RawCall:
    world.mine.append_device_log(0, ["earlier"])
    return world.capture(lambda: world.mine.append_device_log(0, ["now"]))


@valid("sweep")
def _sweep(world: FilledWorld) -> RawCall:
    world.client.zrem(world.keys.leases, world.neighbour.actor.id)
    world.expire(world.mine)
    item = world.client.zrange(world.at.delayed, 0, 0)[0]
    world.client.zadd(world.at.delayed, {item: 1})
    world.client.hset(world.keys.fleet, "swept_ms", world.ctl.now_ms() - 1_500)
    return world.capture(lambda: world.ctl.sweep(2))


@valid("sweep", "lost-tokens")
def _sweep_of_lost_tokens(world: FilledWorld) -> RawCall:
    for channel in range(2):
        world.client.delete(world.keys.channel(channel).token)
        world.client.rpush(world.keys.channel(channel).waiting, "an item")
    world.client.hset(world.keys.fleet, "swept_ms", world.ctl.now_ms() - 1_500)
    return world.capture(lambda: world.ctl.sweep(2))


@valid("sweep", "after-a-gap")
def _sweep_after_a_gap(world: FilledWorld) -> RawCall:
    world.client.hset(world.keys.fleet, "swept_ms", 1)
    return world.capture(lambda: world.ctl.sweep(2))


@valid("set_desired")
def _set_desired(world: FilledWorld) -> RawCall:
    desired = {"0": "paused", "1": "running", "2": ""}
    tokens = [world.keys.device_token(device) for device in range(2)]
    return world.capture(
        lambda: world.ctl.set_desired(
            world.keys.desired_devices, desired, tokens=tokens, reset=True, ttl_ms=60_000
        )
    )


@valid("request_cancel")
def _request_cancel(world: FilledWorld) -> RawCall:
    agents = {0: world.mine.actor.id, 1: world.neighbour.actor.id}
    request = CancelRequest("q1", "r-000000000000000002", "test")
    return world.capture(lambda: world.ctl.request_cancel(request, agents))


@valid("fence")
def _fence(world: FilledWorld) -> RawCall:
    return world.capture(lambda: world.neighbour.fence(world.mine.actor.id))


@valid("read_desired")
def _read_desired(world: FilledWorld) -> RawCall:
    return world.capture(lambda: world.mine.read_desired(0))
