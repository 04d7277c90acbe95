"""The claim loop: one call settles finished tasks, hands back tasks and claims new ones."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from worker_agent.agent.channel_choice import ChannelChoice
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
    """The agent's main loop. Only its thread claims and settles, except for a claim that a slot receives ahead.

    One call settles and claims in one channel. With several channels, each claim also returns how many tasks wait in
    the others, and `ChannelChoice` chooses the channel of the next claim.
    """

    def __init__(self, settings: Settings, in_flight: InFlight, state: AgentState, silence: Silence) -> None:
        self._settings = settings
        self._in_flight = in_flight
        self._state = state
        self._silence = silence
        self._long_poll = LongPoll(in_flight, state, on_claim=self._accept_claim_ahead)
        self._choice = ChannelChoice(settings.weights, strict=settings.strict)
        self._held: Counter[int] = Counter()
        """By channel: how many tasks the actor has claimed and not settled."""
        self._alone_channel: int | None = None
        """The channel whose next task must run alone. Nothing else is claimed until the agent can take that task."""
        self._claims_ahead: deque[tuple[Claim, int]] = deque()
        """Claims that slots received ahead, and their channels, for the loop to count."""
        self._left_slots_idle: tuple[Claim, int] | None = None
        """Such a claim that left other slots idle, for the loop to look for more tasks."""

    def start_long_poll(self) -> None:
        """Start the thread that waits for tokens."""
        self._long_poll.start()

    def run_until_stopped(self) -> None:
        """Settle, hand back and claim until the agent stops. Raises `RedisUnavailable` if Redis is away then."""
        in_flight, state, long_poll, choice = self._in_flight, self._state, self._long_poll, self._choice
        while not state.stopping.is_set():
            sleep_s = min(in_flight.max_sleep_s(), choice.limit_ends_in_s())
            in_flight.wake.wait(0.0 if long_poll.token_received else sleep_s)
            in_flight.wake.clear()
            choice.end_limits()
            self._count_claims_ahead()
            ahead, self._left_slots_idle = self._left_slots_idle, None
            reassigned = choice.serve(state.channels)
            tokens = long_poll.take_tokens()
            if tokens is not None or reassigned:
                choice.unblock()
                # A wait that ended without a token may have lost one: look into every channel.
                choice.expect_tasks(tokens or choice.channels)
                choice.lift_limits(tokens or ())
            if ahead is not None and not state.paused and not long_poll.polling and in_flight.idle_slots():
                self._fill_idle_slots(*ahead)
            unwanted_claim_ahead = (state.paused or reassigned) and long_poll.has_claim_ahead
            hand_back = state.paused or reassigned or in_flight.head_of_line_blocked() or not in_flight.slots
            back = in_flight.hand_back_queued() if hand_back else []
            channel = self._next_channel(tokens)
            want = 0
            if (
                channel is not None
                and not state.paused
                and (self._alone_channel is None or in_flight.is_idle())
                and not choice.is_limited(channel)
            ):
                want = in_flight.tasks_to_claim(choice.waiting_in_all())
            settle_due = bool(in_flight.settlements) and (want > 0 or in_flight.max_sleep_s() <= 0.0)
            if long_poll.polling and tokens is None and not reassigned and not settle_due:
                # A limit that is over brings no token.
                want = want if channel in choice.limit_over else 0
            if not (want or tokens or state.paused) and choice.any_limited() and in_flight.idle_slots():
                # Tokens tell of other channels, and of a new rate.
                tokens = None
                long_poll.start_polling()
            if state.fenced_session is state.session:
                self._start_new_session(None)
            elif back or want or settle_due or tokens is not None or unwanted_claim_ahead:
                settlements = in_flight.take_settlements() + back
                try:
                    self._exchange(settlements, channel, want, tokens or ())
                except LeaseLost as lost:
                    self._start_new_session(lost, len(settlements))

    def _next_channel(self, tokens: Sequence[int] | None) -> int | None:
        """Return the channel to claim from, or None if the agent serves none."""
        if self._alone_channel in self._choice.channels:
            return self._alone_channel
        self._alone_channel = None
        if tokens:
            return tokens[0]
        return self._choice.next() if self._choice.channels else None

    def settle(self, session: AgentSession, back: list[Settlement]) -> None:
        """Send all settlements and the hand-backs `back`, and claim nothing."""
        while True:
            settlements = self._in_flight.take_settlements()
            for channel, part in self._by_channel(settlements + back).items():
                session.broker.settle_and_claim(channel, part, 0)
            if not self._in_flight.settlements:
                return
            back = []

    def settle_claim_ahead(self) -> None:
        """If a claim was sent ahead and has no answer, take it over and hand its tasks back."""
        if self._long_poll.has_claim_ahead:
            self._exchange([], None, 0)

    def current_session(self) -> AgentSession:
        """Return the agent's session. Raises `LeaseLost` if there is none."""
        if self._state.session is None:
            raise LeaseLost("not registered")
        return self._state.session

    def _by_channel(self, settlements: list[Settlement]) -> dict[int, list[Settlement]]:
        """Group settlements by channel. All tasks in flight of an agent that serves one channel are of that one."""
        if not settlements:
            return {}
        self._count_claims_ahead()
        if len(self._held) == 1:
            return {next(iter(self._held)): settlements}
        return self._in_flight.by_channel(settlements)

    def _count_claims_ahead(self) -> None:
        """Count the claims that slots received ahead."""
        while self._claims_ahead:
            claim, channel = self._claims_ahead.popleft()
            self._held[channel] += len(claim.items)
            self._choice.claimed(channel, len(claim.items), claim.waiting, ())
            self._choice.limit(channel, claim.limited_ms)

    def _exchange(
        self, settlements: list[Settlement], channel: int | None, want: int, tokens: Sequence[int] = ()
    ) -> None:
        """Settle, and claim up to `want` tasks of a channel. Take over a claim that was sent ahead.

        `tokens` are the channels whose tokens this agent took. A call for each of them passes its token on if tasks
        still wait there.
        """
        session = self.current_session()
        ahead = self._long_poll.take_over_claim()
        if ahead is not None and (settlements or ahead.channel != channel):
            # The claim may have run already. Its number would then get that answer, and nothing would be settled.
            self._settle_and_claim(session, ahead.channel, [], 0, number=ahead.number)
            ahead = None
        parts = self._by_channel(settlements)
        own = parts.pop(channel, []) if channel is not None else []
        if parts or tokens:
            for other in {*parts, *tokens} - {channel}:
                self._settle_and_claim(session, other, parts.get(other, []), 0)
        if channel is None or not (own or want or ahead or not settlements or channel in tokens):
            return
        claim = self._settle_and_claim(
            session, channel, own, want, number=None if ahead is None else ahead.number
        )
        if want and claim.waiting and not claim.items and not claim.limited_ms:
            self._choice.gave_none(channel)
        if want and self._in_flight.idle_slots():
            self._fill_idle_slots(claim, channel)

    def _settle_and_claim(
        self, session: AgentSession, channel: int, settlements: list[Settlement], want: int, *,
        number: int | None = None,
    ) -> Claim:  # fmt: skip
        """Make the call for one channel, and accept its claim."""
        choice, held = self._choice, self._held
        if len(choice.channels) > 1 or len(held) > 1:
            claim = session.broker.settle_and_claim(
                channel, settlements, want, number=number,
                others=choice.others(channel) if want else (), held_elsewhere=held.total() - held[channel],
            )  # fmt: skip
        else:
            claim = session.broker.settle_and_claim(channel, settlements, want, number=number)
        if claim.refused:
            LOG.warning("%d settlements were refused: their tasks had been recovered", claim.refused)
        if settlements:
            choice.unblock()
            held[channel] = max(0, held[channel] - len(settlements))
            if not held[channel]:
                del held[channel]
        choice.claimed(channel, len(claim.items), claim.waiting, claim.waiting_elsewhere)
        if want:
            choice.limit(channel, claim.limited_ms)
        if want and (claim.next_crashed or channel == self._alone_channel):
            self._alone_channel = channel if claim.next_crashed else None
        if claim.items:
            held[channel] += len(claim.items)
        self._accept(claim, channel)
        return claim

    def _accept(self, claim: Claim, channel: int, *, by_slot: bool = False) -> None:
        """Queue the claimed tasks for the slots, or hand them back if the agent was paused or stopped meanwhile."""
        if self._state.paused or self._state.stopping.is_set():
            self._in_flight.hand_back_claim(claim, channel)
        else:
            self._in_flight.add_claim(claim, channel, by_slot=by_slot)

    def _accept_claim_ahead(self, claim: Claim, channel: int) -> None:
        """Accept a claim that a slot received ahead. Wake the claim loop only if another slot is idle."""
        # Before the slots get the tasks: the loop must count them before it settles them.
        self._claims_ahead.append((claim, channel))
        self._accept(claim, channel, by_slot=True)
        if self._in_flight.idle_slots():
            self._left_slots_idle = claim, channel
            self._in_flight.wake.set()

    def _fill_idle_slots(self, claim: Claim, channel: int) -> None:
        """Look for more tasks after a claim that left slots idle.

        Claim at once if tasks wait in another channel. Wait for a token if all channels are empty or limited by a rate.
        Claim again if the claim ended at this device's share.
        """
        if len(self._choice.channels) > 1 and self._choice.any_ready():
            self._in_flight.wake.set()
        elif claim.limited_ms:
            self._long_poll.start_polling()
        elif self._in_flight.is_empty():
            if len(self._choice.channels) == 1:
                want, rest = self._in_flight.tasks_to_claim(0), claim.waiting == 0
                self._long_poll.start_claim_ahead(self.current_session(), channel, want, rest=rest)
            else:
                self._long_poll.start_polling(rest=self._choice.all_empty())
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
        self._claims_ahead.clear()
        self._alone_channel = None
        self._held.clear()
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
            self._state.set_channels(session.channel_count)
            self._state.session = session
