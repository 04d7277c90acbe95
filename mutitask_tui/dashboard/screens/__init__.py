"""The full screens, which share the frame in `frame.py`, and the dialogs."""
