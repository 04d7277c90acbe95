"""Reads a namespace: whole snapshots in one call, failed tasks and results in pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import redis
from redis.exceptions import RedisError

from mutitask_tui.server.device_views import shown_numbers
from mutitask_tui.server.snapshot import FailedTask, Snapshot
from mutitask_tui.server.snapshot_parser import decode_text, parse_history_line
from mutitask_tui.server.snapshot_reader import REDIS_PY_ERRORS, SnapshotReader
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.bodies import Bodies, all_inline
from worker_agent.protocol.connection.address import redact
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.guard import MalformedReply
from worker_agent.protocol.connection.redis_errors import foreign_key_message, translate
from worker_agent.protocol.errors import InvalidRedisReply, NoNamespace, RedisRefused
from worker_agent.protocol.keys import MAX_CHANNELS, Keys
from worker_agent.protocol.reasons import Reason, in_one_line, read_reasons, trace_digests
from worker_agent.protocol.replies import check_command_reply, is_whole
from worker_agent.protocol.text import short_text, size_text

LISTED_LINES = 20
"""How many of a failed run's last lines a list has. The failed task in full has all that were kept."""
KEPT_TRACES = 2_000
"""How many tracebacks a reader keeps. A traceback has at most 8,000 characters."""
PAGE_BODIES_BYTES = 32 * 1024 * 1024
"""The most bytes of bodies stored apart that one page of results has, unless its first result alone is larger."""
SHOWN_BODY_BYTES = 64 * 1024
"""The largest body stored apart that is fetched for a list of tasks."""


@dataclass(frozen=True, slots=True)
class FailedRecord:
    """A failed task with its payload. `value` is set only if the payload unpacks; `raw` always is.

    `apart` tells that the payload is stored apart and was not fetched, because it is large or missing.
    """

    view: FailedTask
    raw: bytes
    value: Any
    unpacks: bool
    attempt: int
    crashes: int
    reasons: tuple[Reason, ...]
    apart: list_item.Apart | None = None


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


class ResultItems(NamedTuple):
    """A page of a result channel: how many results were drained before it, and its list items with their bodies.

    `bodies` are the keys of the bodies that are stored apart. Who drains the page removes them.
    """

    drained: int
    items: list[bytes]
    bodies: list[bytes]


