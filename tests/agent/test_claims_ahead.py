"""The claim that an agent with empty hands sends ahead of the token: one trip, acting once, and never unwanted."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from tests.agent.bench import Bench
from tests.support.proxy import Proxy
from worker_agent.agent.agent import Agent
from worker_agent.protocol.broker import Broker, Claim
from worker_agent.protocol.connection import connect as connecting

BEHIND_A_BLOCK = b"\r\n1.000\r\n*"
"""How a block of a second ends, and another command begins behind it in the same piece of data."""


class Trickle:
    """A generator that yields its next number when it is told to."""

    def __init__(self) -> None:
        self._told: SimpleQueue[bool] = SimpleQueue()

    def __iter__(self) -> Iterator[int]:
        return (number for number, _ in enumerate(iter(self._told.get, False)))

    def more(self, count: int = 1) -> None:
        for _ in range(count):
            self._told.put(True)

    def end(self) -> None:
        self._told.put(False)


@pytest.fixture
def trickle() -> Iterator[Trickle]:
    made = Trickle()
    yield made
    made.end()


class Ahead:
    """The claims sent ahead: how many wait now, and what came of the others."""

    def __init__(self) -> None:
        self.waiting = 0
        self.claims: list[Claim | None] = []
        self._plain = Broker.claim_at_token

    def __call__(self, broker: Broker, *rest: Any, **how: Any) -> Claim | None:
        self.waiting += 1
        claim = None
        try:
            claim = self._plain(broker, *rest, **how)
        finally:
            self.waiting -= 1
            self.claims.append(claim)
        return claim


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Ahead:
    made = Ahead()
    monkeypatch.setattr(Broker, "claim_at_token", lambda broker, *rest, **how: made(broker, *rest, **how))
    return made


def test_a_task_that_comes_to_empty_hands_is_claimed_by_no_call_of_its_own(
    bench, trickle, ahead, monkeypatch, wait_until
):
    alone: list[Any] = []
    plain = Broker.settle_and_claim

    def noted(broker: Broker, channel: int, settlements: Any, want: int, *more: Any, **options: Any) -> Any:
        claim = plain(broker, channel, settlements, want, *more, **options)
        alone.append((len(settlements), claim.items))
        return claim

    monkeypatch.setattr(Broker, "settle_and_claim", noted)
    bench.serve(trickle)
    bench.agent(lambda task: task)
    for done in range(1, 4):
        wait_until(lambda: ahead.waiting, what="a claim waits behind the token")
        trickle.more()
        bench.wait_for(lambda books, done=done: books.done == done)

    trickle.end()
    assert bench.outcome().values == [0, 1, 2]
    assert not any(items for _, items in alone), "what the claimer called itself brought no task"


def test_a_paused_agent_calls_its_claim_back_and_leaves_the_token_to_others(
    bench, trickle, ahead, wait_until
):
    bench.serve(trickle, devices=2)
    first, other = (bench.agent(lambda task, d=device: d, device=device) for device in range(2))
    wait_until(lambda: ahead.waiting == 2, what="both have sent a claim ahead")

    bench.commands.pause_one(0)
    wait_until(lambda: first.state.paused, what="the first one is paused")
    trickle.more(20)
    bench.wait_for(lambda books: books.done == 20)

    assert (first.in_flight.done, other.in_flight.done) == (0, 20)
    bench.commands.pause_one(1)
    wait_until(lambda: other.state.paused, what="the other one too")
    trickle.more(5)
    bench.wait_for(lambda books: books.allotted == 25)
    bench.wait_for(lambda books: books.waiting == 5 and books.claimed == 0)
    bench.commands.start_one(0)
    trickle.end()
    outcome = bench.outcome()
    assert outcome.values[-5:] == [0] * 5
    assert {result.attempt for result in outcome.results} == {0}


def test_an_agent_that_stops_calls_its_claim_back(bench, trickle, ahead, wait_until):
    bench.serve(trickle)
    agent = bench.agent(lambda task: task)
    wait_until(lambda: ahead.waiting, what="a claim waits behind the token")

    agent.stop()
    wait_until(lambda: bench.client.hlen(bench.keys.agents) == 0, what="it has left")
    trickle.more(3)

    bench.wait_for(lambda books: books.allotted == 3)
    wait_until(lambda: not ahead.waiting, what="its last block is over")
    books = bench.books()
    assert (books.waiting, books.claimed) == (3, 0)


class Distant:
    """An agent behind a proxy, and the server before it."""

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


@pytest.mark.parametrize("silent", [False, True], ids=["dropped", "silent"])
def test_a_claim_ahead_whose_reply_is_lost_claims_once(proxy, bench, trickle, ahead, short_timeouts, silent):
    bench.serve(trickle)
    lost = proxy.swallow(BEHIND_A_BLOCK, times=3, silent=silent)
    distant = Distant(bench, proxy)
    for number in range(1, 7):
        trickle.more()
        bench.wait_for(lambda books, number=number: books.done == number)

    trickle.end()
    assert lost.swallowed == 3
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
        lambda: None in ahead.claims and ahead.waiting, 20, what="it gave up, and has sent another one ahead"
    )
    bench.commands.pause_one(0)
    wait_until(lambda: distant.agent.state.paused and not ahead.waiting, what="it is paused, with no claim ahead")
    trickle.more(2)
    bench.wait_for(lambda books: books.waiting == 2)

    answer = held.release()

    assert b"stale" in answer
    books = bench.books()
    assert (books.waiting, books.claimed) == (2, 0)
    bench.commands.start_one(0)
    trickle.end()
    assert bench.outcome().values == distant.ran == [0, 1]


def test_an_agent_whose_scripts_were_flushed_goes_on_and_sends_claims_ahead_again(
    bench, trickle, ahead, wait_until
):
    bench.serve(trickle)
    bench.agent(lambda task: task)
    wait_until(lambda: ahead.waiting, what="a claim waits behind the token")
    bench.client.script_flush()
    trickle.more()
    bench.wait_for(lambda books: books.done == 1)
    wait_until(lambda: ahead.waiting, what="it sends claims ahead again")

    trickle.more()
    trickle.end()
    assert bench.outcome().values == [0, 1]
