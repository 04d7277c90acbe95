"""How an agent waits for tasks: for the token that says that some wait, and with the claim sent ahead of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker_agent.protocol.connection.connect import BLOCK_S
from worker_agent.protocol.pristine import time

if TYPE_CHECKING:
    from worker_agent.agent.claim_loop import Agent
    from worker_agent.agent.registration import Session
    from worker_agent.protocol.broker import Claim


@dataclass(frozen=True, slots=True, eq=False)
class Ahead:
    """A claim sent ahead of the token that it waits behind. Until it is answered its number is the actor's next."""

    session: Session
    number: int
    want: int


class Waiter(threading.Thread):
    """Waits for the channel's token while the claimer found nothing to claim, then wakes it.

    For an agent with empty hands the wait is a slot's errand, which sends the claim along and begins at once with what
    that brings. The claimer may take such a claim over at any time (`recall`): both then send the same number, so that
    it acts once. A lost token costs a second: the block ends after that, and the claimer looks by itself.
    """

    def __init__(self, agent: Agent) -> None:
        super().__init__(name="waiter", daemon=True)
        self._agent = agent
        self._token_wanted = threading.Event()
        self._answering = threading.Lock()
        self._ahead: Ahead | None = None
        self._stumbled = False
        """Whether the last claim sent ahead was not answered by one: the next wait is for the token alone."""
        self.hungry = False
        """Whether it, or a slot, waits now."""
        self.token = False

    # -- the claimer's side --------------------------------------------------------------------------

    @property
    def has_claim_ahead(self) -> bool:
        """Whether a claim was sent ahead and has no answer. What an answer brings is in hand before this says no."""
        with self._answering:
            return self._ahead is not None

    def want_token(self) -> None:
        """Begin to wait, unless somebody does: the claimer hears of that one's end."""
        if not self.hungry:
            self.hungry = True
            self._token_wanted.set()

    def want_tasks(self, session: Session, want: int) -> None:
        """Begin to wait, and claim up to `want` tasks behind the token."""
        if self._stumbled or self.hungry:
            self.want_token()
            return
        self._ahead = Ahead(session, session.actor.next_number(), want)
        self.hungry = True
        self._agent.hands.send(self._claim_ahead)

    def recall(self) -> int | None:
        """The number of the claim sent ahead, if it has no answer: it is the caller's now, to be sent once more."""
        with self._answering:
            ahead, self._ahead = self._ahead, None
        return None if ahead is None else ahead.number

    def take_token(self) -> bool:
        """Whether a token came (or the block ended) since the last call."""
        came, self.token = self.token, False
        return came

    # -- whoever waits -------------------------------------------------------------------------------

    def run(self) -> None:
        """Wait for tokens alone, until the process ends."""
        with self._agent.watch_over("the wait for tasks"):
            self._wait_for_tokens()

    def _wait_for_tokens(self) -> None:
        channel = self._agent.settings.channel
        while True:
            self._token_wanted.wait()
            self._token_wanted.clear()
            self._stumbled = False
            if (session := self._agent.session) is not None:
                block(session.waiter_client, session.broker.keys.channel(channel).token, BLOCK_S)
            self._end()

    def _claim_ahead(self) -> None:
        """A slot's errand: wait for the token, and give the agent what the claim behind it brings."""
        try:
            answered = self._answered_ahead()
        except Exception:
            # The slot that carries this out must not be lost, and the claimer asks by itself.
            self._stumbled, answered = True, False
        if not answered:
            self._end()

    def _answered_ahead(self) -> bool:
        ahead, claim = self._ahead, None
        if ahead is not None:
            at, hands = ahead.session, self._agent.hands
            claim = at.broker.claim_at_token(
                at.waiter_client, self._agent.settings.channel, ahead.want, ahead.number, BLOCK_S,
                until=lambda: hands.closed or self._ahead is not ahead,
            )  # fmt: skip
            self._stumbled = claim is None and self._ahead is ahead
        return claim is not None and self._answer(ahead, claim)

    def _answer(self, ahead: Ahead | None, claim: Claim) -> bool:
        """Give the agent what was claimed; False where the claim had been recalled."""
        with self._answering:
            if self._ahead is not ahead:
                return False
            self._ahead = None
            # Before the slots have it: the claimer may want a token as soon as they are done.
            self.hungry = False
            self._agent.take_claim(claim)
        return True

    def _end(self) -> None:
        # In this order: a wish that the claimer makes once it has seen the token must stand.
        self.hungry = False
        self.token = True
        self._agent.hands.nudge.set()


def block(client: Any, key: str, seconds: float) -> None:
    """Wait for a token at `key`; Redis being away counts as waiting."""
    try:
        client.execute_command("BLPOP", key, f"{seconds:.3f}")
    except Exception:  # Away, or no Redis: whoever calls it next learns what is wrong.
        time.sleep(min(seconds, 0.2))
