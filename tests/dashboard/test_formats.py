"""Numbers and durations fit into their cells."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from mutitask_tui.dashboard.formats import (
    clock,
    fill_bar,
    fit,
    rate_text,
    short_count,
    span,
    sparkline,
)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (99_999, "99,999"), (100_000, "100k"), (1_234_567, "1.23M"), (12_345_678, "12.3M")],
)
def test_counts_stay_short(number: int, text: str) -> None:
    assert short_count(number) == text


@pytest.mark.parametrize("number", [10**n for n in range(16)])
def test_no_count_is_wider_than_seven_cells(number: int) -> None:
    assert len(short_count(number)) <= 7


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0s"), (0.3, "0.3s"), (12, "12s"), (185, "3m 05s"), (7440, "2h 04m"), (266_400, "3d 02h")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_rates_and_clock() -> None:
    assert (rate_text(0), rate_text(0.44), rate_text(1234.4)) == ("0/s", "0.4/s", "1,234/s")
    assert clock(3_661_000) == "01:01:01"


def test_the_bar_is_full_from_capacity_on_and_never_empty_with_a_task() -> None:
    assert fill_bar(27, 20, 10) == ("━" * 10, "")
    assert fill_bar(1, 10_000, 10) == ("━", "─" * 9)
    assert fill_bar(0, 20, 10) == ("", "─" * 10)
    assert fill_bar(0, 0, 4) == ("", "────")


def test_a_sparkline_is_right_aligned_and_scaled_to_its_largest_value() -> None:
    assert sparkline([0, 5, 10], 5) == "  ▁▄█"
    assert sparkline([], 3) == "   "
    assert sparkline([0, 0], 2) == "▁▁"


@pytest.mark.parametrize("text", ["", "abc", "a long text", "日本語日本語", "🚀🚀🚀🚀🚀🚀"])
@pytest.mark.parametrize("width", [0, 1, 2, 5, 8])
def test_fit_returns_exactly_the_given_width(text: str, width: int) -> None:
    assert cell_len(fit(text, width)) == width
