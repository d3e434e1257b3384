"""Three nats-servers on deploy/nats-cluster.conf, each a process of its own: streams have three copies."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from nats.errors import Error as NatsError

from deploy.local.privileges.secrets import BUS_USERS
from shared.bus import Bus
from shared.settings import ServiceSettings
from tests.integration.servers import ROOT, Nats, free_port

PASSWORD = "cluster"
REPLICAS = 3


class Node(Nats):
    """One nats-server of a cluster."""

    def __init__(self, folder: Path, number: int, cluster_ports: Sequence[int]) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.server_name = f"node{number}"
        routes = ", ".join(f"nats://cluster:{PASSWORD}@127.0.0.1:{port}" for port in cluster_ports)
        self.command = [self.command[0], "--config", str(ROOT / "deploy" / "nats-cluster.conf")]
        self.environment = {
            "EVERLOOP_NATS_SERVER_NAME": self.server_name,
            "EVERLOOP_NATS_HOST": "127.0.0.1",
            "EVERLOOP_NATS_PORT": str(self.port),
            "EVERLOOP_NATS_STORE": json.dumps(str(folder / "nats")),
            "EVERLOOP_NATS_CLUSTER_HOST": "127.0.0.1",
            "EVERLOOP_NATS_CLUSTER_PORT": str(cluster_ports[number]),
            "EVERLOOP_NATS_ROUTES": f"[{routes}]",
            "EVERLOOP_NATS_PASSWORD_CLUSTER": PASSWORD,
            **{f"EVERLOOP_NATS_PASSWORD_{user.upper()}": PASSWORD for user in BUS_USERS},
        }


class NatsCluster:
    """Three nodes, not started yet."""

    def __init__(self, folder: Path) -> None:
        cluster_ports = [free_port() for _ in range(REPLICAS)]
        self.nodes = [Node(folder / f"node{number}", number, cluster_ports) for number in range(REPLICAS)]

    @property
    def url(self) -> str:
        """The addresses of all nodes, as services get them."""
        return ",".join(node.url for node in self.nodes)

    def start(self) -> None:
        """Start every node."""
        for node in self.nodes:
            node.start()

    def stop(self) -> None:
        """Stop every node, also a paused one."""
        for node in self.nodes:
            node.stop()

    @contextlib.asynccontextmanager
    async def connected(self, first: Node, name: str = "gateway", **fields: float) -> AsyncIterator[Bus]:
        """Yield a bus as service `name` and the user who may do all, connected to `first`; it knows the others."""
        bus = Bus(ServiceSettings.model_validate({"nats_url": first.url, **LOGIN, **fields}), name)
        await bus.open()
        try:
            yield bus
        finally:
            await bus.close()

    async def leader_of(self, bus: Bus, stream: str, consumer: str = "", seconds: float = 30.0) -> Node:
        """Return the node that leads a stream, or a consumer of it, as soon as one does and the others follow.

        Raises AssertionError after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(NatsError):
                manager = bus.client.jetstream(timeout=1)
                info: Any = await (manager.consumer_info(stream, consumer) if consumer else manager.stream_info(stream))
                cluster = info.cluster
                if (
                    cluster.leader
                    and len(cluster.replicas) == REPLICAS - 1
                    and all(it.current for it in cluster.replicas)
                ):
                    return next(node for node in self.nodes if node.server_name == cluster.leader)
            assert time.monotonic() < deadline, f"{stream} has no leader with two followers"
            await asyncio.sleep(0.1)


LOGIN = {"nats_user": "operator", "nats_password": PASSWORD}


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[NatsCluster]:
    """Start a cluster, and stop it at the end."""
    cluster = NatsCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
