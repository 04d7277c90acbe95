"""Reads details of a namespace: failed tasks in full and in groups, waiting tasks, results, logs, history, gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mutitask_tui.server.fail_groups import FailGroups
from mutitask_tui.server.failed_pages import PAGE, failed_in, failed_pages
from mutitask_tui.server.reader import (
    SHOWN_BODY_BYTES,
    FailedRecord,
    Reader,
    Result,
    apart_text,
    parse_failed,
    parse_result,
)
from mutitask_tui.server.snapshot import (
    ChannelView,
    FailedDetail,
    FailedRun,
    FailedTask,
    FailGroup,
    ResultView,
    RunningDetail,
    Sample,
    WaitingTask,
)
from mutitask_tui.server.snapshot_parser import decode_text
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.replies import to_dict
from worker_agent.protocol.settlements import unsettled_items
from worker_agent.protocol.task_line import TaskLine, read_line
from worker_agent.protocol.text import plural, short_text, size_text
from worker_agent.protocol.unpatched import json

SHOWN_CHARACTERS = 400
EDITABLE_BYTES = 1024 * 1024
SEARCHED_ITEMS = 2_000_000
"""The most items that a search for missing tasks reads. One million takes about 2 s."""
SEARCH_PAGE = 5_000


class Inspector(Reader):
    """Reads one detail at a time. Every method raises `RedisUnavailable` or `RedisRefused`."""

    def failed_task(self, channel: int, id_: str) -> FailedDetail | None:
        """Return one failed task in full, or None if it is no longer there."""
        record = self.failed_record(channel, id_)
        if record is None:
            return None
        return FailedDetail(
            task=record.view,
            attempt=record.attempt,
            crashes=record.crashes,
            payload=record.view.task if record.apart else record.value if record.unpacks else record.raw,
            unpacks=record.unpacks or record.apart is not None,
            json=editable_json(record),
            size=record.apart.size if record.apart else len(record.raw),
            failed_runs=tuple(
                FailedRun(
                    r.at_ms,
                    r.device,
                    r.stage,
                    r.type,
                    r.message,
                    r.traceback,
                    r.delay_ms,
                    r.given_up,
                    r.lines,
                )
                for r in record.reasons
            ),
        )

    def failed_tasks(self, channel: int | None, offset: int, limit: int) -> tuple[FailedTask, ...]:
        """Return failed tasks, newest first. If `channel` is None, of all channels."""
        found: list[FailedTask] = []
        for page in self.failed_pages(channel, min(limit, PAGE)):
            found += page
            if len(found) >= offset + limit:
                break
        return tuple(found[offset : offset + limit])

    def failed_pages(self, channel: int | None, page: int = PAGE) -> Iterator[tuple[FailedTask, ...]]:
        """Yield all failed tasks, newest first, in pages of `page`. If `channel` is None, of all channels."""
        for records in failed_pages(self, channel, page):
            yield tuple(record.view for record in records)

    def failed_by_id(self, fails: Sequence[tuple[int, str, int]]) -> tuple[FailedTask, ...]:
        """Return those of these failed tasks (channel, id, time in ms) that are still there, newest first."""
        found: list[FailedTask] = []
        for first in range(0, len(fails), PAGE):
            places: dict[int, list[tuple[float, bytes]]] = {}
            for channel, id_, at_ms in fails[first : first + PAGE]:
                places.setdefault(channel, []).append((at_ms, id_.encode()))
            found += [record.view for record in failed_in(self, places)]
        return tuple(found)

    def fail_groups(self, channel: int | None) -> tuple[FailGroup, ...]:
        """Group all failed tasks by channel, error, stage and location. The largest group is first."""
        groups = FailGroups()
        for page in self.failed_pages(channel):
            groups.add(page)
        return groups.groups()

    def waiting_tasks(self, channel: int, limit: int) -> tuple[WaitingTask, ...]:
        """Return the next waiting tasks, in the order in which they will be claimed."""
        items = self.query("LRANGE", self.keys.channel(channel).waiting, 0, limit - 1)
        return tuple(
            waiting_task(item) for item in self.bodies.inline(channel, items, most_bytes=SHOWN_BODY_BYTES)
        )

    def last_results(self, channel: int, limit: int) -> tuple[ResultView, ...]:
        """Return the newest results that wait to be drained, newest first."""
        at = self.keys.channel(channel)
        items = self.query("LRANGE", at.results, -limit, -1)
        items = self.bodies.inline(channel, items, most_bytes=SHOWN_BODY_BYTES)
        return tuple(result_item_view(channel, item) for item in reversed(items))

    def device_log(self, device: int) -> tuple[str, ...]:
        """Return the last log lines of the device's agent, oldest first."""
        return tuple(decode_text(line) for line in self.query("LRANGE", self.keys.device_log(device), 0, -1))

    def task_lines(self, device: int) -> tuple[TaskLine, ...]:
        """Return the last lines that the device's tasks printed and logged, oldest first."""
        found = map(read_line, self.query("LRANGE", self.keys.device_lines(device), 0, -1))
        return tuple(line for line in found if line is not None)

    def running_task(self, actor: str, channel: int, id_: str) -> RunningDetail | None:
        """Return the payload of a task that an agent has claimed, or None if it has not."""
        try:
            claims = to_dict(self.query("HGETALL", self.keys.channel(channel).claims(actor)))
            claimed = unsettled_items(claims)
        except (wire.Undecodable, LookupError, ValueError, TypeError):
            return None
        found = next((item for item in claimed if item[2:22] == id_.encode("utf-8", "replace")), None)
        if found is None:
            return None
        (item,) = self.bodies.inline(channel, [found], most_bytes=SHOWN_BODY_BYTES)
        record = parse_failed(channel, id_, 0, item, b"")
        payload = record.value if record.unpacks else record.view.task
        return RunningDetail(payload, record.apart.size if record.apart else len(record.raw))

    def history(self) -> tuple[tuple[Sample, ...], ...]:
        """Return each channel's samples of the last hour, oldest first."""
        return tuple(
            tuple(Sample(*numbers[:7]) for numbers in self._history_lines(number))
            for number in range(self.channels())
        )

    def item_numbers(self, channel: int) -> set[int]:
        """Return the numbers of all items that wait, are delayed, have failed or left a result. Reads in pages."""
        at = self.keys.channel(channel)
        items: list[bytes] = []
        for command, key in (("LRANGE", at.waiting), ("LRANGE", at.results), ("ZRANGE", at.delayed)):
            start = 0
            while found := self._page(command, key, start, SEARCH_PAGE):
                items += [item[: list_item.HEADER_BYTES] for item in found]
                start += len(found)
        start = 0
        while found := self._page("ZRANGE", at.failed_at, start, SEARCH_PAGE):
            items += [b"M1" + id_ for id_ in found]
            start += len(found)
        return {int(item[10:22]) for item in items if item[10:22].isdigit()}

    def missing_tasks_text(self, channel: ChannelView) -> str:
        """Describe the missing or surplus tasks of an unbalanced channel in one sentence, with numbers if possible."""
        gap = channel.missing
        name = f"TaskChannel{channel.id}"
        if gap < 0:
            return (
                f"{name}: {-gap:,} tasks more than were allotted are in its lists: another program has changed them; "
                "run these items again in a new namespace"
            )
        tasks_are = f"{plural(gap, 'task')} {'is' if gap == 1 else 'are'}"
        head = f"{name}: {tasks_are} missing: they are in no list any more, and no command of MutiTask causes that"
        return f"{head}; {self._missing_numbers_text(channel, gap)}"

    def _missing_numbers_text(self, channel: ChannelView, gap: int) -> str:
        if channel.results < channel.done or channel.deleted or channel.claimed or channel.foreign:
            return (
                f"they are among the items 0 to {channel.allotted - 1:,}; their numbers are unknown, because no number "
                "is kept of tasks that are claimed or deleted or whose results were saved or drained"
            )
        if channel.allotted > SEARCHED_ITEMS:
            return f"they are among the items 0 to {channel.allotted - 1:,}"
        try:
            found = self.item_numbers(channel.id)
        except MutiTaskError as error:
            return f"their numbers could not be read ({error})"
        gone = sorted(set(range(channel.allotted)).difference(found))
        if len(gone) != gap:
            if not gone:
                return "their numbers are unknown"
            return f"they are among the items {gone[0]:,} to {gone[-1]:,}"
        if len(gone) == 1:
            return f"it is item {gone[0]:,}; give it to a new run"
        return f"the first is item {gone[0]:,}, the last item {gone[-1]:,}; give them to a new run"


