"""Reads a namespace for people: whole snapshots in one call, failed tasks and results in pages."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import RedisError

from mutitask_tui.server.snapshot import ChannelView, FailedTask, Snapshot
from mutitask_tui.server.snapshot_parser import (
    DeviceViews,
    channel_view,
    counted,
    events,
    history_line,
    server_view,
    text,
)
from worker_agent.protocol import wire
from worker_agent.protocol.connection.address import redact
from worker_agent.protocol.connection.connect import connect, not_ours, translate
from worker_agent.protocol.connection.guard import Garbled
from worker_agent.protocol.errors import NoNamespace, RedisGarbled, RedisRefused
from worker_agent.protocol.keys import MOST_CHANNELS, Keys
from worker_agent.protocol.reasons import Reason, in_one_line, read_reasons
from worker_agent.protocol.replies import is_whole, mapping, of_command, of_script
from worker_agent.protocol.scripts import script
from worker_agent.protocol.words import in_words

EVENTS = 200
_NO_REPLY = (TypeError, ValueError, LookupError, AttributeError, MemoryError, RecursionError)
"""How redis-py stumbles over what no Redis answers."""
RATE_WINDOW_MS = 3_000
MARK_MS = 500
MARKS = 2_000


@dataclass(frozen=True, slots=True)
class FailedRecord:
    """A failed task with its whole payload: `value` where it unpacks, else `raw` alone."""

    view: FailedTask
    raw: bytes
    value: Any
    unpacks: bool
    attempt: int
    crashes: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """One result, as the agent settled it."""

    channel: int
    number: int
    id: str
    attempt: int
    device: int
    finished_ms: int
    value: Any


class Reader:
    """Reads one namespace. Every method raises `RedisUnavailable` or `RedisRefused`."""

    def __init__(self, url: str, name: str) -> None:
        self.keys = Keys(name)
        self.name = name
        self.where = redact(url)
        self.client: redis.Redis = connect(url)
        self._channels = 0
        self._devices = DeviceViews()
        self._settled: dict[int, deque[tuple[int, int]]] = {}
        self._counts: dict[int, deque[tuple[int, int]]] = {}

    def _ask(self, *command: Any) -> Any:
        try:
            return of_command(command, self.client.execute_command(*command))  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise translate(error, self.where) from error
        except _NO_REPLY as error:
            raise translate(Garbled(in_one_line(error)), self.where) from None

    def _page(self, command: str, key: str, start: int, count: int) -> list[bytes]:
        """The members of a list or sorted set from `start` on, `count` at most: fewer where they are large."""
        while True:
            try:
                found: list[bytes] = self._ask(command, key, start, start + count - 1)
            except RedisGarbled:
                if count == 1:
                    raise
                count = (count + 1) // 2
            else:
                return found

    def _these(self, key: str, fields: Sequence[bytes]) -> list[bytes | None]:
        """The values of a hash's fields, in as many replies as their size asks for."""
        try:
            return list(self._ask("HMGET", key, *fields))
        except RedisGarbled:
            if len(fields) == 1:
                raise
            half = len(fields) // 2
            return self._these(key, fields[:half]) + self._these(key, fields[half:])

    def _number(self, value: bytes | None) -> int:
        if not is_whole(value or b"0"):
            raise RedisRefused(not_ours(self.where))
        return int(value or 0)

    def _count(self, channels: bytes | None) -> int:
        count = self._number(channels)
        if not 0 <= count <= MOST_CHANNELS:
            raise RedisRefused(not_ours(self.where))
        return count

    def _nothing(self) -> NoNamespace:
        return NoNamespace(
            f"nothing runs in namespace {self.name!r} at {self.where}: "
            "start it with `mutitask run JOB`, or name another with --name"
        )

    # -- snapshots -----------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The namespace now. Raises `NoNamespace` where no server has opened it."""
        raw = self._raw()
        while (channels := self._count(raw[1].get(b"channels"))) != self._channels:
            self._channels = channels
            raw = self._raw()
        try:
            return self._snapshot_in(raw)
        except (TypeError, ValueError, LookupError, OverflowError):
            raise RedisRefused(not_ours(self.where)) from None

    def _snapshot_in(self, raw: list[Any]) -> Snapshot:
        now, meta, leases, agents = int(raw[0]), raw[1], raw[2], raw[3]
        if not meta:
            raise self._nothing()
        server = server_view(meta, raw[11], now, raw[7])
        allotting = server is not None and server.allotting
        return Snapshot(
            name=self.name,
            redis=self.where,
            run=text(meta.get(b"run")),
            now_ms=now,
            started_ms=int(meta.get(b"started_ms", now)),
            server=server,
            channels=tuple(
                self._channel(number, counts, meta, raw[6], now, allotting)
                for number, counts in enumerate(raw[10])
            ),
            devices=self._devices.of(raw[8], leases, agents, raw[4], raw[5], now),
            events=events(raw[9]),
        )

    def _raw(self) -> list[Any]:
        keys = [
            self.keys.meta, self.keys.leases, self.keys.agents, self.keys.devices, self.keys.events,
            self.keys.desired_devices, self.keys.desired_channels, self.keys.desired_server, self.keys.fleet,
            self.keys.server_lease,
        ]  # fmt: skip
        for number in range(self._channels):
            at = self.keys.channel(number)
            keys += [at.counters, at.waiting, at.delayed, at.failed, at.results, at.claim_counts, at.agent_counters]
        try:
            raw = of_script("snapshot", script("snapshot")(self.client, keys, [EVENTS]))
        except (RedisError, OSError) as error:
            raise translate(error, self.where) from error
        except _NO_REPLY as error:
            raise translate(Garbled(in_one_line(error)), self.where) from None
        for place in (1, 2, 3, 4, 5, 6, 7, 8, 11):
            raw[place] = mapping(raw[place])
        return raw

    def _channel(
        self, number: int, counts: list[Any], meta: dict[bytes, bytes], desired: dict[bytes, bytes], now: int,
        allotting: bool,
    ) -> ChannelView:  # fmt: skip
        counts[0] = mapping(counts[0])
        counts[7] = mapping(counts[7])
        settled = counted(counts[7], b"done") + counts[3]
        rate = self._rate(number, now, settled)
        oldest_s = self._oldest(number, now, int(counts[0].get(b"cursor", 0)), counts[6])
        return channel_view(number, counts, meta, desired, allotting=allotting, rate=rate, oldest_s=oldest_s)

    def _oldest(self, channel: int, now: int, cursor: int, head: bytes) -> float | None:
        """How long ago the first waiting item was allotted: when the count had not come that far yet.

        As fine as the snapshots (and, from before the first, the history) that this reader has seen.
        """
        seen = self._counts.get(channel)
        if seen is None or (seen and cursor < seen[-1][1]):
            seen = self._counts[channel] = deque(self._marks(channel), maxlen=MARKS)
        if not seen or (cursor > seen[-1][1] and now - seen[-1][0] >= MARK_MS):
            seen.append((now, cursor))
        if not head:
            return None
        try:
            number = wire.parse(head).number
        except wire.Undecodable:
            return None
        since = next((at for at, count in seen if count > number), now)
        return max(0.0, (now - since) / 1000)

    def _marks(self, channel: int) -> list[tuple[int, int]]:
        lines = self._ask("LRANGE", self.keys.channel(channel).history, 0, -1)
        return [(numbers[0], numbers[7]) for numbers in map(history_line, lines) if numbers is not None]

    def _rate(self, channel: int, now: int, settled: int) -> float:
        """Tasks settled a second over the last three seconds."""
        seen = self._settled.setdefault(channel, deque())
        if seen and (settled < seen[-1][1] or now < seen[-1][0]):
            seen.clear()
        seen.append((now, settled))
        while len(seen) > 2 and now - seen[1][0] >= RATE_WINDOW_MS:
            seen.popleft()
        (first, before) = seen[0]
        return (settled - before) * 1000 / (now - first) if now > first else 0.0

    def allot_ended(self) -> bool:
        """Whether somebody ended feeding for good."""
        return bool(self._ask("HGET", self.keys.desired_server, "allot") == b"ended")

    def desired_skips(self) -> set[int]:
        """The channels whose feed was asked to pass an item over, and has not yet."""
        fields = self._ask("HKEYS", self.keys.desired_channels)
        named = [field.decode("utf-8", "replace").partition(":") for field in fields]
        return {int(channel) for name, _, channel in named if name == "skip" and channel.isdigit()}

    # -- failed tasks --------------------------------------------------------------------------------

    def channels(self) -> int:
        """How many channels the namespace has. Raises `NoNamespace`."""
        count = self._ask("HGET", self.keys.meta, "channels")
        if count is None:
            raise self._nothing()
        return self._count(count)

    def item_numbers(self, channel: int, page: int) -> set[int]:
        """The numbers of all items that wait, are delayed, failed or left a result, read in pages."""
        at = self.keys.channel(channel)
        items: list[bytes] = []
        for command, key in (("LRANGE", at.waiting), ("LRANGE", at.results), ("ZRANGE", at.delayed)):
            start = 0
            while found := self._page(command, key, start, page):
                items += [item[: wire.HEADER_BYTES] for item in found]
                start += len(found)
        start = 0
        while found := self._page("ZRANGE", at.failed_at, start, page):
            items += [b"M1" + id_ for id_ in found]
            start += len(found)
        return {int(item[10:22]) for item in items if item[10:22].isdigit()}

    def failed_tasks(self, channel: int | None, offset: int, limit: int) -> tuple[FailedTask, ...]:
        """Failed tasks, newest first; `channel` None means all channels."""
        return tuple(record.view for record in self.failed_records(channel, offset, limit))

    def failed_records(self, channel: int | None, offset: int, limit: int) -> list[FailedRecord]:
        """The same with their payloads."""
        if channel is not None:
            return self._failed_page(channel, offset, limit)
        newest = [
            r for number in range(self.channels()) for r in self._failed_page(number, 0, offset + limit)
        ]
        newest.sort(key=lambda record: record.view.failed_ms, reverse=True)
        return newest[offset : offset + limit]

    def _failed_page(self, channel: int, offset: int, limit: int) -> list[FailedRecord]:
        at = self.keys.channel(channel)
        page = self._ask("ZREVRANGE", at.failed_at, offset, offset + limit - 1, "WITHSCORES")
        scored = [pair if isinstance(pair, list | tuple) else None for pair in page]
        pairs = [pair for pair in scored if pair] or list(zip(page[::2], page[1::2], strict=True))
        if not pairs:
            return []
        ids = [id_ for id_, _ in pairs]
        items, reasons = self._these(at.failed, ids), self._these(at.reasons, ids)
        return [
            _failed(channel, text(id_), _ms(at_ms), item, why or b"")
            for (id_, at_ms), item, why in zip(pairs, items, reasons, strict=True)
            if item is not None
        ]

    def failed_record(self, channel: int, id_: str) -> FailedRecord | None:
        """One failed task; None if it is no longer there."""
        at = self.keys.channel(channel)
        item = self._ask("HGET", at.failed, id_)
        if item is None:
            return None
        at_ms = self._ask("ZSCORE", at.failed_at, id_) or 0
        return _failed(channel, id_, _ms(at_ms), item, self._ask("HGET", at.reasons, id_) or b"")

    def full_id(self, channel: int, id_: str) -> str:
        """A task's id as people shorten it (its number alone means this run), in full."""
        if not id_.isascii() or not id_.isdigit() or len(id_) > 12:
            return id_
        run = text(self._ask("HGET", self.keys.meta, "run"))
        return f"{run}{int(id_):012d}"

    # -- results -------------------------------------------------------------------------------------

    def results(self, channel: int, start: int, count: int) -> tuple[int, list[Result | bytes]]:
        """How many results had been drained by now, and those from `start` on; bytes where one does not decode.

        Fewer than `count` where they are large: as many as one reply may bring.
        """
        at = self.keys.channel(channel)
        drained = self._number(self._ask("HGET", at.counters, "drained"))
        raw = self._page("LRANGE", at.results, start, count)
        return drained, [_result(channel, item) for item in raw]


