"""Starts child processes that have loaded their functions, and tries again with growing pauses until one has."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from worker_agent.console.log import LOG
from worker_agent.execution.child_process import ChildEnded, ChildProcess, setup_of
from worker_agent.execution.fork_server_process import CannotStart, ForkServer, NotForkable
from worker_agent.execution.process_handle import describe_exit
from worker_agent.settings import Settings

RETRY_S = (1.0, 30.0)
"""The first and the longest pause before a child that could not start is started again."""


Child = TypeVar("Child", bound=ChildProcess)


class ChildStarter(Generic[Child]):
    """Starts the children of an agent, from a fork server if the job allows that. Any thread may call its methods."""

    def __init__(
        self, child_type: type[Child], settings: Settings, device: int, channels: Sequence[int],
        stopping: threading.Event,
    ) -> None:  # fmt: skip
        self._child_type = child_type
        self._setup = setup_of(settings, device, channels)
        self._stopping = stopping
        self._lock = threading.Lock()
        self._loading: set[Child] = set()
        """The children that load their functions."""
        self._killed = False
        uses_fork_server = settings.start_method == "forkserver"
        self._fork_server = ForkServer(self._setup) if uses_fork_server else None

    def start(self, is_needed: Callable[[], bool]) -> Child | None:
        """Return a child that has loaded its functions. Return None if none is needed any more, or after `kill`."""
        pause, longest = RETRY_S
        while not self._killed and is_needed():
            child, why = self._try_to_start()
            if child is not None:
                return child
            if self._killed:
                return None
            LOG.error("a child process could not start (%s): trying again in %g s", why, pause)
            if self._stopping.wait(pause):
                return None
            pause = min(longest, 2 * pause)
        return None

    def stop(self) -> None:
        """Kill the children that load their functions. No child starts any more."""
        with self._lock:
            self._killed = True
            for child in self._loading:
                child.kill()
            fork_server = self._fork_server
        if fork_server is not None:
            fork_server.stop_loading()

    def kill(self) -> None:
        """Do the same, and kill the fork server."""
        self.stop()
        if (fork_server := self._fork_server) is not None:
            fork_server.kill()

    def close(self) -> None:
        """Do the same, and end the fork server with the exit handlers of the job."""
        self.stop()
        if (fork_server := self._fork_server) is not None:
            fork_server.close()

    def _try_to_start(self) -> tuple[Child | None, str]:
        """Return a child that has loaded its functions, or None and why there is none."""
        try:
            child = self._new_child()
        except (CannotStart, OSError) as error:
            return None, str(error)
        with self._lock:
            if self._killed:
                child.kill()
            self._loading.add(child)
        why = ""
        try:
            with contextlib.suppress(ChildEnded):
                why = child.load_functions()
                if not why:
                    return child, ""
        finally:
            with self._lock:
                self._loading.discard(child)
        how = describe_exit(child.reap())
        return None, why or how

    def _new_child(self) -> Child:
        """Return a new child. It loads its functions itself if the job must not be copied."""
        if (fork_server := self._fork_server) is not None:
            try:
                return self._child_type(self._setup, fork_server)
            except NotForkable as error:
                with self._lock:
                    is_first, self._fork_server = self._fork_server is not None, None
                if is_first:
                    LOG.info(
                        f"each child process loads the job itself (start method spawn), because copies of the job "
                        f"would disturb each other: {error}; do that in setup() to share the job's memory"
                    )
        return self._child_type(self._setup)
