"""Reads snapshots of a namespace: the first one whole, the next ones with only the devices that changed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import redis
from redis.exceptions import RedisError, ResponseError

from mutitask_tui.server.device_views import DeviceViews
from mutitask_tui.server.snapshot import ChannelView, ClientCount, DeviceView, Event, Snapshot
from mutitask_tui.server.snapshot_parser import (
    body_counts,
    channel_view,
    decode_text,
    event_views,
    parse_count,
    server_view,
)
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.connection.guard import MalformedReply
from worker_agent.protocol.connection.redis_errors import foreign_key_message, translate
from worker_agent.protocol.errors import RedisRefused
from worker_agent.protocol.keys import MAX_CHANNELS, Keys
from worker_agent.protocol.reasons import in_one_line
from worker_agent.protocol.replies import check_script_reply, is_whole, to_dict
from worker_agent.protocol.scripts import script
from worker_agent.protocol.unpatched import time

EVENTS = 200
RATE_WINDOW_MS = 3_000
ALLOT_TIMES_STEP_MS = 500
ALLOT_TIMES_KEPT = 2_000
WHOLE_EVERY_MS = 30_000
"""How often a whole snapshot is read although nothing hints at it."""
WHOLE_AGAIN_MS = 2_000
"""The least time between two whole snapshots for a reader that disagrees with Redis about who lives."""
CLIENTS_EVERY_S = 5.0
CLIENTS_REFUSED_S = 60.0
"""How long a reader waits before it asks for the number of clients again, if it may not know it."""
REDIS_PY_ERRORS = (TypeError, ValueError, LookupError, AttributeError, MemoryError, RecursionError)
"""What redis-py raises on a reply that no Redis sends."""

_MAPPINGS = (1, 3, 4, 5, 6, 7, 8)
_SCORES = (2, 11)
"""The places of hashes and of sorted sets in the reply."""

Sizes = tuple[int, int, int]
"""How many leases are live, how many devices have an agent, and how many have sent a report."""


class SnapshotReader:
    """Reads one namespace. `history_lines` returns the samples of a channel's counters."""

    def __init__(
        self, keys: Keys, address: str, client: redis.Redis, history_lines: Callable[[int], list[list[int]]]
    ) -> None:
        self._keys = keys
        self._address = address
        self._client = client
        self._history_lines = history_lines
        self._channels = 0
        self._run = b""
        self._devices = DeviceViews()
        self._now = 0
        """When the last snapshot was taken, in ms on Redis's clock. 0 if the next one must be whole."""
        self._whole_at = 0
        """When the last whole snapshot was taken."""
        self._sizes: Sizes = (0, 0, 0)
        self._events: tuple[list[bytes], tuple[Event, ...]] = ([], ())
        self._clients: ClientCount | None = None
        self._clients_due = 0.0
        self._settled: dict[int, deque[tuple[int, int]]] = {}
        """For each channel: the time of a snapshot in ms, and how many tasks were settled by then."""
        self._allot_times: dict[int, deque[tuple[int, int]]] = {}
        """For each channel: a time in ms, and how many items were allotted by then."""

    def read(self) -> Snapshot | None:
        """Return the namespace as it is now, or None if no server has opened it."""
        raw = self._call()
        while (channels := self._channel_count(raw[1].get(b"channels"))) != self._channels:
            self._channels, self._now = channels, 0
            raw = self._call()
        if not raw[1]:
            return None
        try:
            return self._parse(raw)
        except (TypeError, ValueError, LookupError, OverflowError):
            self._now = 0
            raise RedisRefused(foreign_key_message(self._address)) from None

    def _channel_count(self, channels: bytes | None) -> int:
        if not is_whole(channels or b"0") or not 0 <= int(channels or 0) <= MAX_CHANNELS:
            raise RedisRefused(foreign_key_message(self._address))
        return int(channels or 0)

    def _call(self) -> list[Any]:
        keys = self._keys
        named = [
            keys.meta, keys.leases, keys.agents, keys.devices, keys.events, keys.desired_devices,
            keys.desired_channels, keys.desired_server, keys.fleet, keys.server_lease, keys.heard,
        ]  # fmt: skip
        for number in range(self._channels):
            at = keys.channel(number)
            named += [
                at.counters, at.waiting, at.delayed, at.failed, at.results, at.claim_counts, at.agent_counters,
            ]  # fmt: skip
        arguments = [EVENTS, self._now, *self._sizes]
        try:
            raw = check_script_reply("snapshot", script("snapshot")(self._client, named, arguments))
        except (RedisError, OSError) as error:
            raise translate(error, self._address) from error
        except REDIS_PY_ERRORS as error:
            raise translate(MalformedReply(in_one_line(error)), self._address) from None
        for place in (*_MAPPINGS, *_SCORES):
            raw[place] = to_dict(raw[place])
        return raw

    def _parse(self, raw: list[Any]) -> Snapshot:
        now, meta = int(raw[0]), raw[1]
        server = server_view(meta, raw[11], now, raw[7])
        allotting = server is not None and server.allotting
        return Snapshot(
            name=self._keys.name,
            redis=self._address,
            run=decode_text(meta.get(b"run")),
            now_ms=now,
            started_ms=int(meta.get(b"started_ms", now)),
            server=server,
            channels=tuple(
                self._channel(number, counts, meta, raw[6], now, allotting)
                for number, counts in enumerate(raw[10])
            ),
            devices=self._device_views(raw, now, meta),
            events=self._event_views(raw[9]),
            bodies=body_counts(meta),
            clients=self._client_count(),
        )

    def _device_views(self, raw: list[Any], now: int, meta: dict[bytes, bytes]) -> tuple[DeviceView, ...]:
        fleet, leases, agents, heartbeats, desired = raw[8], raw[2], raw[3], raw[4], raw[5]
        if raw[13] == b"1":
            lease_ms = int(meta.get(b"lease_ms", 0))
            views = self._devices.update_changed(
                fleet, lease_ms, agents, heartbeats, desired, now, self._channels
            )
        else:
            views = self._devices.update(fleet, leases, agents, heartbeats, desired, now, self._channels)
            self._whole_at = now
        live, agent_count, reports = map(int, raw[12])
        self._sizes, self._now = (live, agent_count, reports), now
        age = now - self._whole_at
        disagrees = self._devices.live != live and age >= WHOLE_AGAIN_MS
        if disagrees or not 0 <= age < WHOLE_EVERY_MS or meta.get(b"run") != self._run:
            self._now = 0
        self._run = meta.get(b"run", b"")
        return views

    def _event_views(self, entries: list[bytes]) -> tuple[Event, ...]:
        if entries != self._events[0]:
            self._events = entries, event_views(entries)
        return self._events[1]

    def _client_count(self) -> ClientCount | None:
        """Return how many clients Redis has and how many it allows, as it said some seconds ago."""
        if (now := time.monotonic()) >= self._clients_due:
            self._clients_due = now + CLIENTS_EVERY_S
            try:
                self._clients = read_client_count(self._client)
            except ResponseError:
                self._clients, self._clients_due = None, now + CLIENTS_REFUSED_S
            except (RedisError, OSError, *REDIS_PY_ERRORS):
                self._clients = None
        return self._clients

    def _channel(
        self, number: int, counts: list[Any], meta: dict[bytes, bytes], desired: dict[bytes, bytes], now: int,
        allotting: bool,
    ) -> ChannelView:  # fmt: skip
        counts[0] = to_dict(counts[0])
        counts[7] = to_dict(counts[7])
        settled = parse_count(counts[7], b"done") + counts[3]
        rate = self._rate(number, now, settled)
        oldest_s = self._oldest_s(number, now, int(counts[0].get(b"cursor", 0)), counts[6])
        return channel_view(number, counts, meta, desired, allotting=allotting, rate=rate, oldest_s=oldest_s)

    def _oldest_s(self, channel: int, now: int, cursor: int, head: bytes) -> float | None:
        """Return how long ago the first waiting item was allotted, in seconds.

        That is the first known time at which the cursor was beyond the item. The times are as fine as the snapshots
        that this reader has taken and, before the first one, as fine as the channel's history.
        """
        times = self._allot_times.get(channel)
        if times is None or (times and cursor < times[-1][1]):
            times = self._allot_times[channel] = deque(
                self._times_in_history(channel), maxlen=ALLOT_TIMES_KEPT
            )
        if not times or (cursor > times[-1][1] and now - times[-1][0] >= ALLOT_TIMES_STEP_MS):
            times.append((now, cursor))
        if not head:
            return None
        try:
            number = list_item.parse(head).number
        except wire.Undecodable:
            return None
        since = next((at for at, count in times if count > number), now)
        return max(0.0, (now - since) / 1000)

    def _times_in_history(self, channel: int) -> list[tuple[int, int]]:
        return [(numbers[0], numbers[7]) for numbers in self._history_lines(channel)]

    def _rate(self, channel: int, now: int, settled: int) -> float:
        """Return how many tasks were settled per second over the last 3 s."""
        seen = self._settled.setdefault(channel, deque())
        if seen and (settled < seen[-1][1] or now < seen[-1][0]):
            seen.clear()
        seen.append((now, settled))
        while len(seen) > 2 and now - seen[1][0] >= RATE_WINDOW_MS:
            seen.popleft()
        first_at, settled_then = seen[0]
        return (settled - settled_then) * 1000 / (now - first_at) if now > first_at else 0.0


def read_client_count(client: redis.Redis) -> ClientCount | None:
    """Return how many clients Redis has and how many it allows. None if it does not say so.

    Raises redis-py's errors; `ResponseError` if this user may not know it.
    """
    info: dict[str, Any] = client.info("clients")
    most: Any = info.get("maxclients") or client.config_get("maxclients").get("maxclients", 0)
    connected = info.get("connected_clients", 0)
    return ClientCount(int(connected), int(most)) if int(most) > 0 else None
