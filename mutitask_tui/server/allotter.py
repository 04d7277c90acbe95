"""Pushes the feeds' ready items into their channels, in one thread (laws 5 and 6)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

from mutitask_tui.server.feed import Feed, small_form
from worker_agent.protocol.bodies import APART_BYTES, body_of
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import BLOCK_S
from worker_agent.protocol.errors import ConcurrentChange, CountMoved, LeaseLost, MutiTaskError, Superseded


class LostWrites(MutiTaskError):
    """Redis lost writes that it had acknowledged."""


def _lost_writes(channel: int, pushed: int, count: int) -> LostWrites:
    return LostWrites(
        f"TaskChannel{channel} was fed up to item {pushed}, and Redis knows of {count}: "
        "it lost its last writes; start the server again with --resume"
    )


class Allotter(threading.Thread):
    """Pushes items until it is stopped.

    `token_client` is a blocking client for the server's token, and `source` the author in the event log. If Redis
    refuses a call because the actor is fenced, `on_actor_lost(actor, error)` registers a new actor or raises. Other
    errors go to `on_error`.
    """

    def __init__(
        self,
        broker: Broker,
        token_client: Any,
        source: str,
        on_actor_lost: Callable[[str, MutiTaskError], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        super().__init__(name="allotter", daemon=True)
        self.feeds: Sequence[Feed] = ()
        self.on_token: Callable[[], None] = lambda: None
        """Called at each token, and at least once every `BLOCK_S` seconds."""
        self._broker = broker
        self._token_client = token_client
        self._source = source
        self._on_actor_lost = on_actor_lost
        self._on_error = on_error
        self._wake = threading.Event()
        self._push_lock = threading.Lock()
        self._tokens_seen = 0
        self._stopped = threading.Event()

    def on_feed_ready(self, feed: Feed, single: bool) -> None:
        """Push what a feed has ready. If items come one by one, push in the calling thread, which wakes no other."""
        if single and not self._stopped.is_set() and self._push_lock.acquire(blocking=False):
            try:
                # An error here occurs again in the allotter's own thread, which handles it.
                with contextlib.suppress(Exception):
                    if feed.needs_push():
                        self._push(feed)
            finally:
                self._push_lock.release()
            if not feed.needs_push():
                return
        self._wake.set()

    def retry_blocked(self) -> None:
        """Try the blocked feeds again, because their channels may have room now."""
        self._tokens_seen += 1
        for feed in self.feeds:
            feed.blocked = False
        self._wake.set()

    def stop(self) -> None:
        """Push no further items."""
        self._stopped.set()
        self._wake.set()
        for feed in self.feeds:
            feed.stop()

    def run(self) -> None:
        """Push until stopped."""
        threading.Thread(target=self._listen, name="allotter-waiter", daemon=True).start()
        for feed in self.feeds:
            feed.start()
        try:
            while not self._stopped.is_set():
                self._wake.clear()
                actor = self._broker.actor.id
                try:
                    with self._push_lock:
                        pushed = [self._push(feed) for feed in self.feeds if feed.needs_push()]
                except (LeaseLost, Superseded) as error:
                    self._on_actor_lost(actor, error)
                    continue
                if not any(pushed):
                    self._wake.wait()
        except Exception as error:
            if not self._stopped.is_set():
                self._on_error(error)

    def skip(self, channel: int, number: int) -> bool:
        """Skip the item at which that channel's feed halted. Returns whether the feed had halted there."""
        feed = self.feeds[channel] if channel < len(self.feeds) else None
        # No push may run between the step in Redis and the step here: the two counts differ in between.
        with self._push_lock:
            if feed is None or not feed.can_skip(number):
                return False
            try:
                self._broker.skip_item(channel, number)
            except ConcurrentChange:
                return False
            feed.confirm_skip()
        self._broker.append_event("warning", self._source, f"TaskChannel{channel}: item {number} was skipped")
        return True

    def _push(self, feed: Feed) -> bool:
        """Push one batch. Returns whether the channel accepted anything."""
        items = self._store_large(feed, feed.next_batch())
        exhausted, halted = feed.end_after(len(items))
        tokens_seen = self._tokens_seen
        try:
            answer = self._broker.allot(feed.channel, feed.cursor, items, exhausted=exhausted, halted=halted)
        except CountMoved as moved:
            self._catch_up(feed, moved.count, len(items))
            return True
        feed.advance(answer.taken)
        # A token that came during the call may announce room that was made after the script ran.
        feed.blocked = bool(answer.why) and tokens_seen == self._tokens_seen
        if answer.taken == len(items):
            self._log_feed_end(feed, exhausted, halted)
        return answer.taken > 0

    def _store_large(self, feed: Feed, items: list[bytes]) -> list[bytes]:
        """Store large bodies apart, before their items are pushed. Returns the items as they are to be pushed.

        The feed keeps that form, so that an item for which its channel has no room is not stored again.
        """
        if max(map(len, items), default=0) < APART_BYTES:
            return items
        pushed = [small_form(item) if len(item) >= APART_BYTES else item for item in items]
        self._broker.store_bodies(
            feed.channel,
            [(small, body_of(item)) for item, small in zip(items, pushed, strict=True) if small is not item],
        )
        feed.replace_pushing(pushed)
        return pushed

    def _catch_up(self, feed: Feed, count: int, pushed: int) -> None:
        """Resolve a difference between the counts: a push arrived whose answer was lost, or Redis lost writes."""
        ahead = count - feed.cursor
        if 0 < ahead <= pushed:
            feed.advance(ahead)
            return
        raise _lost_writes(feed.channel, feed.cursor, count)

    def check_acknowledged(self, broker: Broker) -> None:
        """Check that Redis still has all that it acknowledged. The supervisor calls this every second.

        It is needed even if no item is left to push: a power cut or a failover undoes the last writes and need not
        break a connection. Connections to a former master that was only frozen stay open for a while. Raises
        `LostWrites`.
        """
        for feed in self.feeds:
            # Read before Redis is asked, because its count only grows.
            pushed, end_recorded = feed.cursor, feed.end_recorded
            counters = broker.keys.channel(feed.channel).counters
            count, ended = (
                broker.number(counters, "cursor"),
                broker.query("HMGET", counters, "exhausted", "halted"),
            )
            if count < pushed:
                raise _lost_writes(feed.channel, pushed, count)
            if end_recorded and not any(ended):
                feed.end_recorded = False
                self._wake.set()

    def _log_feed_end(self, feed: Feed, exhausted: bool, halted: str) -> None:
        if not (exhausted or halted) or feed.end_recorded:
            return
        feed.end_recorded = True
        name = f"TaskChannel{feed.channel}"
        if exhausted:
            self._broker.append_event(
                "info", self._source, f"{name}: the generator is exhausted after {feed.cursor} items"
            )
        else:
            self._broker.append_event("error", self._source, f"{name}: the feed stopped: {halted}")

    def _listen(self) -> None:
        """Wait for the server's token: a channel has room, or a desired state of the server changed."""
        key = self._broker.keys.server_token
        while not self._stopped.is_set():
            try:
                self._token_client.execute_command("BLPOP", key, BLOCK_S)
            except Exception:  # Redis is away or refuses. The next call says what is wrong.
                self._stopped.wait(BLOCK_S / 2)
            self.retry_blocked()
            self.on_token()
