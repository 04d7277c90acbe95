"""Waits for tasks: blocks on the channels' tokens, for one channel with the next claim already sent behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from worker_agent.agent.registration import AgentSession
from worker_agent.agent.state import AgentState
from worker_agent.execution.in_flight import InFlight
from worker_agent.protocol.broker import Claim
from worker_agent.protocol.connection.connect import BLOCK_S
from worker_agent.protocol.unpatched import time


@dataclass(frozen=True, slots=True, eq=False)
class ClaimAhead:
    """A claim of up to `want` tasks of a channel that waits at Redis behind the channel's token.

    Until it is answered, `number` is the actor's next number.
    """

    session: AgentSession
    channel: int
    number: int
    want: int


class LongPoll(threading.Thread):
    """Waits for a token of the served channels while the claim loop finds nothing to claim, then wakes the claim loop.

    If nothing is in flight and the agent serves one channel, the wait is an idle slot's job: the slot sends the claim
    along, and starts at once with the tasks that it brings (`on_claim`). The claim loop may take over such a claim at
    any time. Then both send the same number, and the claim acts once.

    A lost token costs a second: the block ends after that, and the claim loop claims by itself.
    """

    def __init__(
        self, in_flight: InFlight, state: AgentState, on_claim: Callable[[Claim, int], None]
    ) -> None:
        super().__init__(name="long-poll", daemon=True)
        self._in_flight = in_flight
        self._state = state
        self._on_claim = on_claim
        self._token_wanted = threading.Event()
        self._answering = threading.Lock()
        self._claim_ahead: ClaimAhead | None = None
        self._claim_ahead_failed = False
        """Whether the last claim sent ahead got no claim as its answer. The next wait is for the token alone."""
        self.polling = False
        """Whether this thread, or a slot, waits now."""
        self.token_received = False
        self._tokens: list[int] = []
        """The channels whose tokens came since the last `take_tokens`."""

    # For the claim loop

    @property
    def has_claim_ahead(self) -> bool:
        """Whether a claim was sent ahead and has no answer. Its tasks are in flight before this turns False."""
        with self._answering:
            return self._claim_ahead is not None

    def start_polling(self) -> None:
        """Start to wait for a token. Does nothing during a wait: its end wakes the claim loop as well."""
        if not self.polling:
            self.polling = True
            self._token_wanted.set()

    def start_claim_ahead(self, session: AgentSession, channel: int, want: int) -> None:
        """Start to wait for a channel's token, and claim up to `want` tasks behind it."""
        if self._claim_ahead_failed or self.polling:
            self.start_polling()
            return
        self._claim_ahead = ClaimAhead(session, channel, session.actor.next_number(), want)
        self.polling = True
        self._in_flight.assign_idle_job(self._wait_and_claim)

    def take_over_claim(self) -> ClaimAhead | None:
        """Return the claim sent ahead, if it has no answer. The caller must send its number again."""
        with self._answering:
            ahead, self._claim_ahead = self._claim_ahead, None
        return ahead

    def take_tokens(self) -> list[int] | None:
        """Return the channels whose tokens came since the last call, none if only a wait ended. None for neither."""
        if not self.token_received:
            return None
        self.token_received = False
        tokens, self._tokens = self._tokens, []
        return tokens

    # For the thread that waits

    def run(self) -> None:
        """Wait for tokens alone, until the process ends."""
        with self._state.stop_on_error("the wait for tasks"):
            self._wait_for_tokens()

    def _wait_for_tokens(self) -> None:
        while True:
            self._token_wanted.wait()
            self._token_wanted.clear()
            self._claim_ahead_failed = False
            token = None
            if (session := self._state.session) is not None:
                channels, keys = self._state.channels, session.broker.keys
                tokens = [keys.channel(channel).token for channel in channels]
                token = wait_for_token(session.long_poll_client, tokens, BLOCK_S)
            self._end_wait(None if token is None else channels[token])

    def _wait_and_claim(self) -> None:
        """Wait for the token, and accept the tasks of the claim behind it. An idle slot calls this."""
        try:
            accepted = self._receive_claim_ahead()
        except Exception:
            # The slot must not be lost, and the claim loop claims by itself.
            self._claim_ahead_failed, accepted = True, False
        if not accepted:
            self._end_wait()

    def _receive_claim_ahead(self) -> bool:
        ahead, claim = self._claim_ahead, None
        if ahead is not None:
            session, in_flight = ahead.session, self._in_flight
            claim = session.broker.claim_at_token(
                session.long_poll_client, ahead.channel, ahead.want, ahead.number, BLOCK_S,
                until=lambda: in_flight.closed or self._claim_ahead is not ahead,
            )  # fmt: skip
            self._claim_ahead_failed = claim is None and self._claim_ahead is ahead
        return ahead is not None and claim is not None and self._accept(ahead, claim)

    def _accept(self, ahead: ClaimAhead, claim: Claim) -> bool:
        """Pass the claim on. Return False if the claim loop had taken it over."""
        with self._answering:
            if self._claim_ahead is not ahead:
                return False
            self._claim_ahead = None
            # Before the slots get the tasks: the claim loop may start the next wait as soon as they are done.
            self.polling = False
            self._on_claim(claim, ahead.channel)
        return True

    def _end_wait(self, channel: int | None = None) -> None:
        if channel is not None:
            self._tokens.append(channel)
        # In this order: a wait that the claim loop starts once it has seen the token must not be undone.
        self.polling = False
        self.token_received = True
        self._in_flight.wake.set()


def wait_for_token(client: Any, keys: Sequence[str], seconds: float) -> int | None:
    """Wait for a token at one of the keys, for `seconds` at most. Return which key had one, from 0 on, or None.

    Redis being away counts as waiting.
    """
    try:
        if not keys:
            time.sleep(seconds)
            return None
        reply = client.execute_command("BLPOP", *keys, f"{seconds:.3f}")
        return keys.index(reply[0].decode()) if reply else None
    except Exception:
        # Redis is away, or this is no Redis. The next call of another kind reports what is wrong.
        time.sleep(min(seconds, 0.2))
        return None
