"""The files that a command writes replace no other file."""

from __future__ import annotations

from pathlib import Path

from mutitask_tui.server.files import write_new_file


def test_two_exports_of_one_name_are_both_kept(tmp_path: Path) -> None:
    wanted = tmp_path / "fail-tasks.jsonl"

    first = write_new_file(wanted, lambda file: file.write("one\n") and 1)
    second = write_new_file(wanted, lambda file: file.write("two\n") and 1)

    assert first == (1, wanted)
    assert second == (1, tmp_path / "fail-tasks-2.jsonl")
    assert [path.read_text() for path in (wanted, tmp_path / "fail-tasks-2.jsonl")] == ["one\n", "two\n"]
    assert wanted.stat().st_mode & 0o777 == 0o600


def test_nothing_to_write_makes_no_file(tmp_path: Path) -> None:
    assert write_new_file(tmp_path / "empty.jsonl", lambda _file: 0) == (0, None)
    assert list(tmp_path.iterdir()) == []
