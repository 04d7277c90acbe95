"""Task functions that change the process that runs them, in a thread or a child: all other tasks continue."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.fleet import Fleet
from tests.support.waiting import wait_until

SHORT = 200

JOB = f"""
import locale, os, sys
from pathlib import Path

def recurse():
    return recurse()

def leave_a_copy():
    if os.fork() == 0:
        with Path(FOLDER, "copies").open("a") as copies:
            print(os.getpid(), file=copies)
    return "returned"

WAYS = {{
    "close stdin": lambda: os.close(0) or "closed",
    "change the locale": lambda: locale.setlocale(locale.LC_ALL, "C") and "changed",
    "change the directory": lambda: os.chdir("/") or "changed",
    "exit": lambda: sys.exit(3),
    "raise KeyboardInterrupt": lambda: exec("raise KeyboardInterrupt"),
    "raise GeneratorExit": lambda: exec("raise GeneratorExit"),
    "recurse": recurse,
    "leave a copy": leave_a_copy,
}}

def tasks():
    yield from WAYS
    yield from range({SHORT})

def task_function(task):
    return WAYS[task]() if task in WAYS else task

def save_function(result):
    with Path(FOLDER, "saved").open("a") as saved:
        print(result, file=saved)
"""

RAISE = {
    "exit": "SystemExit", "raise KeyboardInterrupt": "KeyboardInterrupt", "raise GeneratorExit": "GeneratorExit",
    "recurse": "RecursionError",
}  # fmt: skip


def is_there(pid: int) -> bool:
    """Return whether the process runs. A process that ended and was not reaped does not run."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] not in "ZX"


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_task_may_change_its_process_and_no_other_task_notices(fleet: Fleet, kind: str) -> None:
    fleet.job(JOB)
    fleet.serve("--lease", "5", "--retries", "0", "--capacity", "400")
    agent = fleet.agent("--device", "0", "--kind", kind)

    counters = fleet.wait_until_over(8 + SHORT)

    assert {failed.task: failed.error_type for failed in fleet.failed()} == RAISE
    assert counters.done == 4 + SHORT
    saved = (fleet.folder / "saved").read_text().split("\n")[:-1]
    assert sorted(saved) == sorted(["closed", "changed", "changed", "returned", *map(str, range(SHORT))])
    # The forked copy runs beside its parent, so the task may be done before the copy has written its line.
    file = fleet.folder / "copies"
    text = wait_until(lambda: file.exists() and file.read_text(), what="the copy has written its pid")
    copies = [int(pid) for pid in str(text).split()]
    assert len(copies) == 1
    wait_until(lambda: not any(is_there(pid) for pid in copies), what="the copy has ended")
    agent.terminate()
    assert agent.wait() == 0, agent


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_task_may_print_a_gigabyte(fleet: Fleet, kind: str) -> None:
    """The output goes to /dev/null. Memory use would show if it were kept."""
    fleet.job(
        f"""
        import os, sys

        sys.stdout = open(os.devnull, "w")

        def tasks():
            yield from range({SHORT})

        def task_function(task):
            if task == 100:
                for _ in range(1_024):
                    print("x" * 1_048_575)
            return task
        """
    )
    fleet.serve("--lease", "2", "--capacity", "400")
    agent = fleet.agent("--device", "0", "--kind", kind)

    results = fleet.expect_each_once(list(range(SHORT)))

    assert {(recorded.attempt, recorded.crashes) for recorded in results} == {(0, 0)}
    assert agent.running
    peak_kb = int(Path(f"/proc/{agent.pid}/status").read_text().partition("VmHWM:")[2].split()[0])
    assert peak_kb < 200_000
