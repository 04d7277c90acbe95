"""Waits for tasks: blocks on the channels' tokens, for one channel with the next claim already sent behind it.

The same wait is for the device's token, so that an agent at rest needs one connection for all its tokens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from worker_agent.agent.registration import REST_BLOCK_S, AgentSession
from worker_agent.agent.state import AgentState
from worker_agent.execution.in_flight import InFlight
from worker_agent.protocol.broker import Claim
from worker_agent.protocol.connection.connect import BLOCK_S


@dataclass(frozen=True, slots=True, eq=False)
class ClaimAhead:
    """A claim of up to `want` tasks of a channel that waits at Redis behind the channel's token.

    Until it is answered, `number` is the actor's next number.
    """

    session: AgentSession
    channel: int
    number: int
    want: int
    block_s: float


class LongPoll(threading.Thread):
    """Waits for a token of the served channels while the claim loop finds nothing to claim, then wakes the claim loop.

    If nothing is in flight and the agent serves one channel, the wait is an idle slot's job: the slot sends the claim
    along, and starts at once with the tasks that it brings (`on_claim`). The claim loop may take over such a claim at
    any time. Then both send the same number, and the claim acts once.

    A lost token costs a second: the block ends after that, and the claim loop claims by itself. At rest the block is
    longer, and a sweep pushes the token again.
    """

    def __init__(
        self, in_flight: InFlight, state: AgentState, on_claim: Callable[[Claim, int], None]
    ) -> None:
        super().__init__(name="long-poll", daemon=True)
        self._in_flight = in_flight
        self._state = state
        self._on_claim = on_claim
        self._device_token = state.device_token
        self._token_wanted = threading.Event()
        self._answering = threading.Lock()
        self._claim_ahead: ClaimAhead | None = None
        self._claim_ahead_failed = False
        """Whether the last claim sent ahead got no claim as its answer. The next wait is for the token alone."""
        self._block_s = BLOCK_S
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

    def start_polling(self, *, rest: bool = False) -> None:
        """Start to wait for a token. Does nothing during a wait: its end wakes the claim loop as well.

        `rest` says that no task waits in any channel, so only a token can bring tasks.
        """
        if not self.polling:
            self._block_s = REST_BLOCK_S if rest else BLOCK_S
            self._start_waiting()
            self._token_wanted.set()

    def start_claim_ahead(
        self, session: AgentSession, channel: int, want: int, *, rest: bool = False
    ) -> None:
        """Start to wait for a channel's token, and claim up to `want` tasks behind it. `rest` is as above."""
        if self._claim_ahead_failed or self.polling:
            self.start_polling()
            return
        block_s = REST_BLOCK_S if rest else BLOCK_S
        self._claim_ahead = ClaimAhead(session, channel, session.actor.next_number(), want, block_s)
        self._start_waiting()
        self._in_flight.assign_idle_job(self._wait_and_claim)

    def _start_waiting(self) -> None:
        self.polling = True
        self._device_token.cover()

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
            session = self._state.session
            if session is None:
                self._state.stopping.wait(BLOCK_S)
                self._end_wait()
            else:
                self._wait_in(session)

    def _wait_in(self, session: AgentSession) -> None:
        """Wait once for the tokens of the served channels and of the device."""
        state, in_flight, recoveries = self._state, self._in_flight, session.recoveries
        channels, keys = state.channels, session.broker.keys
        tokens = [keys.channel(channel).token for channel in channels]
        found = session.long_poll.wait(
            [*tokens, keys.device_token(session.device)], self._block_s,
            lambda: state.paused or in_flight.closed or state.channels is not channels
            or session.recoveries != recoveries,
        )  # fmt: skip
        if found == len(tokens):
            self._device_token.receive()
            found = None
        self._end_wait(None if found is None else channels[found], look=not state.paused)

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
            session, in_flight, recoveries = ahead.session, self._in_flight, ahead.session.recoveries
            claim = session.broker.claim_at_token(
                session.waiting_client, ahead.channel, ahead.want, ahead.number, ahead.block_s,
                device_token=session.broker.keys.device_token(session.device),
                on_device_token=self._device_token.receive,
                until=lambda: in_flight.closed or self._claim_ahead is not ahead or session.recoveries != recoveries,
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
            self._stop_waiting()
            self._on_claim(claim, ahead.channel)
        return True

    def _end_wait(self, channel: int | None = None, *, look: bool = True) -> None:
        """End the wait. With `look`, the claim loop then looks for tasks, even without a token."""
        if channel is not None:
            self._tokens.append(channel)
        # In this order: a wait that the claim loop starts once it has seen the token must not be undone.
        self._stop_waiting()
        if look or channel is not None:
            self.token_received = True
        self._in_flight.wake.set()

    def _stop_waiting(self) -> None:
        self.polling = False
        self._device_token.uncover()
