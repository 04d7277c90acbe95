"""All that travels between server and devices. Both sides import it; it imports neither."""

PROTOCOL = "1.2"
"""`major.minor`: an agent of another minor version refuses to start (law 11)."""
