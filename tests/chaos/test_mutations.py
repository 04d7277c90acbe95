"""The mutations match the present code."""

from __future__ import annotations

from tests.chaos.mutations import MUTATIONS
from tests.support.programs import ROOT


def test_each_text_to_be_taken_out_stands_once_in_its_file():
    counts = {m.what: (ROOT / m.path).read_text().count(m.text) for m in MUTATIONS}

    assert [what for what, count in counts.items() if count != 1] == []
