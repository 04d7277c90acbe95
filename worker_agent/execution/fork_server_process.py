"""The agent's side of the fork server: starts it, lets it fork children, and starts it again if it dies."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worker_agent.console.log import LOG
from worker_agent.execution.process_handle import describe_exit, is_readable, python_command
from worker_agent.protocol import codec
from worker_agent.protocol.unpatched import time

ANSWER_BYTES = 1 << 16
"""The largest answer."""
SHORT_LIFE_S = 2.0
"""A fork server that dies this soon is not started again at once."""
GRACE_S = 5.0
"""How long the fork server may take to end by itself, with the exit handlers of the job."""


class NotForkable(Exception):
    """A process that has loaded the job must not be forked. The text says why."""


class CannotStart(Exception):
    """The fork server could not load the job, or could not fork. The text says why."""


class _ServerEnded(Exception):
    """The fork server has ended."""


class ForkServer:
    """Keeps a fork server running. Any thread may call its methods.

    `setup` is what a fork server must know to load the job.
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        self._setup = setup
        self._starting = threading.Lock()
        """Held while a fork server is started."""
        self._server: _Server | None = None
        self._failure: tuple[float, Exception] | None = None
        """When the last start failed (monotonic), and why."""
        self._closed = False

    def fork(self, pipes: Sequence[int]) -> ForkedProcess:
        """Return a new child that has these pipes. Raises `NotForkable` or `CannotStart`."""
        for _ in range(2):
            server = self._running_server(time.monotonic())
            with contextlib.suppress(_ServerEnded):
                answer, descriptors = server.ask({"do": "fork"}, pipes)
                if not descriptors:
                    raise CannotStart(str(answer.get("why", "")))
                return ForkedProcess(answer["pid"], descriptors[0], server)
        raise CannotStart("the fork server died")

    def stop_loading(self) -> None:
        """Start no fork server any more. Kill one that loads the job."""
        self._closed = True
        if self._starting.locked():
            self.kill()

    def close(self) -> None:
        """End the fork server with the job's exit handlers. Kill it if that takes longer than `GRACE_S`."""
        self._closed = True
        if (server := self._server) is not None:
            server.end()

    def kill(self) -> None:
        """Kill the fork server, also while it loads the job."""
        self._closed = True
        if (server := self._server) is not None:
            server.kill()

    def _running_server(self, asked_at: float) -> _Server:
        """Return the fork server, and start one if none runs."""
        with self._starting:
            if self._server is not None and not self._server.has_ended():
                return self._server
            if self._failure is not None and self._failure[0] >= asked_at:
                raise self._failure[1]  # It has just failed, while this thread waited.
            if self._closed:
                raise CannotStart("the agent stops")
            server = self._server = _Server()
            try:
                server.load(self._setup)
            except (NotForkable, CannotStart) as error:
                server.kill()
                self._server = None
                self._failure = time.monotonic(), error
                raise
            threading.Thread(target=self._watch, args=(server,), name="fork-server", daemon=True).start()
            return server

    def _watch(self, server: _Server) -> None:
        """Wait until the fork server ends. Start another one, unless the agent has ended it."""
        status = server.process.wait()
        if self._closed:
            return
        LOG.error(
            "the fork server died (%s): it is started again; the running tasks continue",
            describe_exit(status),
        )
        if time.monotonic() < server.started_at + SHORT_LIFE_S:
            return  # Whoever needs a child next starts another one, after a pause that grows.
        try:
            self._running_server(time.monotonic())
        except (NotForkable, CannotStart) as error:
            LOG.error("the fork server could not start (%s)", error)


class _Server:
    """One process of the fork server."""

    def __init__(self) -> None:
        self._socket, inherited = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with inherited:
            self.process = subprocess.Popen(
                [*python_command("worker_agent.execution.fork_server"), str(inherited.fileno())],
                stdin=subprocess.DEVNULL, pass_fds=[inherited.fileno()], process_group=0,
            )  # fmt: skip
        self.started_at = time.monotonic()
        self._asking = threading.Lock()
        self._ended = False

    def load(self, setup: dict[str, Any]) -> None:
        """Let the process load the job, and wait for it. Raises `NotForkable` or `CannotStart`."""
        try:
            answer, _ = self.ask(setup)
        except _ServerEnded:
            how = describe_exit(self.process.wait())
            raise CannotStart(f"the process that loads the job ended with {how}") from None
        if "unsafe" in answer:
            raise NotForkable(str(answer["unsafe"]))
        if "why" in answer:
            raise CannotStart(str(answer["why"]))

    def ask(
        self, request: dict[str, Any], descriptors: Sequence[int] = ()
    ) -> tuple[dict[str, Any], list[int]]:
        """Return the answer to a request, and the descriptors that come with it. Raises `_ServerEnded`."""
        with self._asking:
            try:
                socket.send_fds(self._socket, [codec.packb(request)], descriptors)
                message, received, _, _ = socket.recv_fds(self._socket, ANSWER_BYTES, 1)
            except ConnectionError:
                message = b""
        if not message:
            self._ended = True
            raise _ServerEnded
        for descriptor in received:
            os.set_inheritable(descriptor, False)
        return codec.unpackb(message), received

    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        return self._ended or self.process.poll() is not None

    def end(self) -> None:
        """Let the process end, and wait for it up to `GRACE_S`."""
        with contextlib.suppress(ConnectionError):
            self._socket.send(codec.packb({"do": "end"}))
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        self.kill()

    def kill(self) -> None:
        """Kill the process, with all that the job has started in its group."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class ForkedProcess:
    """A child process that the fork server has forked."""

    def __init__(self, pid: int, pidfd: int, server: _Server) -> None:
        self.pid = pid
        self.pidfd: int | None = pidfd
        self._pidfd = pidfd
        self._server = server

    def has_ended(self, seconds: float = 0) -> bool:
        """Return whether the process has ended, after waiting up to `seconds` for it."""
        return is_readable(self._pidfd, seconds)

    def reap(self) -> int | None:
        """Wait for the end of the process, and return its status. None if its fork server has died."""
        is_readable(self._pidfd, None)
        try:
            status: int | None = self._server.ask({"do": "reap", "pid": self.pid})[0]["status"]
        except _ServerEnded:
            return None
        return status

    def signal_group(self, number: int) -> None:
        """Send a signal to the process group."""
        if self._is_own_group():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def close(self) -> None:
        """Close the descriptor of the process."""
        os.close(self._pidfd)

    def _is_own_group(self) -> bool:
        """Return whether the process group with this number is certainly still that of this process.

        The fork server reaps the process only when it is asked to. If the fork server has died, the system reaps it,
        and its number can go to another process, unless the group still has members.
        """
        fields = Path(f"/proc/self/fdinfo/{self._pidfd}").read_text().split()
        is_reaped = fields[fields.index("Pid:") + 1] == "-1"
        return not is_reaped or not Path(f"/proc/{self.pid}").exists()
