"""What a process forked by a task, a save function or a generator finds: Python's defaults, and nothing of ours."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from typing import NoReturn

OURS = ("worker_agent", "mutitask_tui", "asyncio", "textual")
"""The packages whose signal handlers a forked child must not keep: they talk to threads that it does not have."""

HELD = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

count = 0
"""How many forks lie between this process and the one that imported this module, but for those behind Python's back."""


def ignore(_number: int, _frame: object) -> None:
    """A handler that does nothing. Unlike SIG_IGN it is not inherited by what is started by exec."""


def end_copy(error: BaseException | None) -> NoReturn:
    """End this process: a person's function forked, and this copy came back into our code.

    It would run and settle again what is the original's. Its exit status is what Python would give it.
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
    # A signal for the child that comes before its handlers are reset would be taken by ours, and lost.
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def _after_in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _after_in_child() -> None:
    global count
    count += 1
    try:
        _take_handlers_away()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _take_handlers_away() -> None:
    with contextlib.suppress(ValueError, OSError):
        signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        with contextlib.suppress(ValueError, OSError):
            handler = signal.getsignal(number)
            if getattr(handler, "__module__", "").partition(".")[0] in OURS:
                by_default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, by_default)


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