def _ms(score: Any) -> int:
    """A score as a time; every agent may write it, also an endless one."""
    return int(min(max(float(score), 0.0), 9e15))


def _failed(channel: int, id_: str, failed_ms: int, item: bytes, packed_reasons: bytes) -> FailedRecord:
    reasons = read_reasons(packed_reasons)
    last = reasons[-1] if reasons else None
    value: Any = None
    unpacks = True
    try:
        parsed = wire.parse(item)
        number, attempt, crashes, raw = parsed.number, parsed.attempt, parsed.crashes, parsed.body
    except wire.Undecodable:
        number, attempt, crashes, raw, unpacks = 0, 0, 0, item, False
    if unpacks:
        try:
            value = wire.unpack(raw)
        except wire.Undecodable:
            unpacks = False
    foreign = last is None and not unpacks
    shown = in_words(value if unpacks else raw[:400], 400)
    view = FailedTask(
        channel=channel,
        id=id_,
        number=number,
        failed_ms=failed_ms,
        runs=attempt + crashes,
        stage="foreign" if foreign else (last.stage if last else ""),
        error_type=last.type if last else ("not a task of ours" if foreign else ""),
        error=last.message if last else "",
        traceback=last.traceback if last else "",
        device=last.device if last else None,
        task=shown,
    )
    return FailedRecord(view, raw, value, unpacks, attempt, crashes, tuple(reasons))


def _result(channel: int, item: bytes) -> Result | bytes:
    try:
        parsed = wire.parse(item)
        device, finished_ms, value = wire.unpack(parsed.body)
    except (wire.Undecodable, TypeError, ValueError):
        return item
    if type(device) is not int or type(finished_ms) is not int:
        return item
    id_ = f"{parsed.run}{parsed.number:012d}"
    return Result(channel, parsed.number, id_, parsed.attempt, device, finished_ms, value)


def every_result(reader: Reader, channel: int, page: int = 1_000) -> Iterator[list[Result | bytes]]:
    """All results that wait in a channel, page by page."""
    start = 0
    while True:
        _, results = reader.results(channel, start, page)
        if not results:
            return
        yield results
        start += len(results)
