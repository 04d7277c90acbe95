"""Reads what a person drills down to: failed tasks in full and in groups, waiting tasks, results, logs, history."""

from __future__ import annotations

import re
from typing import Any

from mutitask_tui.server.reader import FailedRecord, Reader, Result
from mutitask_tui.server.snapshot import FailedDetail, FailedRun, FailGroup, ResultView, Sample, WaitingTask
from mutitask_tui.server.snapshot_parser import history_line, text
from worker_agent.protocol import wire
from worker_agent.protocol.pristine import json
from worker_agent.protocol.words import in_words

GROUPED = 10_000
PAGE = 500
SHOWN_CHARACTERS = 400
EDITABLE_BYTES = 1024 * 1024


class Inspector(Reader):
    """A reader for one thing at a time. Every method raises `RedisUnavailable` or `RedisRefused`."""

    def failed_task(self, channel: int, id_: str) -> FailedDetail | None:
        """One failed task in full; None if it is no longer there."""
        record = self.failed_record(channel, id_)
        if record is None:
            return None
        return FailedDetail(
            task=record.view,
            attempt=record.attempt,
            crashes=record.crashes,
            payload=record.value if record.unpacks else record.raw,
            unpacks=record.unpacks,
            json=editable(record),
            size=len(record.raw),
            failed_runs=tuple(
                FailedRun(r.at_ms, r.device, r.stage, r.type, r.message, r.traceback) for r in record.reasons
            ),
        )

    def fail_groups(self, channel: int | None) -> tuple[FailGroup, ...]:
        """Failed tasks grouped by channel, error, stage and place, the largest group first; of the newest 10,000."""
        groups: dict[tuple[int, str, str, str], list[FailedRecord]] = {}
        for number in range(self.channels()) if channel is None else [channel]:
            for offset in range(0, GROUPED, PAGE):
                page = self.failed_records(number, offset, PAGE)
                for record in page:
                    view = record.view
                    key = (number, view.error_type, view.stage, where(view.traceback, view.error))
                    groups.setdefault(key, []).append(record)
                if len(page) < PAGE:
                    break
        found = [
            FailGroup(*key, len(records), max(r.view.failed_ms for r in records), records[0].view)
            for key, records in groups.items()
        ]
        return tuple(sorted(found, key=lambda group: (-group.count, -group.newest_ms)))

    def waiting_tasks(self, channel: int, limit: int) -> tuple[WaitingTask, ...]:
        """The next waiting tasks, the first to be claimed first."""
        items = self._ask("LRANGE", self.keys.channel(channel).waiting, 0, limit - 1)
        return tuple(_waiting(item) for item in items)

    def last_results(self, channel: int, limit: int) -> tuple[ResultView, ...]:
        """The newest results that wait, newest first."""
        at = self.keys.channel(channel)
        count = int(self._ask("LLEN", at.results))
        _, results = self.results(channel, max(0, count - limit), limit)
        return tuple(_shown(result) for result in reversed(results))

    def device_log(self, device: int) -> tuple[str, ...]:
        """The tail of what the device's agent logged, oldest first."""
        return tuple(text(line) for line in self._ask("LRANGE", self.keys.device_log(device), 0, -1))

    def history(self) -> tuple[tuple[Sample, ...], ...]:
        """For each channel the samples of the last hour, oldest first."""
        return tuple(self._history(number) for number in range(self.channels()))

    def _history(self, channel: int) -> tuple[Sample, ...]:
        lines = self._ask("LRANGE", self.keys.channel(channel).history, 0, -1)
        return tuple(Sample(*numbers[:7]) for numbers in map(history_line, lines) if numbers is not None)


def editable(record: FailedRecord) -> str | None:
    """The payload as indented JSON; None where JSON would not give the same value back."""
    if not record.unpacks or len(record.raw) > EDITABLE_BYTES:
        return None
    try:
        written = json.dumps(record.value, indent=2, ensure_ascii=False, allow_nan=False)
        same = json.loads(written)
    except (TypeError, ValueError, RecursionError):
        return None
    return written if _identical(record.value, same) else None


def _identical(left: Any, right: Any) -> bool:
    """Equal and of the same types all the way down: `(1,) != [1]`, `1 != True`."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(
            type(key) is str and _identical(value, right[key]) for key, value in left.items()
        )
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_identical, left, right))
    return bool(left == right)


def where(traceback: str, error: str) -> str:
    """The deepest place of a traceback in short, such as `job.py:12 in parse`; the error's text without one."""
    places = re.findall(r'File "([^"\n]*)", line (\d+)(?:, in (\S+))?', traceback)
    if not places:
        return error.partition("\n")[0][:80]
    # A SyntaxError ends with the place in the text that it could not read, which is no frame.
    file, line, function = next((place for place in reversed(places) if place[2]), places[-1])
    name = file.replace("\\", "/").rpartition("/")[2]
    return f"{name}:{line}" + (f" in {function}" if function else "")


def _waiting(item: bytes) -> WaitingTask:
    try:
        parsed = wire.parse(item)
    except wire.Undecodable:
        return WaitingTask("", 0, 0, 0, f"foreign: {item[:SHOWN_CHARACTERS]!r}", len(item))
    return WaitingTask(
        id=f"{parsed.run}{parsed.number:012d}",
        number=parsed.number,
        attempt=parsed.attempt,
        crashes=parsed.crashes,
        task=_in_short(parsed.body),
        size=len(parsed.body),
    )


def _in_short(body: bytes) -> str:
    try:
        value = wire.unpack(body)
    except wire.Undecodable:
        return f"does not unpack: {body[:SHOWN_CHARACTERS]!r}"
    return in_words(value, SHOWN_CHARACTERS)


def _shown(result: Result | bytes) -> ResultView:
    if isinstance(result, bytes):
        return ResultView("", 0, 0, 0, 0, f"does not unpack: {result[:SHOWN_CHARACTERS]!r}")
    shown = in_words(result.value, SHOWN_CHARACTERS)
    return ResultView(result.id, result.number, result.attempt, result.device, result.finished_ms, shown)
