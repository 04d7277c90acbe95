"""An agent is light: it stands at most 12 MB above the libraries that it cannot do without."""

from __future__ import annotations

import sys

import pytest

from benchmarks.footprint import measure

MOST_MB = 12


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_idle_agent_is_at_most_12_mb_above_a_bare_process(state_dir):
    bare, agent = measure()

    assert (agent - bare) / 1024 <= MOST_MB, f"bare {bare:,} kB, agent {agent:,} kB"
