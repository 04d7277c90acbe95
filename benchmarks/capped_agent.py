"""`worker-agent` with its claims capped, to measure what batches give: `python -m benchmarks.capped_agent N ARGS`."""

from __future__ import annotations

import sys

from worker_agent.cli import main
from worker_agent.execution import in_flight

if __name__ == "__main__":
    if not hasattr(in_flight, "MAX_CLAIM_TASKS"):
        sys.exit("worker_agent.execution.in_flight.MAX_CLAIM_TASKS is gone: limit the tasks of a claim in another way")
    in_flight.MAX_CLAIM_TASKS = int(sys.argv.pop(1))
    main()
