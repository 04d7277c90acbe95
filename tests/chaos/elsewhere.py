"""An agent with a boot id of its own, as on another machine: `python -m tests.chaos.elsewhere JOB --device 0`.

Everything else is the real `worker-agent`. No other process can check whether this agent is gone, and this agent cannot
check the others.
"""

from __future__ import annotations

import os

from worker_agent import cli
from worker_agent.protocol import identity

if __name__ == "__main__":
    identity._boot = lambda: f"a machine of its own {os.getpid()}"
    cli.main()
