"""Everloop's own five processes, each with its own passwords and no other's."""

import sys
from collections.abc import Mapping
from functools import partial

from deploy.local.supervisor import probes
from deploy.local.supervisor.component import Component

NAMES = ("gateway", "generation", "logging", "evaluation", "authz")


def services(
    environments: Mapping[str, Mapping[str, str]],
    http: tuple[str, int],
    after: tuple[str, ...],
) -> list[Component]:
    """All five, each with its environment and no variable beside it."""
    gateway = probes.GatewayProbe(*http)
    return [
        Component(
            name=name,
            # -P keeps the current folder off the path: in services/, `logging` would hide the standard library's.
            command=(sys.executable, "-P", "-m", f"services.{name}.main"),
            environment=environments[name],
            ready=partial(
                probes.until,
                gateway.gateway_answers if name == "gateway" else partial(gateway.service_is_ready, name),
            ),
            port=http[1] if name == "gateway" else None,
            after=after,
            # The gateway leaves first: its requests in hand still need the others.
            stop_wave=0 if name == "gateway" else 1,
        )
        for name in NAMES
    ]


def login(server: str, name: str, caller: Mapping[str, str], passwords: Mapping[str, str]) -> dict[str, str]:
    """User and password of one service on `NATS` or `MONGO`: our own server's, or what the caller gave for theirs, or
    none."""
    password = passwords.get(name) or caller.get(f"EVERLOOP_{server}_PASSWORD_{name.upper()}")
    return {f"EVERLOOP_{server}_USER": name, f"EVERLOOP_{server}_PASSWORD": password} if password else {}
