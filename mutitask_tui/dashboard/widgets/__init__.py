"""Widgets. Each one shows plain data and posts messages."""
