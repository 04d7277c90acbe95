"""Removes bodies that no task or result needs any more, and counts those that are missing. One thread of the server.

A body is stored before its item is pushed, and removed after its task has ended. A process that dies in between leaves
a body without an item: an orphan. A Redis that lost writes, or one master of a cluster that did, may have lost a body.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable

from mutitask_tui.server.body_references import BodyReferences, owner_of
from mutitask_tui.server.reader import Reader
from worker_agent.protocol.bodies import RESULT_MARK, key_prefix
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.errors import MutiTaskError, RedisRefused
from worker_agent.protocol.printable import printable
from worker_agent.protocol.unpatched import time

LEAST_PAUSE_S = 30.0
"""The shortest pause between two passes, in seconds."""
PAUSE_FACTOR = 20.0
"""A pause is at least so many times as long as the pass before it."""
PASSES = 3
"""A body goes if in so many passes in a row no list named it."""
MAX_BODIES = 1_000_000
"""The most bodies that one pass looks at. They take about 150 MB of memory."""
SCAN_PAGE = 1_000


class BodySweep(threading.Thread):
    """Makes passes until it is stopped. `broker` writes the counts, `source` is the author in the event log."""

    def __init__(
        self, reader: Reader, broker: Broker, source: str, *, least_pause_s: float = LEAST_PAUSE_S
    ) -> None:
        super().__init__(name="body-sweep", daemon=True)
        self._reader = reader
        self._broker = broker
        self._source = source
        self._least_pause_s = least_pause_s
        self._prefix = key_prefix(reader.name)
        self._stopped = threading.Event()
        self._stored: set[bytes] = set()
        """The bodies of this run that the last pass found."""
        self._unnamed: dict[bytes, int] = {}
        """In how many passes in a row no list named a body."""
        self._missing: set[bytes] = set()
        """The bodies that items named in the last pass and that did not exist."""
        self._first = True
        self._removed = 0
        self._written: dict[str, int] = {}
        self._told: set[str] = set()

    def stop(self) -> None:
        """Make no further pass."""
        self._stopped.set()

    def run(self) -> None:
        """Make passes until stopped."""
        pause = 0.0
        while not self._stopped.wait(pause):
            began = time.monotonic()
            try:
                self.sweep()
            except RedisRefused as error:
                self._tell(f"the bodies that no task needs any more are not removed: {error}")
            except MutiTaskError:
                pass  # Redis is away, or another server holds the namespace. Their own threads tell it.
            except Exception as error:
                # Agents write what this thread reads. The server goes on without it.
                self._tell(f"the bodies that no task needs any more are not removed: {type(error).__name__}")
            pause = max(self._least_pause_s, PAUSE_FACTOR * (time.monotonic() - began))

    def sweep(self) -> None:
        """Make one pass. Raises `MutiTaskError`."""
        run = self._held_run()
        if not run:
            return
        found = self._scan()
        # After the scan: the bodies of another run that began since then are not among those found.
        if self._held_run() != run:
            return
        stored = {key for key in found if (owner := owner_of(key, self._prefix)) and owner[1] == run}
        self._remove(found - stored)
        before, self._stored = self._stored, stored
        references = self._search(stored, before)
        unnamed = references.unnamed
        self._unnamed = {key: self._unnamed.get(key, 0) + 1 for key in unnamed}
        orphans = {key for key, passes in self._unnamed.items() if passes >= PASSES}
        missing = self._reader.bodies.missing(list(references.unknown))
        if self._held_run() != run:
            return
        self._remove(orphans)
        # Tasks that ended since their lists were read have no bodies either. They are in no list the next time.
        confirmed, self._missing = len(missing & self._missing), missing
        self._first = False
        self._write_counts(len(stored) - len(orphans), confirmed)

    def _search(self, stored: set[bytes], before: set[bytes]) -> BodyReferences:
        """Search the lists for the bodies of tasks that were allotted, if there were any a pass ago."""
        kept = stored & before
        owners = {key: owner for key in kept if (owner := owner_of(key, self._prefix))}
        cursors = {channel: self._cursor(channel) for channel in {owner[0] for owner in owners.values()}}
        # A body that is stored waits for its push as long as its number is not below the count of its channel.
        candidates = {key for key, (channel, _, number) in owners.items() if number < cursors[channel]}
        references = BodyReferences(self._reader, stored, candidates)
        channels = {owners[key][0] for key in candidates}
        # Results name bodies of results alone. There may be a million of them.
        with_results = {owners[key][0] for key in candidates if RESULT_MARK in key}
        everywhere = self._first or bool(self._missing) or (bool(before) and not stored)
        for channel in sorted(channels.union(range(self._reader.channels()) if everywhere else ())):
            if self._stopped.is_set():
                break
            results = channel in with_results or (everywhere and not self._first)
            references.read_channel(channel, results=results)
        return references

    def _cursor(self, channel: int) -> int:
        return self._broker.number(self._broker.keys.channel(channel).counters, "cursor")

    def _held_run(self) -> str:
        """Return the present run if this server holds the namespace, otherwise ''."""
        run, server = self._broker.query("HMGET", self._broker.keys.meta, "run", "server")
        held = server == self._broker.actor.id.encode() and not self._stopped.is_set()
        return run.decode("utf-8", "replace") if held and run else ""

    def _scan(self) -> set[bytes]:
        found: set[bytes] = set()
        for keys in self._reader.bodies.pages(SCAN_PAGE):
            found.update(keys)
            if len(found) >= MAX_BODIES or self._stopped.is_set():
                break
        return found

    def _remove(self, keys: Iterable[bytes]) -> None:
        removed = list(keys)
        self._reader.bodies.unlink(removed)
        self._removed += len(removed)

    def _write_counts(self, stored: int, missing: int) -> None:
        """Write the counts into the namespace, those that have changed."""
        counts = {"bodies": stored, "bodies_removed": self._removed, "bodies_missing": missing}
        changed = {field: count for field, count in counts.items() if self._written.get(field) != count}
        for field, count in changed.items():
            self._broker.set_meta_count(field, count)
            self._written[field] = count
        if changed:
            self._broker.set_meta_count("bodies_at_ms", self._broker.now_ms())

    def _tell(self, text: str) -> None:
        """Write a refusal into the event log once."""
        if text not in self._told and not self._stopped.is_set():
            self._told.add(text)
            with contextlib.suppress(MutiTaskError):
                self._broker.append_event("warning", self._source, printable(text, 500))
