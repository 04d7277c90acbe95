"""Untrusted text becomes plain text."""

from __future__ import annotations

import unicodedata

import pytest
from rich.cells import cell_len
from textual.content import Content

from mutitask_tui.dashboard.safe_text import safe_rich, safe_str, safe_text
from tests.dashboard.hostile import PAYLOADS


@pytest.mark.parametrize("payload", PAYLOADS)
def test_control_and_hidden_characters_are_removed(payload: str) -> None:
    kept = safe_str(payload, 500)
    assert not [c for c in kept if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    kept.encode()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_markup_is_not_interpreted(payload: str) -> None:
    assert safe_text(payload, 500).plain == safe_str(payload, 500)
    assert not safe_text(payload, 500).spans
    assert safe_rich(payload, 500).plain == safe_str(payload, 500)


def test_a_megabyte_is_cut_with_an_ellipsis() -> None:
    assert safe_str("x" * 1_000_000, 50) == "x" * 49 + "…"


def test_newlines_become_marks_or_stay() -> None:
    assert safe_str("a\nb") == "a⏎b"
    assert safe_str("a\r\nb\tc", lines=True) == "a\nb    c"


def test_many_combining_marks_are_cut() -> None:
    assert len(safe_str("a" + "\u0301" * 100)) == 3


def test_emoji_and_wide_characters_stay() -> None:
    assert safe_str("日本 🚀") == "日本 🚀"
    assert cell_len(safe_str("❤️")) == 1


def test_other_values_are_shown_as_text() -> None:
    assert isinstance(safe_text(12), Content)
    assert safe_str(None) == "None"
