"""Restart the embedded Valkey of a server if it ends: because it was killed, or because its disk was full."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mutitask_tui.embedded.directory import Fsync, read_log
from mutitask_tui.embedded.process import EmbeddedServer
from mutitask_tui.embedded.valkey import ensure
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.identity import is_gone, process_of

CHECK_INTERVAL_S = 0.5
MAX_RETRY_INTERVAL_S = 10.0
"""The longest wait between two tries, for example while the disk is still full."""


class Keeper(threading.Thread):
    """Watches `server` and restarts it on the same port, until `end()`.

    `on_note` is called once for each event, with a sentence. Not for throwaway servers: their data ends with them.
    """

    def __init__(
        self, server: EmbeddedServer, name: str, fsync: Fsync, on_note: Callable[[str], None]
    ) -> None:
        super().__init__(name="keeper", daemon=True)
        self._server = server
        self._name = name
        self._fsync = fsync
        self._on_note = on_note
        self._ended = threading.Event()
        self._starting = threading.Lock()
        self.data_removed = False
        """Whether the data directory was removed while Valkey runs: its data is in memory only."""

    def end(self) -> None:
        """Prevent further restarts, and wait for a restart that is in progress."""
        self._ended.set()
        with self._starting:
            pass

    def run(self) -> None:
        """Check the process and its directory every half second, until `end()`."""
        process = process_of(self._server.pid)
        while not self._ended.wait(CHECK_INTERVAL_S):
            if is_gone(process):
                self._restart()
                process = process_of(self._server.pid)
            elif not self.data_removed:
                self._check_directory()

    def _check_directory(self) -> None:
        directory, has_data = self._server.directory, self._server.has_data
        try:
            restored = self._server.restore_server_file()
        except (OSError, MutiTaskError) as error:
            restored = False
            self.data_removed = True
            self._on_note(f"{directory} was removed and cannot be created again ({error})")
        if not has_data:
            self.data_removed = True
            self._on_note(
                f"{directory / 'data'} was removed while the embedded Valkey (process {self._server.pid}) uses it: "
                "the run continues, but its data is in memory only; export the results before that process ends"
            )
        elif restored:
            self._on_note(f"{directory / 'server.json'} was removed: it is written again")

    def _restart(self) -> None:
        last = [line.strip() for line in read_log(self._server.directory).splitlines() if line.strip()][-1:]
        why = f" ({last[0]})" if last else ""
        self._on_note(f"the embedded Valkey (process {self._server.pid}) ended{why}; starting it again")
        reported, interval = "", CHECK_INTERVAL_S
        while not self._ended.is_set():
            try:
                with self._starting:
                    if self._ended.is_set():
                        return
                    restarted = ensure(
                        self._name, port=self._server.port, listen=self._server.listen, fsync=self._fsync
                    )
            except MutiTaskError as error:
                if str(error) != reported:
                    reported = str(error)
                    self._on_note(f"{reported} Trying again.")
                self._ended.wait(interval)
                interval = min(MAX_RETRY_INTERVAL_S, 2 * interval)
            else:
                self._server.pid = restarted.pid
                self._on_note(f"the embedded Valkey runs again (process {restarted.pid})")
                return
