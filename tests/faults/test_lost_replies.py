"""A script ran and its reply is lost: the caller sends the call again, and nothing happens twice or late (law 3)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

from mutitask_tui.server.reader import Reader
from tests.protocol.tap import RawCall, dump
from tests.protocol.valid_calls import VALID_CALLS, FilledWorld, ValidCall
from tests.protocol.world import ById, done
from tests.support.proxy import Proxy
from tests.support.redis_server import RealServer
from worker_agent.protocol import list_item
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Claim
from worker_agent.protocol.connection import connect as connecting
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.dedicated import dedicate
from worker_agent.protocol.connection.retry import RetryPolicy
from worker_agent.protocol.membership import Run
from worker_agent.protocol.scripts import script

TIMEOUT_S = 0.15

each_call = pytest.mark.parametrize("valid", VALID_CALLS, ids=str)


class ProxiedWorld(FilledWorld):
    """A filled namespace whose brokers connect through a proxy and retry like those of a server or an agent."""

    def __init__(self, client: redis.Redis, url: str) -> None:
        self.sends: list[Callable[[], Any]] = []
        self.waits: list[Exception] = []
        self.actors: list[Actor] = []
        super().__init__(client)
        self.tap.client = dedicate(connect(url))
        self._url = url

    def broker(self, actor: Actor) -> ById:
        retry = RetryPolicy(on_wait=self.waits.append)
        self.actors.append(actor)
        return ById(self.tap, self.keys.name, actor, address="here", retry=retry)

    def capture(self, send: Callable[[], Any]) -> RawCall:
        """Keep `send` for `method`. A captured call uses up no number."""
        self.sends.append(send)
        numbers = [actor._number for actor in self.actors]
        call = super().capture(send)
        for actor, number in zip(self.actors, numbers, strict=True):
            actor._number = number
        return call

    def method(self, valid: ValidCall) -> Callable[[], Any]:
        """Return a function that makes the valid call with the broker."""
        valid.build(self)
        if valid.script == "snapshot":
            reader = Reader(self._url, self.keys.name)
            retry = RetryPolicy(on_wait=self.waits.append)
            return lambda: retry(reader.snapshot)
        return self.sends[-1]


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "CALL_TIMEOUT_S", TIMEOUT_S)


@pytest.fixture
def proxied(shared_server: RealServer, client: redis.Redis, proxy: Proxy) -> ProxiedWorld:
    return ProxiedWorld(client, proxy.url(shared_server.url))


def needle_of(valid: ValidCall) -> bytes:
    """Return bytes that a request which calls the script contains."""
    return script(valid.script).sha.encode()


def know_all_scripts(client: redis.Redis) -> None:
    for valid in VALID_CALLS:
        client.script_load(script(valid.script).source)


def moving_keys(world: FilledWorld, valid: ValidCall) -> list[str]:
    """Return the keys with times of leases, or with lines of which a second copy does no harm."""
    keys = world.keys
    return {
        "heartbeat": [
            keys.leases,
            keys.devices,
            keys.heard,
            *(keys.channel(number).agents for number in range(2)),
        ],
        "renew_server_lease": [keys.server_lease],
        "answer_detect": [keys.detect_answers("d1")],
        "append_device_log": [keys.device_log(0)],
        "append_event": [keys.events],
    }.get(valid.script, [])


def comparable_state(state: dict[bytes, Any], moving: list[str]) -> dict[bytes, Any]:
    """Return the database without what may differ: of the moving keys only the distinct members."""
    for key in moving:
        kind, content = state[key.encode()]
        if key.endswith(":events"):
            content = [event[13:] for event in content]  # Without its time.
        state[key.encode()] = (kind, sorted(set(content)))
    return state


def comparable(value: Any) -> Any:
    """Return the value of a method without the parts that differ in each world."""
    if isinstance(value, Claim):
        items = [(list_item.parse(item).number, list_item.parse(item).attempt) for item in value.items]
        return items, value.waiting, value.refused
    if isinstance(value, Run):
        return value.resumed
    if isinstance(value, str):
        return "a run"
    return value


def counted(world: FilledWorld) -> list[Any]:
    return [(world.counts(channel), len(world.results(channel))) for channel in range(2)]


ANSWERED_LIKE: dict[str, Callable[[Any, Any], bool]] = {
    # The first call moved all tasks, so the answer to the second is 0.
    "recover": lambda value, _control: value == 0,
    "promote": lambda value, _control: value == 0,
    # The next sweep, a second later, finds the same actors again.
    "sweep": lambda value, _control: not value.dead and not value.due,
    # The times differ.
    "snapshot": lambda value, control: value.channels == control.channels,
}


@each_call
def test_a_call_whose_reply_is_lost_acts_once_and_gets_its_answer(
    proxied: ProxiedWorld, client: redis.Redis, proxy: Proxy, shared_server: RealServer, valid: ValidCall
) -> None:
    control = proxied.method(valid)()
    expected = counted(proxied)
    balance = [proxied.balanced(channel) for channel in range(2)]
    client.flushdb()
    world = ProxiedWorld(client, proxy.url(shared_server.url))
    know_all_scripts(client)
    send = world.method(valid)
    moving = moving_keys(world, valid)
    after_first: dict[bytes, Any] = {}
    lost = proxy.swallow(needle_of(valid), on_reply=lambda: after_first.update(dump(client)))

    value = send()

    assert lost.swallowed == 1
    # The time-outs are short here. On a busy machine the repeated call may time out too.
    assert world.waits, "the broker noticed the loss and tried again"
    assert comparable_state(dump(client), moving) == comparable_state(after_first, moving)
    assert counted(world) == expected
    assert [world.balanced(channel) for channel in range(2)] == balance
    answered = ANSWERED_LIKE.get(
        valid.script, lambda value, control: comparable(value) == comparable(control)
    )
    assert answered(value, control), (value, control)


@each_call
def test_a_call_that_arrives_after_its_own_retry_was_answered_changes_nothing_more(
    proxied: ProxiedWorld, client: redis.Redis, proxy: Proxy, valid: ValidCall
) -> None:
    know_all_scripts(client)
    send = proxied.method(valid)
    moving = moving_keys(proxied, valid)
    first = proxy.hold(needle_of(valid))

    send()
    assert first.caught.is_set()
    assert len(proxied.waits) == 1, "the broker timed out and tried again"
    before = comparable_state(dump(client), moving)
    answer = first.release()

    assert answer
    assert not answer.startswith(b"-"), answer
    assert comparable_state(dump(client), moving) == before


@pytest.mark.parametrize(
    "valid", [v for v in VALID_CALLS if v.script in ("allot", "settle_and_claim", "reload")], ids=str
)
def test_replies_lost_again_and_again_still_let_a_call_act_once(
    proxied: ProxiedWorld, client: redis.Redis, proxy: Proxy, valid: ValidCall
) -> None:
    know_all_scripts(client)
    send = proxied.method(valid)
    states: list[dict[bytes, Any]] = []
    dropped = proxy.swallow(needle_of(valid), times=2, on_reply=lambda: states.append(dump(client)))
    silent = proxy.swallow(needle_of(valid), silent=True, on_reply=lambda: states.append(dump(client)))

    send()

    assert (dropped.swallowed, silent.swallowed) == (2, 1)
    assert states == [dump(client)] * 3


def test_a_lost_reply_to_a_script_that_redis_did_not_know_is_repeated_too(
    proxied: ProxiedWorld, client: redis.Redis, proxy: Proxy
) -> None:
    """The first call is refused with NOSCRIPT. The reply to the second call, which has the script's text, is lost."""
    ids = proxied.claims
    client.script_flush()
    text = script("settle_and_claim").source.splitlines()[-1].encode()
    lost = proxy.swallow(text)

    claim = proxied.mine.settle_and_claim(0, done(ids[0]), 1)

    assert lost.swallowed == 1
    assert (claim.refused, len(claim.items)) == (0, 1)
    assert proxied.balanced()


def test_two_actors_whose_replies_are_lost_at_the_same_time_get_different_tasks(
    proxied: ProxiedWorld, client: redis.Redis, proxy: Proxy
) -> None:
    know_all_scripts(client)
    proxied.feed(20)
    proxy.swallow(script("settle_and_claim").sha.encode(), times=2)
    claims: list[Claim] = []
    threads = [
        threading.Thread(target=lambda broker=broker: claims.append(broker.settle_and_claim(0, [], 5)))
        for broker in (proxied.mine, proxied.neighbour)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    items = [item for claim in claims for item in claim.items]
    assert len(claims) == 2
    assert len(set(items)) == len(items) == 10
    assert proxied.balanced()
