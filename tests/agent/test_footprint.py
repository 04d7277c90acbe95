"""An agent is light: it needs at most 12 MB more memory than a process with only its libraries."""

from __future__ import annotations

import sys

import pytest

from benchmarks.footprint import measure

MAX_MB = 12


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_idle_agent_is_at_most_12_mb_above_a_bare_process(state_dir):
    bare, agent = measure()

    assert (agent - bare) / 1024 <= MAX_MB, f"bare {bare:,} kB, agent {agent:,} kB"
