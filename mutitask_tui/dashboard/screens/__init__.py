"""The screens: whole ones that keep their frame in `frame.py`, and the modals that ask."""
