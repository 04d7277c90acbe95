"""Processes are identified so that one that has ended is never taken for one that runs."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest

from worker_agent.protocol import identity
from worker_agent.protocol.identity import Identity, is_gone, process_of, this_process

needs_proc = pytest.mark.skipif(not identity.PROC.is_dir(), reason="the system has no /proc")

IDLE = [sys.executable, "-c", "import sys; sys.stdin.read()"]


def idle_child() -> subprocess.Popen[bytes]:
    return subprocess.Popen(IDLE, stdin=subprocess.PIPE)


def test_a_process_knows_itself_and_is_not_gone():
    assert this_process().pid == os.getpid()
    assert this_process() == this_process()
    assert not is_gone(this_process())


@needs_proc
def test_a_killed_and_reaped_child_is_gone():
    with idle_child() as child:
        child_identity = process_of(child.pid)
        assert not is_gone(child_identity)
        child.kill()
    assert is_gone(child_identity)


@needs_proc
def test_a_zombie_counts_as_gone():
    with idle_child() as child:
        child_identity = process_of(child.pid)
        child.kill()
        os.waitid(
            os.P_PID, child.pid, os.WEXITED | os.WNOWAIT
        )  # It has ended, and its parent has not reaped it.
        assert os.path.exists(f"/proc/{child.pid}")  # noqa: PTH110
        assert is_gone(child_identity)


@needs_proc
def test_a_stopped_process_is_not_gone():
    with idle_child() as child:
        child_identity = process_of(child.pid)
        child.send_signal(19)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        assert not is_gone(child_identity)
        child.kill()


@needs_proc
def test_a_pid_that_was_given_to_another_process_is_not_mistaken_for_the_old_one():
    assert is_gone(dataclasses.replace(this_process(), start=this_process().start - 1))


@needs_proc
@pytest.mark.parametrize(
    "other", [{"host": "elsewhere"}, {"boot": "another boot"}, {"boot": ""}, {"start": 0}]
)
def test_a_process_that_cannot_be_seen_is_never_gone(other: dict[str, str]):
    with idle_child() as child:
        child_identity = process_of(child.pid)
        child.kill()
    assert not is_gone(dataclasses.replace(child_identity, **other))


@needs_proc
def test_a_program_name_with_brackets_and_spaces_does_not_confuse_the_start_time(tmp_path):
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to("/bin/cat")
    with subprocess.Popen([odd], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        child.stdin.flush()
        assert process_of(child.pid).start >= this_process().start
        assert not is_gone(process_of(child.pid))
        child.kill()


def test_without_proc_nothing_is_certain(monkeypatch, tmp_path):
    monkeypatch.setattr(identity, "PROC", tmp_path)
    assert this_process().boot == ""
    assert not is_gone(Identity(this_process().host, 2**22 + 1, "", 0))


@needs_proc
def test_a_process_that_proc_hides_is_not_gone(monkeypatch, tmp_path):
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("b\n")
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("pid:[1]")
    monkeypatch.setattr(identity, "PROC", tmp_path)
    assert not is_gone(Identity(this_process().host, os.getpid(), "b pid:[1]", 1))
