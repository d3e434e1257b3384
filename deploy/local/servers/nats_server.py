"""The component that runs nats-server with JetStream and a user for each service."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from deploy.local.folder import Folder
from deploy.local.privileges import environment
from deploy.local.privileges.secrets import BUS_USERS
from deploy.local.servers.ports import HOST
from deploy.local.supervisor import probes
from deploy.local.supervisor.component import STOPPED_LAST, Component

NATS_CONFIG = Path(__file__).parents[2] / "nats.conf"


def nats_server(
    binary: Path, folder: Folder, port: int, passwords: Mapping[str, str], caller: Mapping[str, str]
) -> Component:
    """Return nats-server's component; `passwords` are by user, for all of BUS_USERS."""
    return Component(
        name="nats-server",
        command=(str(binary), "--config", str(NATS_CONFIG)),
        environment={
            **environment.program_environment(caller),
            "EVERLOOP_NATS_HOST": HOST,
            "EVERLOOP_NATS_PORT": str(port),
            # Quoted: NATS reads the value as if it stood in the file, and a path may hold spaces.
            "EVERLOOP_NATS_STORE": json.dumps(str(folder.nats), ensure_ascii=False),
            **{f"EVERLOOP_NATS_PASSWORD_{user.upper()}": passwords[user] for user in BUS_USERS},
        },
        wait_ready=partial(probes.wait_until, partial(probes.nats_is_ready, port)),
        port=port,
        stop_order=STOPPED_LAST,
        remedy="Use a NATS server of your own by setting EVERLOOP_NATS_URL.",
    )
