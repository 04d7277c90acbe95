"""Everything that travels between server and devices. Both sides import this package; it imports neither side.

Scripts and tests refer to these laws by number:

1. The counters of a channel are balanced at every instant.
2. A task runs at least once and its result is recorded once. A fenced actor can change nothing.
3. Every call of a script may be sent twice, or arrive late.
4. Commands write desired state. Agents and the server follow it; tokens only make that faster.
5. The generator's place is saved in the same step as its tasks.
6. Allot never brings the waiting tasks of a channel above its capacity. Requeued tasks, and delayed ones that are due,
   are never refused.
7. A namespace has one server, and a device has one agent.
8. Recovery needs no server.
9. A crash uses up no retry. Only a task that kills its process reaches the third crash.
10. The end of a dashboard does not end the server.
11. Only msgpack travels. Nothing is unpickled or evaluated, and items without a valid header are foreign.
"""

PROTOCOL = "2.0"
"""`major.minor`. An agent with another minor version refuses to start (law 11)."""
