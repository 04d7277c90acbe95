"""Start a server or a dashboard in this process, and stop what was started."""
