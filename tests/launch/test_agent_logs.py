"""The logs of local agents have a bounded size, whatever tasks print, and nothing that is printed breaks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutitask_tui.launch import agent_logs
from mutitask_tui.launch.agent_logs import AgentLogs
from tests.crashes.conftest import fleet as fleet
from tests.crashes.fleet import Fleet
from tests.support.waiting import wait_until


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentLogs]:
    monkeypatch.setattr(agent_logs, "MAX_BYTES", 10_000)
    made = AgentLogs([tmp_path / "logs" / "device0.log", tmp_path / "logs" / "device1.log"])
    made.start()
    yield made
    made.stop()


def test_what_an_agent_prints_is_in_its_own_private_file(logs: AgentLogs, tmp_path: Path) -> None:
    os.write(logs.output(0), b"of zero\n")
    os.write(logs.output(1), b"of one\n")
    for number, text in ((0, "of zero\n"), (1, "of one\n")):
        logs.wait_until_written(number)
        file = tmp_path / "logs" / f"device{number}.log"
        wait_until(lambda f=file, t=text: f.exists() and f.read_text() == t)  # type: ignore[misc]
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_reaches_its_limit_starts_anew_at_a_line_and_one_older_file_is_kept(
    logs: AgentLogs, tmp_path: Path
) -> None:
    for number in range(5_000):
        os.write(logs.output(0), b"line %d\n" % number)
    logs.wait_until_written(0)

    files = sorted((tmp_path / "logs").glob("device0*"))
    wait_until(lambda: files[0].read_bytes().endswith(b"line 4999\n"))
    assert [file.name for file in files] == ["device0.log", "device0.log.1"]
    assert all(file.stat().st_size <= 10_000 for file in files)
    kept = b"".join(file.read_bytes() for file in reversed(files)).splitlines()
    assert kept == [b"line %d" % number for number in range(5_000 - len(kept), 5_000)]
    assert len(kept) > 900


def test_output_without_newlines_is_bounded_too(logs: AgentLogs, tmp_path: Path) -> None:
    for _ in range(100):
        os.write(logs.output(0), b"x" * 1_000)
    logs.wait_until_written(0)

    for file in (tmp_path / "logs").glob("device0*"):
        assert file.stat().st_size <= 10_000


def test_a_removed_log_appears_again(logs: AgentLogs, tmp_path: Path) -> None:
    file = tmp_path / "logs" / "device0.log"
    os.write(logs.output(0), b"before\n")
    wait_until(file.exists)
    file.unlink()

    def written_again() -> bool:
        os.write(logs.output(0), b"after\n")
        return file.exists() and file.read_text().startswith("after\n")

    wait_until(written_again, every=0.2)


def test_a_writer_that_is_killed_is_replaced_and_no_line_is_lost(logs: AgentLogs, tmp_path: Path) -> None:
    assert logs._writer is not None
    os.kill(logs._writer.pid, signal.SIGKILL)
    logs._writer.wait(10)
    os.write(logs.output(0), b"while nobody reads\n")

    logs.keep_running()

    file = tmp_path / "logs" / "device0.log"
    wait_until(lambda: file.exists() and file.read_text() == "while nobody reads\n")


def test_tasks_that_print_very_much_leave_files_of_bounded_size(
    fleet: Fleet, state_dir: Path, tmp_path: Path
) -> None:
    fleet.job(
        """
def tasks():
    yield from range(40)
def task_function(task):
    print("x" * 999 + "\\n", end="", flush=True)
    for _ in range(1_000):
        print("y" * 999)
    return task
"""
    )
    done = fleet.newcomer("--local-agents", "1", "--autostart", "--until-done")
    assert done.wait(60) == 0, done
    files = sorted((state_dir / "crash" / "agents").glob("device0.log*"))
    assert [file.name for file in files] == ["device0.log", "device0.log.1"]
    assert all(0 < file.stat().st_size <= agent_logs.MAX_BYTES for file in files)
    assert "stopped; 0 tasks handed back" in files[0].read_text()
