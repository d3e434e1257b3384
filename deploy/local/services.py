"""The components that run Everloop's five services."""

import sys
from collections.abc import Mapping
from functools import partial

from deploy.local.supervisor import probes
from deploy.local.supervisor.component import STOPPED_FIRST, STOPPED_SECOND, Component

NAMES = ("gateway", "generation", "logging", "evaluation", "authz")


def services(
    environments: Mapping[str, Mapping[str, str]],
    http: tuple[str, int],
    after: Mapping[str, tuple[str, ...]],
) -> list[Component]:
    """Return all five. `environments` is by name, `http` the gateway's host and port, `after` the servers that each
    needs first, by name."""
    gateway = probes.GatewayProbe(*http)
    return [
        Component(
            name=name,
            # -P keeps the current folder off the path: in services/, `logging` would hide the standard library's.
            command=(sys.executable, "-P", "-m", f"services.{name}.main"),
            environment=environments[name],
            wait_ready=partial(
                probes.wait_until,
                gateway.gateway_responds if name == "gateway" else partial(gateway.service_is_ready, name),
            ),
            port=http[1] if name == "gateway" else None,
            after=after[name],
            stop_timeout_seconds=15.0,  # a service takes 8 s for what it has in hand, the gateway as long for streams
            stop_order=STOPPED_FIRST if name == "gateway" else STOPPED_SECOND,
        )
        for name in NAMES
    ]


def login(server: str, name: str, caller: Mapping[str, str], passwords: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with user and password of one service on `NATS` or `MONGO`.

    The password is that of `passwords` (our own server's), else the caller's; without one nothing is returned.
    """
    password = passwords.get(name) or caller.get(f"EVERLOOP_{server}_PASSWORD_{name.upper()}")
    return {f"EVERLOOP_{server}_USER": name, f"EVERLOOP_{server}_PASSWORD": password} if password else {}
