"""Starts the embedded Valkey again where it ended under its server: killed, or stopped by a full disk."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mutitask_tui.embedded import valkey as embedded
from mutitask_tui.embedded.home import Fsync, log_text
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.identity import is_gone, of

LOOK_S = 0.5
LONGEST_PAUSE_S = 10.0
"""Between two tries, where it does not start: the disk is still full, say."""


class Keeper(threading.Thread):
    """Looks after `own` until ended, on the port that everybody knows. `on_note` is told what happened, once each.

    What is throw-away is not looked after: its data is gone with it.
    """

    def __init__(
        self, own: embedded.EmbeddedServer, name: str, fsync: Fsync, on_note: Callable[[str], None]
    ) -> None:
        super().__init__(name="keeper", daemon=True)
        self._own = own
        self._name = name
        self._fsync = fsync
        self._on_note = on_note
        self._ended = threading.Event()
        self._starting = threading.Lock()
        self.homeless = False
        """Whether somebody removed its data while it ran: what it holds is in memory only."""

    def end(self) -> None:
        """Start it no more; returns when no start is under way."""
        self._ended.set()
        with self._starting:
            pass

    def run(self) -> None:
        """Until ended."""
        process = of(self._own.pid)
        while not self._ended.wait(LOOK_S):
            if is_gone(process):
                self._start_again()
                process = of(self._own.pid)
            elif not self.homeless:
                self._look_at_home()

    def _look_at_home(self) -> None:
        data, had_data = self._own.directory / "data", self._own.has_data
        try:
            was_there = self._own.keep_note()
        except (OSError, MutiTaskError) as error:
            was_there = False
            self.homeless = True
            self._on_note(f"{self._own.directory} is gone and cannot be made again ({error})")
        if not had_data:
            self.homeless = True
            self._on_note(
                f"somebody removed {data} while the embedded Valkey (process {self._own.pid}) works in it: the run "
                "goes on, and what it holds is in memory only; export the results before that process ends"
            )
        elif not was_there:
            self._on_note(f"{self._own.directory / 'server.json'} was removed: it is written again")

    def _start_again(self) -> None:
        last = [line.strip() for line in log_text(self._own.directory).splitlines() if line.strip()][-1:]
        why = f" ({last[0]})" if last else ""
        self._on_note(f"the embedded Valkey (process {self._own.pid}) ended{why}; starting it again")
        said, pause = "", LOOK_S
        while not self._ended.is_set():
            try:
                with self._starting:
                    if self._ended.is_set():
                        return
                    again = embedded.ensure(
                        self._name, port=self._own.port, listen=self._own.listen, fsync=self._fsync
                    )
            except MutiTaskError as error:
                if str(error) != said:
                    said = str(error)
                    self._on_note(f"{said} Trying again.")
                self._ended.wait(pause)
                pause = min(LONGEST_PAUSE_S, 2 * pause)
            else:
                self._own.pid = again.pid
                self._on_note(f"the embedded Valkey runs again (process {again.pid})")
                return
