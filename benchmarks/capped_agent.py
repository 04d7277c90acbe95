"""`worker-agent` with its claims capped, to measure what batches give: `python -m benchmarks.capped_agent N ARGS`."""

from __future__ import annotations

import sys

from worker_agent import hands
from worker_agent.cli import main

if __name__ == "__main__":
    if not hasattr(hands, "MOST"):
        sys.exit("worker_agent.hands.MOST is gone: cap the batch of a claim in another way")
    hands.MOST = int(sys.argv.pop(1))
    main()
