"""`python -m worker_agent` is `worker-agent`."""

from worker_agent.cli import main

if __name__ == "__main__":
    main()
