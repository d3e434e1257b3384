"""Everloop's own five processes, each with its own bus password and no other's."""

import sys
from collections.abc import Mapping
from functools import partial

from deploy.local import probes
from deploy.local.component import Component

NAMES = ("gateway", "generation", "logging", "evaluation", "authz")
_LOGIN = "EVERLOOP_NATS_PASSWORD_"
_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def services(
    shared: Mapping[str, str],
    own: Mapping[str, Mapping[str, str]],
    http: tuple[str, int],
    after: tuple[str, ...],
) -> list[Component]:
    """All five. `shared` is everyone's environment, `own` what one service has beside it."""
    gateway = probes.GatewayProbe(*http)
    return [
        Component(
            name=name,
            # -P keeps the current folder off the path: in services/, `logging` would hide the standard library's.
            command=(sys.executable, "-P", "-m", f"services.{name}.main"),
            environment={**(shared if name == "generation" else _without_keys(shared)), **own[name]},
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


def bus_login(name: str, caller: Mapping[str, str], passwords: Mapping[str, str]) -> dict[str, str]:
    """User and password of one service: our own server's, or what the caller gave for theirs, or none."""
    password = passwords.get(name) or caller.get(_LOGIN + name.upper())
    return {"EVERLOOP_NATS_USER": name, "EVERLOOP_NATS_PASSWORD": password} if password else {}


def _without_keys(shared: Mapping[str, str]) -> dict[str, str]:
    """Provider keys are for the service that calls providers."""
    return {name: value for name, value in shared.items() if not name.endswith("_API_KEY") and name not in _AWS_KEYS}


def without_passwords(caller: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment (provider keys, OTEL_ settings ...) less the passwords meant for one service each."""
    return {name: value for name, value in caller.items() if not name.startswith(_LOGIN)}
