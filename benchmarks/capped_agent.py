"""`worker-agent` with its claims capped, to measure what batches give: `python -m benchmarks.capped_agent N ARGS`."""

from __future__ import annotations

import sys

from worker_agent.cli import main
from worker_agent.execution import in_flight as hands

if __name__ == "__main__":
    if not hasattr(hands, "MOST"):
        sys.exit("worker_agent.execution.in_flight.MOST is gone: cap the batch of a claim in another way")
    hands.MOST = int(sys.argv.pop(1))
    main()
