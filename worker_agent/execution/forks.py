"""Resets a process that user code forks: it gets Python's default signal handlers and never runs MutiTask's code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from typing import NoReturn

OWN_PACKAGES = ("worker_agent", "mutitask_tui", "asyncio", "textual")
"""A forked child drops the signal handlers of these packages: they talk to threads that the child does not have."""

BLOCKED_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

count = 0
"""The number of forks between this process and the one that imported this module. C code can fork uncounted."""


def ignore(_number: int, _frame: object) -> None:
    """Handle a signal by doing nothing. A program that exec starts does not inherit this, unlike SIG_IGN."""


def end_copy(error: BaseException | None) -> NoReturn:
    """End this process: a user's function forked, and this copy returned into MutiTask's code.

    It would run and settle the tasks of the original again. Its exit status is the one that Python would give it.
    """
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        status = 1
        with contextlib.suppress(BaseException):
            traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(status & 0xFF)


_masks = threading.local()
"""The signals that a thread had blocked before it forks."""


def _before() -> None:
    # A signal for the child may come before its handlers are reset. MutiTask's handler would take it, and it is lost.
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)


def _after_in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _after_in_child() -> None:
    global count
    count += 1
    try:
        _reset_handlers()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _reset_handlers() -> None:
    with contextlib.suppress(ValueError, OSError):
        signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        with contextlib.suppress(ValueError, OSError):
            handler = signal.getsignal(number)
            if getattr(handler, "__module__", "").partition(".")[0] in OWN_PACKAGES:
                default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, default)


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
