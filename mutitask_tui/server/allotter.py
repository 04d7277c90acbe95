"""The allotter: one thread that pushes what the feeds have ready into their channels (laws 5 and 6)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

from mutitask_tui.server.feed import Feed
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import BLOCK_S
from worker_agent.protocol.errors import Changed, LeaseLost, Moved, MutiTaskError, Superseded


class LostWrites(MutiTaskError):
    """Redis does not hold what it had acknowledged."""


def _lost_writes(channel: int, pushed: int, count: int) -> LostWrites:
    return LostWrites(
        f"TaskChannel{channel} was fed up to item {pushed}, and Redis knows of {count}: "
        "it lost its last writes; start the server again with --resume"
    )


class Allotter(threading.Thread):
    """Pushes until ended; errors go to `on_error`.

    Where its calls are refused, `on_lost(actor, error)` comes back as a new actor or raises.
    """

    def __init__(
        self,
        broker: Broker,
        waiter_client: Any,
        who: str,
        on_lost: Callable[[str, MutiTaskError], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        super().__init__(name="allotter", daemon=True)
        self.feeds: Sequence[Feed] = ()
        self._broker = broker
        self._waiter_client = waiter_client
        self._who = who
        self._on_lost = on_lost
        self._on_error = on_error
        self._wake = threading.Event()
        self._pushing = threading.Lock()
        self._looks = 0
        self._ended = threading.Event()

    def wake(self) -> None:
        """Look at the feeds now."""
        self._wake.set()

    def news(self, feed: Feed, singly: bool) -> None:
        """A feed has something to push. Where items come singly its own thread does so: that saves waking another."""
        if singly and not self._ended.is_set() and self._pushing.acquire(blocking=False):
            try:
                # Whatever goes wrong here comes again in the allotter's own thread, which knows what to do.
                with contextlib.suppress(Exception):
                    if feed.has_news():
                        self._push(feed)
            finally:
                self._pushing.release()
            if not feed.has_news():
                return
        self._wake.set()

    def look_again(self) -> None:
        """Room may have come: try the blocked feeds again."""
        self._looks += 1
        for feed in self.feeds:
            feed.blocked = False
        self._wake.set()

    def end(self) -> None:
        """Push no more."""
        self._ended.set()
        self._wake.set()
        for feed in self.feeds:
            feed.end()

    def run(self) -> None:
        """Until ended."""
        threading.Thread(target=self._listen, name="allotter-waiter", daemon=True).start()
        for feed in self.feeds:
            feed.start()
        try:
            while not self._ended.is_set():
                self._wake.clear()
                actor = self._broker.actor.id
                try:
                    with self._pushing:
                        pushed = [self._push(feed) for feed in self.feeds if feed.has_news()]
                except (LeaseLost, Superseded) as error:
                    self._on_lost(actor, error)
                    continue
                if not any(pushed):
                    self._wake.wait()
        except Exception as error:
            if not self._ended.is_set():
                self._on_error(error)

    def skip(self, channel: int, number: int) -> bool:
        """Pass over the item at which that channel's feed stands; whether it stands there."""
        feed = self.feeds[channel] if channel < len(self.feeds) else None
        # No push between Redis's step and ours: it would find a count that is not the feed's.
        with self._pushing:
            if feed is None or not feed.skip(number):
                return False
            try:
                self._broker.skip_item(channel, number)
            except Changed:
                return False
            feed.skipped()
        self._broker.append_event("warning", self._who, f"TaskChannel{channel}: item {number} was passed over")
        return True

    def _push(self, feed: Feed) -> bool:
        """Whether the channel took anything."""
        items = feed.ready()
        exhausted, halted = feed.ending(len(items))
        looks = self._looks
        try:
            answer = self._broker.allot(feed.channel, feed.cursor, items, exhausted=exhausted, halted=halted)
        except Moved as moved:
            self._catch_up(feed, moved.count, len(items))
            return True
        feed.advance(answer.taken)
        # A token that came while the answer was on its way may already speak of the room made since.
        feed.blocked = bool(answer.why) and looks == self._looks
        if answer.taken == len(items):
            self._tell(feed, exhausted, halted)
        return answer.taken > 0

    def _catch_up(self, feed: Feed, count: int, pushed: int) -> None:
        """The channel's count is not this feed's: a push of ours arrived whose answer was lost, or Redis forgot."""
        ahead = count - feed.cursor
        if 0 < ahead <= pushed:
            feed.advance(ahead)
            return
        raise _lost_writes(feed.channel, feed.cursor, count)

    def compare(self, broker: Broker) -> None:
        """See that Redis still has all that it acknowledged, also where nothing is left to push (every second).

        A power cut or a failover takes its last writes back, and no connection of ours need have broken: those of a
        former master that was only frozen go on for a while. Raises `LostWrites`.
        """
        for feed in self.feeds:
            pushed, told = feed.cursor, feed.told  # Before Redis is asked: its count only grows.
            books = broker.keys.channel(feed.channel).counters
            count, ended = broker.number(books, "cursor"), broker.query("HMGET", books, "exhausted", "halted")
            if count < pushed:
                raise _lost_writes(feed.channel, pushed, count)
            if told and not any(ended):
                feed.told = False
                self._wake.set()

    def _tell(self, feed: Feed, exhausted: bool, halted: str) -> None:
        if not (exhausted or halted) or feed.told:
            return
        feed.told = True
        name = f"TaskChannel{feed.channel}"
        if exhausted:
            self._broker.append_event(
                "info", self._who, f"{name}: the generator is exhausted after {feed.cursor} items"
            )
        else:
            self._broker.append_event("error", self._who, f"{name}: the feed stopped: {halted}")

    def _listen(self) -> None:
        """Wait for the server's token: a channel has room, or somebody wishes something."""
        key = self._broker.keys.server_token
        while not self._ended.is_set():
            try:
                self._waiter_client.execute_command("BLPOP", key, BLOCK_S)
            except Exception:  # Away, or no Redis: the next call says what is wrong.
                self._ended.wait(BLOCK_S / 2)
            self.look_again()
            self.on_token()

    def on_token(self) -> None:
        """Told at each token and each second; the server sets it."""
