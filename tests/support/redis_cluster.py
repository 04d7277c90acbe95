"""A real cluster for one test, on loopback: three masters, and replicas on request."""

from __future__ import annotations

import contextlib
from typing import Any

import redis
from redis.crc import key_slot

from tests.support.redis_server import RealServer
from tests.support.tls import Tls
from tests.support.waiting import wait_until
from worker_agent.protocol.connection.cluster import ClusterClient
from worker_agent.protocol.connection.connect import connect

SLOTS = 16384
EVERYWHERE = (
    "FLUSHALL",
    "FLUSHDB",
    "SCRIPT FLUSH",
    "SCRIPT LOAD",
    "CONFIG SET",
    "ACL SETUSER",
    "ACL DELUSER",
)
"""The commands that a test's own client sends to every master."""


class WholeCluster(ClusterClient):
    """A test's client, which sends commands without a key to every master."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command as on one server: `KEYS` finds all keys, `FLUSHALL` empties all nodes."""
        name = str(args[0]).upper()
        if name in ("ACL", "SCRIPT", "CONFIG") and len(args) > 1:
            name = f"{name} {str(args[1]).upper()}"
        if name == "KEYS":
            return [key for reply in self.of_all(*args, **options) for key in reply]
        if name == "DBSIZE":
            return sum(self.of_all(*args, **options))
        if name in EVERYWHERE:
            return self.of_all(*args, **options)[0]
        return super().execute_command(*args, **options)

    def of_all(self, *args: Any, **options: Any) -> list[Any]:
        """Return the reply of each master."""
        replies = []
        for host, port in self._seeds:
            with redis.Redis(connection_pool=self._pool((host, port))) as node:
                replies.append(node.execute_command(*args, **options))
        return replies


class RealCluster:
    """Three masters that share the slots evenly, with `replicas` for each. All have the same password."""

    def __init__(self, *, replicas: int = 0, durable: bool = False, tls: Tls | None = None) -> None:
        self.tls = tls
        self.masters = [RealServer(durable=durable, cluster=True, tls=tls) for _ in range(3)]
        self.replicas = [RealServer(durable=durable, cluster=True, tls=tls) for _ in range(3 * replicas)]
        self.nodes = [*self.masters, *self.replicas]
        self.password = self.masters[0].password
        for node in self.nodes:
            node.password = self.password
        self.port = self.masters[0].port

    @property
    def url(self) -> str:
        """The URL with the password. It names every master."""
        return self.address(f":{self.password}")

    def address(self, login: str) -> str:
        """Return the URL with another user and password."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.masters)
        address = f"+cluster://{login}@{hosts}/0"
        return f"rediss{address}?{self.tls.query}" if self.tls else f"redis{address}"

    @property
    def log(self) -> str:
        """What the nodes have written to their logs."""
        return "\n".join(node.log for node in self.nodes)

    def client(self, **options: object) -> redis.Redis:
        """Return a client with explicit time-outs, which the caller closes. With TLS, it is MutiTask's own client."""
        if self.tls:
            return connect(self.url)
        seeds = [("127.0.0.1", node.port) for node in self.masters]
        settings = {"password": self.password, **RealServer.SETTINGS, **options}
        return WholeCluster(seeds, settings)

    def start(self) -> RealCluster:
        """Start the nodes, connect them and assign the slots. Return when the cluster is ready."""
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            wait_until(node.answers, 20)
        clients = [node.client(decode_responses=True) for node in self.nodes]
        try:
            share = -(-SLOTS // len(self.masters))
            for number, client in enumerate(clients):
                if number < len(self.masters):
                    last = min(SLOTS, (number + 1) * share) - 1
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * share, last)
                    # A node may have an epoch already, if a cluster of another test still contacts its port. Any
                    # epoch will do: nodes with equal epochs resolve that among themselves.
                    with contextlib.suppress(redis.ResponseError):
                        client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            for client in clients[1:]:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.port, self.masters[0].bus_port)
            wait_until(lambda: all(self._sees_all(client) for client in clients), 20, what="the nodes met")
            self._attach_replicas(clients)
            wait_until(lambda: all(_is_in_order(client) for client in clients), 20, what="cluster_state:ok")
        finally:
            for client in clients:
                client.close()
        return self

    def owner(self, key: str) -> RealServer:
        """Return the node that owns the key's slot now."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            if not (node.process and node.process.poll() is None):
                continue
            with node.client() as client:
                for first, last, (_, port, *_rest), *_replicas in client.execute_command("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"no node owns slot {slot}")

    def remove(self) -> None:
        """Stop the nodes and delete their directories."""
        for node in self.nodes:
            node.remove()

    def _attach_replicas(self, clients: list[redis.Redis]) -> None:
        names = [client.execute_command("CLUSTER", "MYID") for client in clients]
        for number, client in enumerate(clients[len(self.masters) :]):
            client.execute_command("CLUSTER", "REPLICATE", names[number % len(self.masters)])
        for client in clients[len(self.masters) :]:
            wait_until(lambda client=client: client.info("replication").get("master_link_status") == "up", 20)

    def _sees_all(self, client: redis.Redis) -> bool:
        lines = client.execute_command("CLUSTER", "NODES").splitlines()
        return len(lines) == len(self.nodes) and all(" connected" in line for line in lines)


def _is_in_order(client: redis.Redis) -> bool:
    return "cluster_state:ok" in client.execute_command("CLUSTER", "INFO")
