"""Protects MutiTask's own streams, signals and settings from the job that this process imports."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from worker_agent.protocol.connection.address import STATE_DIR_VARIABLE, state_dir

_stderr: TextIO | None = None
"""A copy of stderr, made when a console script starts. None in a user's own program."""
_kept_stderr: TextIO | None = None
"""Stderr as it was before tasks' lines were taken from it. None while they are not."""
_terminal: bool | None = None
"""Whether stdin and stdout were a terminal when a console script started. None in a user's own program."""


def stderr() -> TextIO:
    """Return the stream for MutiTask's own lines: stderr as it was before the job's import, else a null stream."""
    return _stderr or _kept_stderr or sys.stderr or _null_stream()


def keep_stderr(stream: TextIO | None) -> None:
    """Keep a stream for MutiTask's own lines while another one stands in its place. None: no longer."""
    global _kept_stderr
    _kept_stderr = stream


def stdout_is_apart() -> bool:
    """Return whether stdout goes elsewhere than stderr: to a file or to another program."""
    try:
        out, err = os.fstat(sys.stdout.fileno()), os.fstat(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # A stream is None, closed, or no file.
        return False
    return (out.st_dev, out.st_ino) != (err.st_dev, err.st_ino)


def on_terminal() -> bool:
    """Return whether stdin and stdout are a terminal, or were one before the job's import."""
    if _terminal is not None:
        return _terminal
    try:
        return sys.stdin.isatty() and sys.stdout.isatty()
    except (AttributeError, ValueError):  # The stream is None or closed.
        return False


def save_stderr() -> None:
    """Keep a copy of stderr. A console script calls this first, so that no job can redirect MutiTask's own lines."""
    global _stderr, _terminal
    if _stderr is None:
        _terminal = on_terminal()
        copy = _duplicate(2)
        if copy is not None:
            encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
            _stderr = os.fdopen(copy, "w", encoding=encoding, errors="backslashreplace", buffering=1)


def detach_terminal() -> None:
    """Point the standard streams and the copy of stderr at the null device.

    Called when the terminal is gone, so that no write fails or blocks.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2, *([_stderr.fileno()] if _stderr else [])):
        with contextlib.suppress(OSError):
            os.dup2(null, stream, inheritable=stream < 3)
    os.close(null)


def restore_descriptors() -> None:
    """Let stderr be the one with which the program started, for a program that takes this one's place by exec."""
    if _stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(_stderr.fileno(), 2)


@contextlib.contextmanager
def preserved() -> Iterator[None]:
    """Restore descriptors, first streams, signals and `MUTITASK_*` settings after the import of a job.

    A job may replace or close `sys.stdout`, or let SIGPIPE end the process. `sys.stdin`, `sys.stdout` and
    `sys.stderr` stay as the job left them, for its own output.
    """
    copies = [_duplicate(number) for number in (0, 1, 2)]
    names = ("__stdin__", "__stdout__", "__stderr__")
    before = [getattr(sys, name) for name in names]
    settings, home = _environment_settings(), state_dir()
    try:
        yield
    finally:
        for number, (name, stream, copy) in enumerate(zip(names, before, copies, strict=True)):
            _restore_stream(number, name, stream, copy)
        _restore_signals()
        os.environ.update(settings)
        if state_dir() != home:
            os.environ[STATE_DIR_VARIABLE] = str(home)


@contextlib.contextmanager
def original() -> Iterator[None]:
    """Let Python's own functions use the streams that the process started with, whatever a job has put there."""
    replaced = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = sys.__stdin__ or replaced[0]
    sys.stdout, sys.stderr = sys.__stdout__ or replaced[1], sys.__stderr__ or replaced[2]
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = replaced


def _environment_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("MUTITASK_")}


def _duplicate(number: int) -> int | None:
    try:
        return os.dup(number)
    except OSError:
        return None


def _restore_stream(number: int, name: str, stream: Any, copy: int | None) -> None:
    """Restore a descriptor and Python's first stream on it. The dashboard draws on that stream."""
    if copy is None:
        return
    try:
        os.fstat(number)
    except OSError:
        os.dup2(copy, number)
    os.close(copy)
    if stream is None or stream.closed:
        mode = "r" if number == 0 else "w"
        stream = os.fdopen(number, mode, encoding="utf-8", errors="replace", closefd=False)
    setattr(sys, name, stream)


def _restore_signals() -> None:
    """Ignore SIGPIPE, so that a broken connection raises. Restore SIGCHLD, so that the end of a child is reported."""
    if threading.current_thread() is not threading.main_thread():
        return
    for name, handler in (("SIGPIPE", signal.SIG_IGN), ("SIGCHLD", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.SIG_IGN):
            signal.signal(number, handler)


@functools.cache
def _null_stream() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
