"""The benchmark's page and chart follow from `benchmarks/summary.json`, which a run replaces part by part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import chart, report, store, summary
from benchmarks.plan import Plan

LATENCY = [
    {"system": "MutiTask", "started": [1.0, 3.0], "read": [2.0, 4.0]},
    {"system": "Huey", "started": [9.0], "read": [10.0]},
    {"system": "MutiTask", "started": [2.0], "read": [5.0]},
]


def test_the_page_is_generated_from_the_summary() -> None:
    made = report.page(store.load())

    assert made == report.PAGE.read_text(), "run `python -m benchmarks --report`"


def test_the_chart_shows_the_figures_of_the_summary() -> None:
    drawn = chart.CHART_FILE.read_text()

    panels = chart.panels_of(store.load()["parts"])

    assert [len(bars) for _, bars in panels] == [15, 11]
    for title, bars in panels:
        assert title in drawn
        for label, median, _, _ in bars:
            assert label in drawn
            assert f"{median:,.0f}" in drawn


def test_a_run_replaces_its_part_of_the_summary_and_keeps_its_raw_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.load()
    monkeypatch.setattr(store, "SUMMARY", tmp_path / "summary.json")
    monkeypatch.setattr(store, "RESULTS", tmp_path / ".results")
    store.SUMMARY.write_text(summary.to_json(before))

    raw = store.save("latency", LATENCY, Plan(1, 1.0, peers=()), {"ArdiQ": "needs Python 3.12"}, 12.3)

    assert raw.parent == tmp_path / ".results"
    assert json.loads(raw.read_text())["rows"] == LATENCY
    after = store.load()
    assert after["missing"] == {"ArdiQ": "needs Python 3.12"}
    assert after["parts"]["latency"]["seconds"] == 12
    assert after["parts"]["latency"]["rows"] == [
        {"count": 3, "read": [4.0, 5.0, 5.0], "started": [2.0, 3.0, 3.0], "system": "MutiTask"},
        {"count": 1, "read": [10.0, 10.0, 10.0], "started": [9.0, 9.0, 9.0], "system": "Huey"},
    ]
    assert {**after["parts"], "latency": None} == {**before["parts"], "latency": None}
    assert after["peers"] == before["peers"]


def test_the_summary_is_written_as_it_was_read() -> None:
    assert summary.to_json(store.load()) == store.SUMMARY.read_text()
