"""Claims ahead: an idle agent claims behind the token, in one round trip, only once, and only tasks that it wants."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from tests.agent.bench import Bench
from tests.support.proxy import Proxy
from worker_agent.agent.agent import Agent
from worker_agent.agent.long_poll import LongPoll
from worker_agent.agent.registration import REST_BLOCK_S
from worker_agent.protocol.broker import Broker, Claim
from worker_agent.protocol.connection import connect as connecting

BEHIND_A_BLOCK = b"\r\n%.3f\r\n*" % REST_BLOCK_S
"""The end of a block, and the start of another command in the same piece of data."""


class Trickle:
    """A generator that yields its next number when the test asks for it."""

    def __init__(self) -> None:
        self._signals: SimpleQueue[bool] = SimpleQueue()

    def __iter__(self) -> Iterator[int]:
        return (number for number, _ in enumerate(iter(self._signals.get, False)))

    def more(self, count: int = 1) -> None:
        for _ in range(count):
            self._signals.put(True)

    def end(self) -> None:
        self._signals.put(False)


@pytest.fixture
def trickle() -> Iterator[Trickle]:
    made = Trickle()
    yield made
    made.end()


class ClaimsAhead:
    """Watches the claims sent ahead: how many wait now, and what the others returned."""

    def __init__(self) -> None:
        self.waiting = 0
        self.claims: list[Claim | None] = []
        self._original = Broker.claim_at_token

    def __call__(self, broker: Broker, *rest: Any, **how: Any) -> Claim | None:
        self.waiting += 1
        claim = None
        try:
            claim = self._original(broker, *rest, **how)
        finally:
            self.waiting -= 1
            self.claims.append(claim)
        return claim


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> ClaimsAhead:
    made = ClaimsAhead()
    monkeypatch.setattr(Broker, "claim_at_token", lambda broker, *rest, **how: made(broker, *rest, **how))
    return made


def test_every_task_of_a_light_load_is_claimed_by_a_claim_sent_ahead(
    bench, trickle, ahead, monkeypatch, wait_until
):
    """A plain wait would cost each task a round trip: the agent claims only after the token came."""
    plain_waits: list[LongPoll] = []
    start_polling = LongPoll.start_polling
    monkeypatch.setattr(
        LongPoll, "start_polling", lambda poll: (plain_waits.append(poll), start_polling(poll))
    )
    bench.serve(trickle)
    bench.agent(lambda task: task)
    for number in range(5):
        wait_until(lambda: ahead.waiting == 1, 10, what="a claim waits ahead")
        trickle.more()
        wait_until(lambda n=number: bench.counters().done == n + 1, what="the task is done")

    assert sum(len(claim.items) for claim in ahead.claims if claim is not None) == 5
    assert plain_waits == []


def test_a_task_for_an_idle_agent_is_claimed_without_a_further_call(
    bench, trickle, ahead, monkeypatch, wait_until
):
    calls: list[Any] = []
    original = Broker.settle_and_claim

    def recorded(
        broker: Broker, channel: int, settlements: Any, want: int, *more: Any, **options: Any
    ) -> Any:
        claim = original(broker, channel, settlements, want, *more, **options)
        calls.append((len(settlements), claim.items))
        return claim

    monkeypatch.setattr(Broker, "settle_and_claim", recorded)
    bench.serve(trickle)
    bench.agent(lambda task: task)
    for done in range(1, 4):
        wait_until(lambda: ahead.waiting, what="a claim waits behind the token")
        trickle.more()
        bench.wait_for(lambda counters, done=done: counters.done == done)

    trickle.end()
    assert bench.outcome().values == [0, 1, 2]
    assert not any(items for _, items in calls), "the claim loop's own calls returned no task"


def test_a_paused_agent_withdraws_its_claim_ahead_and_leaves_the_token_to_others(
    bench, trickle, ahead, wait_until
):
    bench.serve(trickle, devices=2)
    first, other = (bench.agent(lambda task, d=device: d, device=device) for device in range(2))
    wait_until(lambda: ahead.waiting == 2, what="both have sent a claim ahead")

    bench.commands.pause_one(0)
    wait_until(lambda: first.state.paused, what="the first one is paused")
    trickle.more(20)
    bench.wait_for(lambda counters: counters.done == 20)

    assert (first.in_flight.done, other.in_flight.done) == (0, 20)
    bench.commands.pause_one(1)
    wait_until(lambda: other.state.paused, what="the other one too")
    trickle.more(5)
    bench.wait_for(lambda counters: counters.allotted == 25)
    bench.wait_for(lambda counters: counters.waiting == 5 and counters.claimed == 0)
    bench.commands.start_one(0)
    trickle.end()
    outcome = bench.outcome()
    assert outcome.values[-5:] == [0] * 5
    assert {result.attempt for result in outcome.results} == {0}


def test_a_stopping_agent_withdraws_its_claim_ahead(bench, trickle, ahead, wait_until):
    bench.serve(trickle)
    agent = bench.agent(lambda task: task)
    wait_until(lambda: ahead.waiting, what="a claim waits behind the token")

    agent.stop()
    wait_until(lambda: bench.client.hlen(bench.keys.agents) == 0, what="it has left")
    trickle.more(3)

    bench.wait_for(lambda counters: counters.allotted == 3)
    wait_until(lambda: not ahead.waiting, what="its last block is over")
    counters = bench.counters()
    assert (counters.waiting, counters.claimed) == (3, 0)


class Distant:
    """An agent that reaches Redis through a proxy. The server does not."""

    def __init__(self, bench: Bench, proxy: Proxy) -> None:
        self.ran: list[int] = []
        self.bench = bench
        direct, bench.url = bench.url, proxy.url(bench.url)
        self.agent: Agent = bench.agent(self.run)
        bench.url = direct

    def run(self, task: int) -> int:
        self.ran.append(task)
        return task


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "CALL_TIMEOUT_S", 0.2)


# A silent loss is noticed only when the block should have ended, which takes ten seconds each time.
@pytest.mark.parametrize(("silent", "times"), [(False, 3), (True, 1)], ids=["dropped", "silent"])
def test_a_claim_ahead_whose_reply_is_lost_claims_once(
    proxy, bench, trickle, ahead, short_timeouts, silent, times
):
    bench.serve(trickle)
    lost = proxy.swallow(BEHIND_A_BLOCK, times=times, silent=silent)
    distant = Distant(bench, proxy)
    for number in range(1, 7):
        trickle.more()
        bench.wait_for(lambda counters, number=number: counters.done == number)

    trickle.end()
    assert lost.swallowed == times
    outcome = bench.outcome()
    assert distant.ran == outcome.values == list(range(6))
    assert {result.attempt for result in outcome.results} == {0}


def test_a_claim_ahead_that_arrives_late_claims_nothing(
    proxy, bench, trickle, ahead, short_timeouts, wait_until
):
    bench.serve(trickle)
    held = proxy.hold(BEHIND_A_BLOCK)
    distant = Distant(bench, proxy)
    assert held.caught.wait(20)
    wait_until(
        lambda: None in ahead.claims and ahead.waiting,
        20,
        what="it gave up, and has sent another claim ahead",
    )
    bench.commands.pause_one(0)
    wait_until(
        lambda: distant.agent.state.paused and not ahead.waiting, what="it is paused, with no claim ahead"
    )
    trickle.more(2)
    bench.wait_for(lambda counters: counters.waiting == 2)

    answer = held.release()

    assert b"stale" in answer
    counters = bench.counters()
    assert (counters.waiting, counters.claimed) == (2, 0)
    bench.commands.start_one(0)
    trickle.end()
    assert bench.outcome().values == distant.ran == [0, 1]


def test_an_agent_continues_after_a_script_flush_and_sends_claims_ahead_again(
    bench, trickle, ahead, wait_until
):
    bench.serve(trickle)
    bench.agent(lambda task: task)
    wait_until(lambda: ahead.waiting, what="a claim waits behind the token")
    bench.client.script_flush()
    trickle.more()
    bench.wait_for(lambda counters: counters.done == 1)
    wait_until(lambda: ahead.waiting, what="it sends claims ahead again")

    trickle.more()
    trickle.end()
    assert bench.outcome().values == [0, 1]
