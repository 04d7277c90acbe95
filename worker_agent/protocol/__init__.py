"""Everything that travels between server and devices. Both sides import this package; it imports neither side."""

PROTOCOL = "2.0"
"""`major.minor`. An agent with another minor version refuses to start (law 11)."""
