"""Who is calling, and may they: the cost of the decision when the gateway knows the caller, and when it asks authz."""

import json
from time import perf_counter
from types import SimpleNamespace
from typing import Any, cast

from starlette.requests import HTTPConnection

from bench.client import Connection
from bench.rounds import ROUNDS, percentile_ms, spread
from bench.stack import Stack
from services.gateway.authentication.authenticator import Authenticator
from services.gateway.settings import Settings
from shared.bus import Bus
from shared.contracts.access.authentication import Authenticate
from shared.contracts.permissions import EDIT_PROMPTS
from shared.contracts.principal import Principal
from shared.permissions import authorize

_KNOWN_DECISIONS = 20_000
_PATH = "/api/me"
"""Of little work, which the second request with a key has as well."""


async def measure_access(stack: Stack, *, keys: int) -> dict[str, object]:
    """Milliseconds of a decision: in this process for a known caller; for an unknown one, the first `GET /api/me` with
    a key less the second one, over HTTP."""
    rounds = [await _round(stack, keys) for _ in range(ROUNDS)]
    return {
        "known_ms": spread([await _known_ms() for _ in range(ROUNDS)], 4),
        "unknown_added_p50_ms": spread(
            [percentile_ms(first, 0.5) - percentile_ms(second, 0.5) for first, second in rounds], 2
        ),
        "unknown_p99_ms": spread([percentile_ms(first, 0.99) for first, _ in rounds], 2),
        "known_request_p50_ms": spread([percentile_ms(second, 0.5) for _, second in rounds], 2),
        "keys": keys,
        "rounds": ROUNDS,
    }


async def _round(stack: Stack, keys: int) -> tuple[list[float], list[float]]:
    """Durations in seconds of the first and of the second request with each of so many new keys."""
    admin = Connection(stack.target.url, stack.target.api_key)
    made = [await _new_key(admin, f"{perf_counter()} {number}") for number in range(keys)]
    durations: tuple[list[float], list[float]] = ([], [])
    for key in made:
        caller = Connection(stack.target.url, key)
        await caller.request("GET", "/healthz")  # opens the connection
        for times in durations:
            started = perf_counter()
            status, _ = await caller.request("GET", _PATH)
            times.append(perf_counter() - started)
            assert status == 200, status
        caller.close()
    admin.close()
    return durations


async def _new_key(admin: Connection, name: str) -> str:
    status, body = await admin.request("POST", "/api/keys", json.dumps({"name": name}).encode())
    assert status == 201, body
    key: str = json.loads(body)["api_key"]
    return key


class _Authz:
    async def request(self, _: Authenticate) -> Principal:
        return Principal(organisation="tm_bench", role="Developer", key_id="key_1", user_id="usr_1")


def _request() -> HTTPConnection:
    return HTTPConnection({"type": "http", "method": "POST", "headers": [(b"x-api-key", b"hl_of_the_benchmark")]})


async def _known_ms() -> float:
    """Milliseconds of one decision about a caller that this process knows."""
    settings: Any = SimpleNamespace(caller_fresh_seconds=60.0, caller_stale_seconds=60.0, public_url=None)
    authenticator = Authenticator(cast("Bus", _Authz()), cast("Settings", settings))
    await authenticator.authenticate_request(_request())
    started = perf_counter()
    for _ in range(_KNOWN_DECISIONS):
        authorize(await authenticator.authenticate_request(_request()), EDIT_PROMPTS)
    return (perf_counter() - started) / _KNOWN_DECISIONS * 1000
