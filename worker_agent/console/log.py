"""The log of an agent: the logger `worker_agent`, and its handler on stderr."""

from __future__ import annotations

import logging

from worker_agent.console import log_format, streams
from worker_agent.console.lines import make_printable

LOG = logging.getLogger("worker_agent")
LOG.addFilter(make_printable)


class ProtectedLogger(logging.Logger):
    """A logger that a job's `logging.disable` or `dictConfig` cannot silence."""

    disabled = property(lambda _self: False, lambda _self, _value: None)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        """Return whether a record of this level is kept: the device's log has all from INFO on."""
        return level >= min(logging.INFO, log_format.least_level())


def log_to_stderr(*, protected: bool = False) -> None:
    """Give the agent's log a handler on stderr, unless the program has set one.

    With `protected`, the log goes to the saved stderr, and the job that is imported next can neither redirect nor
    silence it.
    """
    if protected:
        LOG.__class__ = ProtectedLogger
    if not LOG.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler(streams.stderr() if protected else None)
        text_format = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
        handler.setFormatter(log_format.JsonFormatter() if log_format.is_json() else text_format)
        handler.setLevel(log_format.least_level())
        LOG.addHandler(handler)
        LOG.setLevel(min(logging.INFO, log_format.least_level()))
        LOG.propagate = False
