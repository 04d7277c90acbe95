"""Agents tell which version of the job they run, and that the file is another one now."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from mutitask_tui.server.job_versions import is_other, version_texts, versions
from mutitask_tui.server.snapshot_parser import parse_version
from tests.dashboard.fake_backend import device, snapshot
from worker_agent import job_version
from worker_agent.job_version import JobVersion, version_of


@pytest.fixture
def version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobVersion:
    monkeypatch.setattr(job_version, "LOOK_S", 0.0)
    (tmp_path / "job.py").write_text("one")
    return JobVersion(tmp_path / "job.py")


def test_a_version_is_the_start_of_the_files_sha256(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_bytes(b"one")
    assert version_of(tmp_path / "job.py") == hashlib.sha256(b"one").hexdigest()[:12]
    assert version_of(tmp_path / "missing.py") == ""


def test_a_changed_file_is_noticed_and_one_that_is_changed_back_too(version: JobVersion) -> None:
    assert not version.has_changed()
    version.path.write_text("two")
    assert version.has_changed()
    version.path.write_text("one")
    assert not version.has_changed()


def test_a_file_that_is_only_touched_or_replaced_by_itself_has_not_changed(version: JobVersion) -> None:
    os.utime(version.path, ns=(1, 1))
    assert not version.has_changed()
    other = version.path.with_name("other")
    other.write_text("one")
    other.replace(version.path)
    assert not version.has_changed()


def test_while_the_file_cannot_be_read_the_answer_stays(version: JobVersion) -> None:
    version.path.unlink()
    assert not version.has_changed()
    version.path.write_text("two")
    assert version.has_changed()
    version.path.unlink()
    assert version.has_changed()


def test_the_file_is_looked_at_now_and_then_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_version, "LOOK_S", 3600.0)
    (tmp_path / "job.py").write_text("one")
    version = JobVersion(tmp_path / "job.py")
    assert not version.has_changed()
    version.path.write_text("two")
    assert not version.has_changed()


@pytest.mark.parametrize(
    "value", [None, 5, b"0123456789ab", "", "0123456789a", "0123456789AB", "\x1b[31m01234567"]
)
def test_what_is_no_version_is_ignored(value: object) -> None:
    assert parse_version(value) == ""


A, B, C = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"


def test_different_versions_are_told_in_one_sentence() -> None:
    jobs = (A, B, A, A, C, "")
    shown = snapshot(devices=tuple(device(n, job=job) for n, job in enumerate(jobs)))
    assert versions(shown) == {A: [0, 2, 3], B: [1], C: [4]}
    assert version_texts(shown) == [
        "the devices run 3 versions of the job: aaaaaa (3 devices), bbbbbb (1 device), cccccc (1 device)"
    ]
    assert not any(is_other(d, shown) for d in shown.devices), "the server does not tell its version"


def test_changed_files_are_told_with_the_command_that_loads_them() -> None:
    one = snapshot(devices=(device(0, job=A), device(1, job=A, job_changed=True)))
    assert version_texts(one) == [
        "job changed: Device1 loaded it before; restart_one 1 loads it as it is now"
    ]
    many = snapshot(devices=tuple(device(n, job=A, job_changed=True) for n in range(3)))
    assert version_texts(many) == [
        "job changed: Device0, Device1, Device2 loaded it before; restart_all loads it as it is now"
    ]


def test_one_version_that_did_not_change_needs_no_word() -> None:
    assert version_texts(snapshot(devices=(device(0, job=A), device(1, job=A)))) == []
