"""A real service for one test that Sentinels watch, on loopback: a master, a replica, three Sentinels."""

from __future__ import annotations

import redis

from tests.support.redis_server import RealServer
from tests.support.tls import Tls
from tests.support.waiting import wait_until
from worker_agent.protocol.connection.connect import connect

SERVICE = "ours"
SENTINELS = 3
SILENT_MS = 500
"""The Sentinels take a master for dead after this silence."""


class RealSentinels:
    """`servers` are the first master and its replica. Later the Sentinels decide which one is the master."""

    def __init__(
        self, *, durable: bool = False, settings: dict[str, object] | None = None, tls: Tls | None = None
    ) -> None:
        self.durable = durable
        self.tls = tls
        self.servers = [RealServer(durable=durable, settings=settings, tls=tls) for _ in range(2)]
        self.sentinels = [RealServer(sentinel=True, tls=tls) for _ in range(SENTINELS)]
        self.password = self.servers[0].password
        self.sentinel_password = self.sentinels[0].password
        for server in self.servers:
            server.password = self.password
            server.settings |= {"masterauth": self.password, "repl-diskless-sync-delay": 0}
        for sentinel in self.sentinels:
            sentinel.password = self.sentinel_password
        self.port = self.servers[0].port

    @property
    def url(self) -> str:
        """The URL with both passwords. It names every Sentinel."""
        return self.address(self.sentinel_password)

    def address(
        self, sentinel_password: str, service: str = SERVICE, *, login: str = "", sentinel: str = ""
    ) -> str:
        """Return the URL with this password for the Sentinels and this service.

        `login` replaces the default user and password of Redis, `sentinel` the default user of the Sentinels.
        """
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        scheme, more = ("rediss", f"&{self.tls.query}") if self.tls else ("redis", "")
        more += f"&sentinel_username={sentinel}" if sentinel else ""
        login = login or f":{self.password}"
        return f"{scheme}+sentinel://{login}@{hosts}/{service}/0?sentinel_password={sentinel_password}{more}"

    @property
    def log(self) -> str:
        """What servers and Sentinels have written to their logs."""
        return "\n".join(one.log for one in (*self.servers, *self.sentinels))

    def client(self, **_options: object) -> redis.Redis:
        """Return a client of the present master."""
        return connect(self.url)

    def start(self) -> RealSentinels:
        """Start all. Return when the replica is in sync and the Sentinels know each other."""
        master, replica = self.servers
        replica.settings["replicaof"] = f"127.0.0.1 {master.port}"
        for server in self.servers:
            server.launch()
        for server in self.servers:
            wait_until(server.answers, 20)
        wait_until(lambda: self.in_sync(replica), 20, what="the replica is in sync")
        for sentinel in self.sentinels:
            sentinel.settings |= {
                "requirepass": self.sentinel_password,
                "sentinel sentinel-pass": self.sentinel_password,
                "sentinel monitor": f"{SERVICE} 127.0.0.1 {master.port} 2",
                "sentinel auth-pass": f"{SERVICE} {self.password}",
                "sentinel down-after-milliseconds": f"{SERVICE} {SILENT_MS}",
                "sentinel failover-timeout": f"{SERVICE} 3000",
            }
            sentinel.launch()
        for sentinel in self.sentinels:
            wait_until(sentinel.answers, 20)
        wait_until(lambda: all(self._knows_all(one) for one in self.sentinels), 20, what="the Sentinels met")
        return self

    def in_sync(self, replica: RealServer) -> bool:
        """Return whether the server is a replica that is connected to its master."""
        with replica.client() as client:
            try:
                return client.info("replication").get("master_link_status") == "up"
            except redis.ConnectionError:  # The Sentinels close the connections of a former master.
                return False

    def master(self) -> RealServer:
        """Return the server that the Sentinels name as the master now."""
        with self.sentinels[0].client() as client:
            port = int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
        return next(server for server in self.servers if server.port == port)

    def remove(self) -> None:
        """Stop all and delete their directories."""
        for one in (*self.sentinels, *self.servers):
            one.remove()

    def _knows_all(self, sentinel: RealServer) -> bool:
        with sentinel.client(decode_responses=True) as client:
            flat = client.execute_command("SENTINEL", "MASTER", SERVICE)
        facts = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
        return (
            facts["flags"] == "master"
            and int(facts["num-other-sentinels"]) == SENTINELS - 1
            and int(facts["num-slaves"]) == 1
        )
