"""Runs `worker-agent` with at most N tasks in a claim: `python -m benchmarks.capped_agent N ARGS`.

This shows how much batches save.
"""

from __future__ import annotations

import sys

from worker_agent.cli import main
from worker_agent.execution import in_flight

if __name__ == "__main__":
    if not hasattr(in_flight, "MAX_CLAIM_TASKS"):
        sys.exit(
            "worker_agent.execution.in_flight.MAX_CLAIM_TASKS is gone: limit the tasks of a claim in another way"
        )
    in_flight.MAX_CLAIM_TASKS = int(sys.argv.pop(1))
    main()
