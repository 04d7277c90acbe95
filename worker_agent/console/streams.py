"""Our own streams, signals and settings: what a job does to this process while it is imported does not reach them."""

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

_errors: TextIO | None = None
"""A copy of stderr as it was when a console script began; None in a person's own program."""
_terminal: bool | None = None


def errors() -> TextIO:
    """Where our own lines go: stderr as it was before the job was imported; nowhere if there is none."""
    return _errors or sys.stderr or _nowhere()


def on_terminal() -> bool:
    """Whether stdin and stdout are a terminal, or were before the job was imported."""
    if _terminal is not None:
        return _terminal
    try:
        return sys.stdin.isatty() and sys.stdout.isatty()
    except (AttributeError, ValueError):  # None, or closed.
        return False


def let_go() -> None:
    """The terminal is gone: point the standard streams and our copy at nothing, so that no write fails or blocks."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2, *([_errors.fileno()] if _errors else [])):
        with contextlib.suppress(OSError):
            os.dup2(nothing, stream, inheritable=stream < 3)
    os.close(nothing)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Import a person's job in here: it may replace or close `sys.stdout`, or have SIGPIPE end the process.

    The streams under Python's names stay as the job left them, for its own output.
    """
    copies = [_copy(number) for number in (0, 1, 2)]
    names = ("__stdin__", "__stdout__", "__stderr__")
    before = [getattr(sys, name) for name in names]
    settings, home = _settings(), state_dir()
    try:
        yield
    finally:
        for number, (name, stream, copy) in enumerate(zip(names, before, copies, strict=True)):
            _bring_back(number, name, stream, copy)
        _take_signals_back()
        os.environ.update(settings)
        if state_dir() != home:
            os.environ[STATE_DIR_VARIABLE] = str(home)


@contextlib.contextmanager
def first_ones() -> Iterator[None]:
    """Let Python's own functions talk to a person on the streams that it began with, whatever a job has put there."""
    theirs = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = sys.__stdin__ or theirs[0]
    sys.stdout, sys.stderr = sys.__stdout__ or theirs[1], sys.__stderr__ or theirs[2]
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = theirs


def _settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("MUTITASK_")}


def keep() -> None:
    """For a console script, at its start: its own lines go where stderr is now, whatever a job does later."""
    global _errors, _terminal
    if _errors is None:
        _terminal = on_terminal()
        copy = _copy(2)
        if copy is not None:
            encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
            _errors = os.fdopen(copy, "w", encoding=encoding, errors="backslashreplace", buffering=1)


def _copy(number: int) -> int | None:
    try:
        return os.dup(number)
    except OSError:
        return None


def _bring_back(number: int, name: str, stream: Any, copy: int | None) -> None:
    """The descriptor and Python's first stream on it, which the dashboard draws on."""
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


def _take_signals_back() -> None:
    """A connection that breaks must raise, not end the process, and the end of a child must be told."""
    if threading.current_thread() is not threading.main_thread():
        return
    for name, ours in (("SIGPIPE", signal.SIG_IGN), ("SIGCHLD", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.SIG_IGN):
            signal.signal(number, ours)


@functools.cache
def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
