"""An agent that believes it is on a machine of its own: `python -m tests.chaos.elsewhere JOB --device 0`.

Everything else is the real `worker-agent`. Nobody can tell whether such an agent's process is gone, and it cannot
tell of others.
"""

from __future__ import annotations

import os

from worker_agent import cli
from worker_agent.protocol import identity

if __name__ == "__main__":
    identity._boot = lambda: f"a machine of its own {os.getpid()}"
    cli.main()
