"""The dashboard: a view of Snapshots and a sender of commands. It knows no Redis."""