def editable_json(record: FailedRecord) -> str | None:
    """Return the payload as indented JSON, or None if JSON would not return the same value."""
    if not record.unpacks or len(record.raw) > EDITABLE_BYTES:
        return None
    try:
        written = json.dumps(record.value, indent=2, ensure_ascii=False, allow_nan=False)
        parsed = json.loads(written)
    except (TypeError, ValueError, RecursionError):
        return None
    return written if _identical(record.value, parsed) else None


def _identical(left: Any, right: Any) -> bool:
    """Return whether both are equal and of the same types at every level: `(1,) != [1]`, `1 != True`."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(
            type(key) is str and _identical(value, right[key]) for key, value in left.items()
        )
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_identical, left, right))
    return bool(left == right)


def waiting_task(item: bytes) -> WaitingTask:
    """Parse an item of a channel's waiting list."""
    try:
        parsed = list_item.parse(item)
    except wire.Undecodable:
        return WaitingTask("", 0, 0, 0, f"foreign: {item[:SHOWN_CHARACTERS]!r}", len(item))
    apart = parsed.apart
    return WaitingTask(
        id=f"{parsed.run}{parsed.number:012d}",
        number=parsed.number,
        attempt=parsed.attempt,
        crashes=parsed.crashes,
        task=apart_text(apart) if apart else _body_text(parsed.body),
        size=apart.size if apart else len(parsed.body),
    )


def _body_text(body: bytes) -> str:
    try:
        value = wire.unpack(body)
    except wire.Undecodable:
        return f"does not unpack: {body[:SHOWN_CHARACTERS]!r}"
    return short_text(value, SHOWN_CHARACTERS)


def result_item_view(channel: int, item: bytes) -> ResultView:
    """Return an item of a result channel as text."""
    try:
        parsed = list_item.parse(item)
    except wire.Undecodable:
        parsed = None
    if parsed is None or parsed.apart is None:
        return result_view(parse_result(channel, item))
    size = parsed.apart.size
    large = "a large result," if size > SHOWN_BODY_BYTES else "its body is missing in Redis,"
    return ResultView(parsed.id, parsed.number, parsed.attempt, 0, 0, f"({large} {size_text(size)})")


def result_view(result: Result | bytes) -> ResultView:
    """Return a result as text."""
    if isinstance(result, bytes):
        return ResultView("", 0, 0, 0, 0, f"does not unpack: {result[:SHOWN_CHARACTERS]!r}")
    shown = short_text(result.value, SHOWN_CHARACTERS)
    return ResultView(result.id, result.number, result.attempt, result.device, result.finished_ms, shown)
