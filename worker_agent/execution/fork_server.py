"""The program of the fork server: loads the job once, and forks a child process at each request.

    python -m worker_agent.execution.fork_server SOCKET

SOCKET is an inherited socket that keeps the bounds of messages. Each message is msgpack:

- The agent first sends the setup, as it does to a child that starts as a new program. The answer is {} once the job is
  loaded, {"why": ...} if it cannot be loaded, or {"unsafe": ...} if a process that holds it must not be forked.
- {"do": "fork"} comes with the pipes of a child. The answer is {"pid": ...} with a descriptor of the new process
  (pidfd), or {"why": ...}.
- {"do": "reap", "pid": ...} is asked once that child has ended. The answer is {"status": ...}. Until then the child
  stays a zombie, so that no other process gets its id while the agent may still send signals to it.
- {"do": "end"} ends the fork server, with the exit handlers of the job. Without it, the end of the socket does.

This process has one thread only, so its copies are whole: no other thread held a lock when they were made.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import select
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

from worker_agent.execution import child, forks, safe_forks
from worker_agent.protocol import codec

MESSAGE_BYTES = 1 << 17
"""The largest message. The setup holds the search path for modules, which is far smaller."""

_OWN_HANDLERS: dict[signal.Signals, Any] = {signal.SIGTERM: forks.ignore, signal.SIGCHLD: signal.SIG_DFL}
"""A service manager sends SIGTERM to all processes of an agent. The fork server still has to tell how children end."""


def main() -> None:
    """Load the job, fork children until the agent ends, and run as a child in each copy."""
    agent = socket.socket(fileno=int(sys.argv[1]))
    agent.set_inheritable(False)
    signal.signal(signal.SIGINT, forks.ignore)
    setup = codec.unpackb(agent.recv(MESSAGE_BYTES))
    child.prepare_import(setup)
    open_before = safe_forks.open_descriptors()
    try:
        with _ending_with(agent):
            functions = child.load_functions(setup)
    except BaseException as error:
        _answer(agent, {"why": child.describe_error(error)})
        sys.exit(2)
    if unsafe := safe_forks.why_unsafe(open_before):
        _answer(agent, {"unsafe": unsafe})
        return
    _serve(agent, functions, setup)


def _serve(agent: socket.socket, functions: child.JobFunctions, setup: dict[str, Any]) -> None:
    """Answer the agent's requests. In a new child, run its tasks instead."""
    handlers = {number: signal.signal(number, handler) for number, handler in _OWN_HANDLERS.items()}
    child.flush_streams()
    # What the job has made is shared with the children for longer if their garbage collectors do not write to it.
    gc.collect()
    gc.freeze()
    _answer(agent, {})
    while True:
        request, pipes = _next_request(agent)
        if request["do"] == "end":
            return
        if request["do"] == "reap":
            _answer(agent, {"status": _reap(request["pid"])})
        elif _fork(agent, pipes):
            _become_child(agent, handlers)
            child.main_of_copy(child.Pipes(*pipes), functions, setup)
            return


def _next_request(agent: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Wait for a request, and return it with its descriptors. End this process if the agent has ended."""
    message = b""
    with contextlib.suppress(ConnectionError):
        message, pipes, _, _ = socket.recv_fds(agent, MESSAGE_BYTES, len(child.Pipes._fields))
    if not message:
        os.killpg(0, signal.SIGKILL)
    return codec.unpackb(message), pipes


def _fork(agent: socket.socket, pipes: list[int]) -> bool:
    """Fork, and tell the agent. Return True in the child."""
    try:
        pid = os.fork()
    except OSError as error:
        pid = -1
        _answer(agent, {"why": child.describe_error(error)})
    if pid == 0:
        return True
    for pipe in pipes:
        os.close(pipe)
    if pid > 0:
        # The child does the same. Whoever comes first, the group exists before the agent sends it a signal.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        pidfd = os.pidfd_open(pid)
        socket.send_fds(agent, [codec.packb({"pid": pid})], [pidfd])
        os.close(pidfd)
    return False


def _reap(pid: int) -> int | None:
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if reaped else None


def _become_child(agent: socket.socket, handlers: dict[signal.Signals, Any]) -> None:
    """Turn a copy of the fork server into a child: what the job set holds again, and nothing of the agent stays."""
    agent.close()
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    for number, handler in handlers.items():
        # A handler that C code has set is None, and cannot be set again.
        if handler is not None:
            signal.signal(number, handler)
    # Python itself reseeds `random` in each copy.
    if numpy_random := sys.modules.get("numpy.random"):
        with contextlib.suppress(Exception):
            numpy_random.seed()
    _forget_exit_handlers()


def _forget_exit_handlers() -> None:
    """Leave the exit handlers that the job made while it was loaded to the fork server.

    They may remove a temporary directory that all children use.
    """
    atexit._clear()
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    atexit.register(weakref.finalize._exitfunc)  # type: ignore[attr-defined]
    if logging := sys.modules.get("logging"):
        atexit.register(logging.shutdown)


@contextlib.contextmanager
def _ending_with(agent: socket.socket) -> Iterator[None]:
    """End this process if the agent ends meanwhile: importing the job may take long, or never end."""
    stopped, stop = os.pipe()

    def watch() -> None:
        ready = select.select([agent.fileno(), stopped], [], [])[0]
        if stopped not in ready:
            os.killpg(0, signal.SIGKILL)

    thread = threading.Thread(target=watch, name="life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(stop)
        thread.join()
        os.close(stopped)


def _answer(agent: socket.socket, answer: dict[str, Any]) -> None:
    # If the agent has ended, the next look at the socket tells it.
    with contextlib.suppress(ConnectionError):
        agent.send(codec.packb(answer))


if __name__ == "__main__":
    main()
