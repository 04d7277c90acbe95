"""The commands about failed tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from mutitask_tui.server.commands.base import CommandGroup, channels_text
from mutitask_tui.server.commands.registry import CommandError, Outcome
from mutitask_tui.server.exports import export_failed, export_selected
from mutitask_tui.server.files import write_new_file
from mutitask_tui.server.watch import current_watch
from worker_agent.protocol import wire
from worker_agent.protocol.broker import Reload
from worker_agent.protocol.calls import MAX_TASKS_PER_CALL
from worker_agent.protocol.errors import Unpackable
from worker_agent.protocol.text import plural
from worker_agent.protocol.unpatched import time

YIELD_S = 0.001
"""A pause between two steps of a long command, in seconds, in which other commands get their turn."""


class FailCommands(CommandGroup):
    """The methods that count, reload, delete, edit and export."""

    def detect_fail_channel(self) -> Outcome:
        """Count the failed tasks of each channel."""
        counts = {channel.id: channel.failed for channel in self.reader.snapshot().channels}
        text = "; ".join(f"FailChannel{number} {count:,} failed" for number, count in counts.items())
        return Outcome(text or "no channels", data={"failed": {str(n): count for n, count in counts.items()}})

    def reload_all_fail_tasks(self, channel: int | None = None) -> Outcome:
        """Put all failed tasks of one channel, or of all channels, back with fresh retries."""
        channels = self.require_channels(channel)
        watch, moved, until = current_watch(), 0, b""
        total = sum(c.failed for c in self.reader.snapshot().channels if c.id in set(channels))
        for number in channels:
            step = Reload(until=until)  # No channel's tasks that failed after the command are taken.
            while step.more and not watch.stopped:
                step = self.call(lambda b, n=number, s=step: b.reload_step(n, s))  # type: ignore[misc]
                moved, until = moved + step.moved, step.until
                watch.tell("reloaded", moved, total)
                if step.more:
                    time.sleep(YIELD_S)
        if watch.stopped:
            text = (
                f"stopped: {moved:,} of {total:,} failed tasks went back; the others stay in the FailChannel"
            )
        else:
            text = f"{moved:,} failed tasks of {channels_text(channels)} went back"
        return Outcome(text, data={"reloaded": moved, "channels": channels, "stopped": watch.stopped})

    def reload_one_fail_task(self, channel: int, id_: str) -> Outcome:
        """Put one failed task back with fresh retries."""
        self.require_channels(channel)
        full = self.reader.full_id(channel, id_)
        if self.call(lambda b: b.reload(channel, [full])):
            return Outcome(f"task {id_} went back to TaskChannel{channel}", data={"reloaded": 1})
        record = self.reader.failed_record(channel, full)
        if record is not None and record.view.stage == "foreign":
            raise CommandError(f"task {id_} is foreign: it has no header to run it by; edit or delete it")
        raise _no_longer_there(channel, id_)

    def delete_one_fail_task(self, channel: int, id_: str) -> Outcome:
        """Delete one failed task for good."""
        self.require_channels(channel)
        full = self.reader.full_id(channel, id_)
        if not self.call(lambda b: b.delete(channel, [full])):
            raise _no_longer_there(channel, id_)
        return Outcome(f"task {id_} deleted from FailChannel{channel}", data={"deleted": 1})

    def edit_fail_task(self, channel: int, id_: str, task: Any) -> Outcome:
        """Give a failed task another payload and put it back."""
        self.require_channels(channel)
        full = self.reader.full_id(channel, id_)
        try:
            body = wire.pack(task)
        except Unpackable as error:
            raise CommandError(f"the new payload is {error}") from None
        if not self.call(lambda b: b.edit(channel, full, body)):
            raise _no_longer_there(channel, id_)
        return Outcome(f"task {id_} edited; it went back to TaskChannel{channel}", data={"edited": 1})

    def export_fail_tasks(self, channel: int | None = None) -> Outcome:
        """Write the failed tasks of one channel, or of all channels, to a file in the current directory."""
        self.require_channels(channel)
        part = "" if channel is None else f"-{channel}"
        return self._export(part, lambda file: export_failed(self.reader, channel, file))

    def export_selected(self, targets: Sequence[tuple[int, str]]) -> Outcome:
        """Write these failed tasks (channel, id) to a file in the current directory."""
        return self._export("-selected", lambda file: export_selected(self.reader, targets, file))

    def move_failed_tasks(self, targets: Sequence[tuple[int, str]], *, delete: bool) -> Outcome:
        """Reload these failed tasks (channel, id), or delete them, in calls of at most 1,000."""
        by_channel: dict[int, list[str]] = {}
        for channel, id_ in targets:
            by_channel.setdefault(channel, []).append(id_)
        watch, tried, done = current_watch(), 0, 0
        for channel, ids in by_channel.items():
            self.require_channels(channel)
            for first in range(0, len(ids), MAX_TASKS_PER_CALL):
                if watch.stopped:
                    break
                part = ids[first : first + MAX_TASKS_PER_CALL]
                done += self.call(lambda b, c=channel, p=part: b.delete(c, p) if delete else b.reload(c, p))  # type: ignore[misc]
                tried += len(part)
                watch.tell("deleted" if delete else "reloaded", done, len(targets))
                if len(part) == MAX_TASKS_PER_CALL:
                    time.sleep(YIELD_S)
        verb = "deleted" if delete else "went back to their task channels"
        text = f"{plural(done, 'failed task')} {verb}"
        if tried > done:
            text += f"; {tried - done:,} no longer there"
        if len(targets) > tried:
            text = f"stopped: {text}; the other {len(targets) - tried:,} stay in the FailChannel"
        data = {"asked": len(targets), "done": done, "stopped": len(targets) > tried}
        return Outcome(text, ok=done > 0 or len(targets) > tried, data=data)

    def _export(self, part: str, write: Callable[[IO[str]], int]) -> Outcome:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        wanted = Path.cwd() / f"fail-tasks-{self.reader.name}{part}-{stamp}.jsonl"
        try:
            count, path = write_new_file(wanted, write)
        except OSError as error:
            raise CommandError(f"cannot write {wanted}: {error.strerror}") from None
        if path is None:
            return Outcome("there are no failed tasks: no file was written", data={"count": 0, "path": None})
        stopped = current_watch().stopped
        text = f"{'stopped: ' if stopped else ''}{count:,} failed tasks written to {path}"
        return Outcome(text, data={"count": count, "path": str(path), "stopped": stopped})


def _no_longer_there(channel: int, id_: str) -> CommandError:
    return CommandError(
        f"task {id_} is no longer there in FailChannel{channel}: it was reloaded or deleted, or never failed"
    )
