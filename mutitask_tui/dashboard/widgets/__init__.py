"""The widgets: each takes plain data and emits messages."""
