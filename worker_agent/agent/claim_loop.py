"""The claim loop: one call settles finished tasks, hands back tasks and claims new ones."""

from __future__ import annotations

from worker_agent.agent.long_poll import LongPoll
from worker_agent.agent.registration import AgentSession, register
from worker_agent.agent.silence import Silence
from worker_agent.agent.state import AgentState
from worker_agent.console.log import LOG
from worker_agent.execution.in_flight import InFlight
from worker_agent.protocol.broker import Claim
from worker_agent.protocol.errors import LeaseLost, WritesLost
from worker_agent.protocol.settlements import Settlement
from worker_agent.settings import Settings


class ClaimLoop:
    """The agent's main loop. Only its thread claims and settles, except for a claim that a slot receives ahead."""

    def __init__(self, settings: Settings, in_flight: InFlight, state: AgentState, silence: Silence) -> None:
        self._settings = settings
        self._in_flight = in_flight
        self._state = state
        self._silence = silence
        self._long_poll = LongPoll(settings.channel, in_flight, state, on_claim=self._accept_claim_ahead)
        self._waiting = 0
        """How many tasks the channel held at the last claim."""
        self._claim_ahead: Claim | None = None
        """A claim that a slot received ahead while other slots were idle, for the loop to look at."""

    def start_long_poll(self) -> None:
        """Start the thread that waits for tokens."""
        self._long_poll.start()

    def run_until_stopped(self) -> None:
        """Settle, hand back and claim until the agent stops. Raises `RedisUnavailable` if Redis is away then."""
        in_flight, state, long_poll = self._in_flight, self._state, self._long_poll
        while not state.stopping.is_set():
            in_flight.wake.wait(0.0 if long_poll.token_received else in_flight.max_sleep_s())
            in_flight.wake.clear()
            token_received = long_poll.take_token()
            ahead, self._claim_ahead = self._claim_ahead, None
            if ahead is not None and not state.paused and not long_poll.polling and in_flight.idle_slots():
                self._fill_idle_slots(ahead)
            unwanted_claim_ahead = state.paused and long_poll.has_claim_ahead
            hand_back = state.paused or in_flight.head_of_line_blocked() or not in_flight.slots
            back = in_flight.hand_back_queued() if hand_back else []
            want = 0 if state.paused else in_flight.tasks_to_claim(self._waiting)
            settle_due = bool(in_flight.settlements) and (want > 0 or in_flight.max_sleep_s() <= 0.0)
            if long_poll.polling and not token_received and not settle_due:
                want = 0
            if state.fenced_session is state.session:
                self._start_new_session(None)
            elif back or want or settle_due or token_received or unwanted_claim_ahead:
                settlements = in_flight.take_settlements() + back
                try:
                    self._exchange(settlements, want)
                except LeaseLost as lost:
                    self._start_new_session(lost, len(settlements))

    def settle(self, session: AgentSession, back: list[Settlement]) -> None:
        """Send all settlements and the hand-backs `back`, and claim nothing."""
        while True:
            settlements = self._in_flight.take_settlements()
            session.broker.settle_and_claim(self._settings.channel, settlements + back, 0)
            if not self._in_flight.settlements:
                return
            back = []

    def settle_claim_ahead(self) -> None:
        """If a claim was sent ahead and has no answer, take it over and hand its tasks back."""
        if self._long_poll.has_claim_ahead:
            self._exchange([], 0)

    def current_session(self) -> AgentSession:
        """Return the agent's session. Raises `LeaseLost` if there is none."""
        if self._state.session is None:
            raise LeaseLost("not registered")
        return self._state.session

    def _exchange(self, settlements: list[Settlement], want: int) -> None:
        """Settle and claim with one call, and take over a claim that was sent ahead."""
        session, channel = self.current_session(), self._settings.channel
        number = self._long_poll.take_over_claim()
        if number is not None and settlements:
            # The claim may have run already. Its number would then get that answer, and nothing would be settled.
            self._accept(session.broker.settle_and_claim(channel, [], 0, number=number))
            number = None
        claim = session.broker.settle_and_claim(channel, settlements, want, number=number)
        if claim.refused:
            LOG.warning("%d settlements were refused: their tasks had been recovered", claim.refused)
        self._accept(claim)
        if want and self._in_flight.idle_slots():
            self._fill_idle_slots(claim)

    def _accept(self, claim: Claim, *, by_slot: bool = False) -> None:
        """Queue the claimed tasks for the slots, or hand them back if the agent was paused or stopped meanwhile."""
        self._waiting = claim.waiting
        if self._state.paused or self._state.stopping.is_set():
            self._in_flight.hand_back_claim(claim)
        else:
            self._in_flight.add_claim(claim, by_slot=by_slot)

    def _accept_claim_ahead(self, claim: Claim) -> None:
        """Accept a claim that a slot received ahead. Wake the claim loop only if another slot is idle."""
        self._accept(claim, by_slot=True)
        if self._in_flight.idle_slots():
            self._claim_ahead = claim
            self._in_flight.wake.set()

    def _fill_idle_slots(self, claim: Claim) -> None:
        """Look for more tasks after a claim that left slots idle.

        Wait for a token if the channel is empty. Claim again if the claim ended at this device's share.
        """
        if self._in_flight.is_empty():
            self._long_poll.start_claim_ahead(self.current_session(), self._in_flight.tasks_to_claim(0))
        elif claim.waiting == 0 or not (claim.items or self._in_flight.running):
            self._long_poll.start_polling()
        elif claim.items:
            self._in_flight.wake.set()

    def _start_new_session(self, lost: LeaseLost | None, unsettled: int = 0) -> None:
        """Drop all tasks in flight and register as a new actor (law 2). The tasks were recovered, or will be.

        `unsettled` further tasks are lost with the call that raised `lost`.
        """
        old = self.current_session()
        self._long_poll.take_over_claim()
        dropped = self._in_flight.drop_all() + unsettled
        if isinstance(lost, WritesLost):
            # The actor's claims in Redis differ from the tasks in flight. Recovery returns all of them.
            old.broker.fence(old.actor.id)
            LOG.warning("%s; %d tasks in flight are dropped here and claimed again", lost, dropped)
        else:
            LOG.warning(
                "Device%d was fenced: its lease expired without a heartbeat; "
                "%d tasks in flight were recovered and are dropped here",
                old.device, dropped,
            )  # fmt: skip
            LOG.warning("%s", self._silence.explain())
        session = register(self._settings, self._state.stopping, device=old.device)
        if session is not None:
            self._state.session = session
