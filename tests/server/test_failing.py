"""If one of the server's threads raises, the server ends in order and says why."""

from __future__ import annotations

from typing import Any

import pytest

from mutitask_tui.server.allotter import Allotter
from mutitask_tui.server.supervisor import Supervisor
from tests.cli.tools import Stack
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("duty", "method"), [(Allotter, "_listen"), (Supervisor, "run"), (Allotter, "_push")]
)
def test_a_failing_thread_ends_the_server(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, duty: type, method: str
) -> None:
    def fails(*_: Any) -> None:
        raise ZeroDivisionError("not foreseen")

    monkeypatch.setattr(duty, method, fails)
    with Stack(redis_url, "failing", iter(range(9))) as stack:
        assert wait_until(stack.core.ended.is_set, 10)
        message = str(stack.core.failure)
    assert message.startswith(
        "the server failed (ZeroDivisionError: not foreseen) and ends: Redis keeps the tasks"
    )