class Reader:
    """Reads one namespace. Every method raises `RedisUnavailable` or `RedisRefused`."""

    def __init__(self, url: str, name: str) -> None:
        self.keys = Keys(name)
        self.name = name
        self.address = redact(url)
        self.client: redis.Redis = connect(url)
        self.bodies = Bodies(self.client, name, self.address)
        self._known_traces: dict[tuple[int, str], str] = {}
        """Tracebacks that were read, by channel and digest. A digest always names the same text."""
        self._snapshots = SnapshotReader(self.keys, self.address, self.client, self._history_lines)

    def query(self, *command: Any) -> Any:
        """Send a plain command and return its reply."""
        try:
            return check_command_reply(command, self.client.execute_command(*command))  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise translate(error, self.address) from error
        except REDIS_PY_ERRORS as error:
            raise translate(MalformedReply(in_one_line(error)), self.address) from None

    def _page(self, command: str, key: str, start: int, count: int) -> list[bytes]:
        """Return at most `count` members of a list or sorted set from `start` on, fewer if they are large."""
        while True:
            try:
                found: list[bytes] = self.query(command, key, start, start + count - 1)
            except InvalidRedisReply:
                if count == 1:
                    raise
                count = (count + 1) // 2
            else:
                return found

    def _hash_values(self, key: str, fields: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of a hash's fields. Large values are read in several replies."""
        try:
            return list(self.query("HMGET", key, *fields))
        except InvalidRedisReply:
            if len(fields) == 1:
                raise
            half = len(fields) // 2
            return self._hash_values(key, fields[:half]) + self._hash_values(key, fields[half:])

    def _number(self, value: bytes | None) -> int:
        if not is_whole(value or b"0"):
            raise RedisRefused(foreign_key_message(self.address))
        return int(value or 0)

    def _channel_count(self, channels: bytes | None) -> int:
        count = self._number(channels)
        if not 0 <= count <= MAX_CHANNELS:
            raise RedisRefused(foreign_key_message(self.address))
        return count

    def _no_namespace(self) -> NoNamespace:
        return NoNamespace(
            f"nothing runs in namespace {self.name!r} at {self.address}: "
            "start it with `mutitask run JOB`, or name another with --name"
        )

    def snapshot(self) -> Snapshot:
        """Return the namespace as it is now. Raises `NoNamespace` if no server has opened it."""
        snapshot = self._snapshots.read()
        if snapshot is None:
            raise self._no_namespace()
        return snapshot

    def _history_lines(self, channel: int) -> list[list[int]]:
        lines = self.query("LRANGE", self.keys.channel(channel).history, 0, -1)
        return [numbers for numbers in map(parse_history_line, lines) if numbers is not None]

    def allot_ended(self) -> bool:
        """Return whether `stop_allot` ended feeding for good."""
        return bool(self.query("HGET", self.keys.desired_server, "allot") == b"ended")

    def pending_skips(self) -> set[int]:
        """Return the channels whose feed was asked to skip an item and has not done so yet."""
        fields = self.query("HKEYS", self.keys.desired_channels)
        named = [field.decode("utf-8", "replace").partition(":") for field in fields]
        return {int(channel) for name, _, channel in named if name == "skip" and channel.isdigit()}

    def channels(self) -> int:
        """Return how many channels the namespace has. Raises `NoNamespace`."""
        count = self.query("HGET", self.keys.meta, "channels")
        if count is None:
            raise self._no_namespace()
        return self._channel_count(count)

    def device_numbers(self) -> list[int]:
        """Return the numbers of the devices of the grid, and of those beyond it that have an agent."""
        self.channels()
        size = self.query("HGET", self.keys.fleet, "devices") or b"0"
        return shown_numbers(size, self.query("HKEYS", self.keys.agents))

    def failed_tasks(self, channel: int | None, offset: int, limit: int) -> tuple[FailedTask, ...]:
        """Return failed tasks, newest first. If `channel` is None, of all channels."""
        return tuple(record.view for record in self.failed_records(channel, offset, limit))

    def failed_records(self, channel: int | None, offset: int, limit: int) -> list[FailedRecord]:
        """Return the same failed tasks with their payloads."""
        if channel is not None:
            return self._failed_page(channel, offset, limit)
        newest = [
            r for number in range(self.channels()) for r in self._failed_page(number, 0, offset + limit)
        ]
        newest.sort(key=lambda record: record.view.failed_ms, reverse=True)
        return newest[offset : offset + limit]

    def _failed_page(self, channel: int, offset: int, limit: int) -> list[FailedRecord]:
        return self.failed_among(channel, self.failed_ids(channel, offset, limit))

    def failed_ids(self, channel: int, offset: int, limit: int) -> list[tuple[bytes, float]]:
        """Return the ids of failed tasks of a channel and their times in ms, by time and id from the last down."""
        at = self.keys.channel(channel)
        page = self.query("ZREVRANGE", at.failed_at, offset, offset + limit - 1, "WITHSCORES")
        scored = [pair if isinstance(pair, list | tuple) else None for pair in page]
        pairs = [pair for pair in scored if pair] or list(zip(page[::2], page[1::2], strict=True))
        return [(id_, float(at_ms)) for id_, at_ms in pairs]

    def failed_among(self, channel: int, ids: Sequence[tuple[bytes, float]]) -> list[FailedRecord]:
        """Return the failed tasks with these ids that are still there. Each id comes with its time in ms.

        Large payloads are left out.
        """
        if not ids:
            return []
        at, names = self.keys.channel(channel), [id_ for id_, _ in ids]
        items, reasons = self._hash_values(at.failed, names), self._hash_values(at.reasons, names)
        items = self._inline_small(channel, items)
        traces = self._traces(channel, [why for why in reasons if why])
        return [
            parse_failed(channel, decode_text(id_), _score_ms(at_ms), item, why or b"", traces)
            for (id_, at_ms), item, why in zip(ids, items, reasons, strict=True)
            if item is not None
        ]

    def _inline_small(self, channel: int, items: Sequence[bytes | None]) -> list[bytes | None]:
        """Return the items, those with small bodies that are stored apart with them."""
        found = [item for item in items if item is not None]
        if all_inline(found):
            return list(items)
        whole = iter(self.bodies.inline(channel, found, most_bytes=SHOWN_BODY_BYTES))
        return [None if item is None else next(whole) for item in items]

    def failed_record(self, channel: int, id_: str) -> FailedRecord | None:
        """Return one failed task with its whole payload, or None if it is no longer there."""
        at = self.keys.channel(channel)
        item = self.query("HGET", at.failed, id_)
        if item is None:
            return None
        at_ms = self.query("ZSCORE", at.failed_at, id_) or 0
        (item,) = self.bodies.inline(channel, [item])
        why = self.query("HGET", at.reasons, id_) or b""
        return parse_failed(channel, id_, _score_ms(at_ms), item, why, self._traces(channel, [why]))

    def _traces(self, channel: int, reasons: Sequence[bytes]) -> dict[str, str]:
        """Return the tracebacks that these reasons name by their digests. Equal ones are kept, and read, once."""
        wanted = set[str]().union(*map(trace_digests, reasons))
        known = self._known_traces
        missing = [digest for digest in wanted if (channel, digest) not in known]
        if missing:
            names = [digest.encode("utf-8", "replace") for digest in missing]
            if len(known) > KEPT_TRACES:
                known.clear()
            for digest, text in zip(
                missing, self._hash_values(self.keys.channel(channel).traces, names), strict=True
            ):
                if text is not None:
                    known[channel, digest] = decode_text(text)
        return {digest: known[channel, digest] for digest in wanted if (channel, digest) in known}

    def full_id(self, channel: int, id_: str) -> str:
        """Return a task's full id. Its number alone means the task of this run."""
        if not id_.isascii() or not id_.isdigit() or len(id_) > 12:
            return id_
        run = decode_text(self.query("HGET", self.keys.meta, "run"))
        return f"{run}{int(id_):012d}"

    def results(self, channel: int, start: int, count: int) -> tuple[int, list[Result | bytes]]:
        """Return how many results were drained so far, and at most `count` results from `start` on.

        A result that does not decode is returned as bytes. If the results are large, there are fewer than `count`.
        """
        drained, items, _ = self.result_items(channel, start, count)
        return drained, [parse_result(channel, item) for item in items]

    def result_items(self, channel: int, start: int, count: int) -> ResultItems:
        """Return the same results as the list items that they are.

        An item whose body is missing in Redis stays without it.
        """
        at = self.keys.channel(channel)
        while True:
            drained = self._number(self.query("HGET", at.counters, "drained"))
            items = self._page("LRANGE", at.results, start, count)
            if all_inline(items):
                return ResultItems(drained, items, [])
            items = self._that_fit(channel, items)
            whole = self.bodies.inline(channel, items)
            missing = any(map(list_item.is_apart, whole))
            # Who drained these results meanwhile has removed their bodies too.
            if not missing or self._number(self.query("HGET", at.counters, "drained")) == drained:
                return ResultItems(drained, whole, self.bodies.keys(channel, items))

    def _that_fit(self, channel: int, items: Sequence[bytes]) -> list[bytes]:
        """Return the first of these items, as many as their bodies fit in one page."""
        fitting: list[bytes] = []
        size = 0
        for item in items:
            place = self.bodies.place(channel, item)
            size += 0 if place is None else place.size
            if fitting and size > PAGE_BODIES_BYTES:
                break
            fitting.append(item)
        return fitting


def _score_ms(score: Any) -> int:
    """Return a score as a time in ms. Every agent may write scores, even infinite ones."""
    return int(min(max(float(score), 0.0), 9e15))


def parse_failed(
    channel: int, id_: str, failed_ms: int, item: bytes, packed_reasons: bytes,
    traces: Mapping[str, str] = MappingProxyType({}),
) -> FailedRecord:  # fmt: skip
    """Parse an item of a FailChannel and the reasons of its failed runs. `traces` are tracebacks by their digests."""
    reasons = read_reasons(packed_reasons, traces)
    last = reasons[-1] if reasons else None
    value: Any = None
    unpacks, apart = True, None
    try:
        parsed = list_item.parse(item)
        apart = parsed.apart
        number, attempt, crashes, raw = parsed.number, parsed.attempt, parsed.crashes, parsed.body
    except wire.Undecodable:
        number, attempt, crashes, raw, unpacks = 0, 0, 0, item, False
    if apart is not None:
        raw, unpacks = item, False
    elif unpacks:
        try:
            value = wire.unpack(raw)
        except wire.Undecodable:
            unpacks = False
    foreign = last is None and not unpacks and apart is None
    shown = apart_text(apart) if apart else short_text(value if unpacks else raw[:400], 400)
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
        lines=last.lines[-LISTED_LINES:] if last else (),
    )
    return FailedRecord(view, raw, value, unpacks, attempt, crashes, tuple(reasons), apart)


def apart_text(apart: list_item.Apart) -> str:
    """Return what stands for a body that is stored apart and was not fetched."""
    if apart.size > SHOWN_BODY_BYTES:
        return f"(a large task, {size_text(apart.size)})"
    return f"(its body of {size_text(apart.size)} is missing in Redis)"


def parse_result(channel: int, item: bytes) -> Result | bytes:
    """Parse an item of a result channel. Returns the item itself if it does not decode."""
    try:
        parsed = list_item.parse(item)
        device, finished_ms, value = wire.unpack(parsed.body)
    except (wire.Undecodable, TypeError, ValueError):
        return item
    if type(device) is not int or type(finished_ms) is not int:
        return item
    id_ = f"{parsed.run}{parsed.number:012d}"
    return Result(channel, parsed.number, id_, parsed.attempt, device, finished_ms, value)
