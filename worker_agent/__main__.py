"""Runs `worker-agent` as `python -m worker_agent`."""

from worker_agent.cli import main

if __name__ == "__main__":
    main()
