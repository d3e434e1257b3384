"""The principal that a route sends to a service has the address of the caller, whatever the cached one has."""

from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from services.gateway.main import create_app
from services.gateway.requests.admission import BodyRoom
from services.gateway.requests.rate_limits import RateLimits
from services.gateway.requests.reads import Reads
from services.gateway.server.client_address import TrustedProxies
from services.gateway.settings import Settings
from shared.bus import Bus
from shared.contracts.access.members import Members
from shared.contracts.principal import Principal
from shared.fair_order import FairOrder

CACHED = Principal(organisation="tm_1", role="Admin", user_id="usr_1", key_id="key_1")


class Gateway:
    """Lets everybody in as `CACHED`, and keeps the addresses of the principals it is asked for."""

    def __init__(self) -> None:
        self.addresses: list[str | None] = []
        self.fields = SimpleNamespace(
            authenticator=self,
            bus=self,
            body_room=BodyRoom(10**8),
            fair_order=FairOrder(),
            rate_limits=RateLimits(cast("Bus", self), per_key=0, per_address=0),
            reads=Reads(),
            trusted_proxies=TrustedProxies("10.0.0.0/8"),
        )

    def credential_hash(self, _: object) -> str:
        return "0" * 64

    async def authenticate_request(self, _: object) -> Principal:
        return CACHED

    async def request(self, query: Any) -> Members:
        self.addresses.append(query.principal.address)
        return Members(members=[])


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.0.0.1", "198.51.100.4", "198.51.100.4"),
        ("198.51.100.5", "203.0.113.9", "198.51.100.5"),
        ("198.51.100.5", None, "198.51.100.5"),
    ],
)
async def test_a_service_is_told_where_a_request_came_from(
    gateway: Gateway, peer: str, forwarded: str | None, address: str
) -> None:
    app = create_app(Settings(secret="x" * 44))
    app.state.gateway = gateway.fields
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    transport = httpx.ASGITransport(app, client=(peer, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answer = await client.get("/api/members", headers=headers)
    assert answer.status_code == 200, answer.text
    assert gateway.addresses == [address]
    assert CACHED.address is None
