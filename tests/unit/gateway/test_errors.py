"""Validation errors name the field that the caller sent (behaviour.md §1.5, shape A)."""

from collections.abc import AsyncIterator
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
from shared.contracts.principal import Principal
from shared.fair_order import FairOrder

TOOL = {"type": "tool", "name": "t"}
LOG = {"project": "p", "config": TOOL}
CHAT = {"project": "p", "model_config": {"model": "m"}, "messages": []}


class AllowEverything:
    """An authenticator for which every key is valid and everything is allowed."""

    def credential_hash(self, _: object) -> str:
        return "0" * 64

    async def authenticate_request(self, _: object) -> Principal:
        return Principal(organisation="tm_1", role="Admin", key_id="key_1", user_id="usr_1", email="ada@example.org")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(secret="x" * 44))

    app.state.gateway = SimpleNamespace(
        authenticator=AllowEverything(),
        body_room=BodyRoom(10**8),
        fair_order=FairOrder(),
        rate_limits=RateLimits(cast("Bus", None), per_key=0, per_address=0),
        reads=Reads(),
        trusted_proxies=TrustedProxies(""),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway/v4") as client:
        yield client


def part(**fields: Any) -> dict[str, Any]:
    """A log with one part of a message."""
    return LOG | {"messages": [{"role": "user", "content": [fields]}]}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/logs", {"project": "p", "config": {"model": ""}}, ["config", "model"]),
        ("/logs", [LOG, {"project": "p", "config": {"model": ""}}], [1, "config", "model"]),
        ("/logs", [{"project": "p", "config": {"model": "m", "colour": "red"}}], [0, "config", "colour"]),
        ("/logs", {"project": "p", "config": {"type": "model", "temperature": 1}}, ["config", "model"]),
        ("/logs", {"project": "p", "config": {"model": "m", "temperature": "hot"}}, ["config", "temperature"]),
        ("/logs", {"project": "p", "config": {"type": "car"}}, ["config"]),
        ("/logs", {"project": "p", "config": {"type": "tool"}}, ["config", "name"]),
        ("/logs", LOG | {"output": 5}, ["output"]),
        ("/logs", LOG | {"feedback": {"type": "rating"}}, ["feedback", "value"]),
        ("/logs", LOG | {"feedback": [{"value": "good"}]}, ["feedback", 0, "type"]),
        ("/logs", LOG | {"judgment": [True]}, ["judgment", 0]),
        ("/logs", part(type="text", text=5), ["messages", 0, "content", 0, "text"]),
        ("/logs", part(type="image_url"), ["messages", 0, "content", 0, "image_url"]),
        ("/logs", part(type="image_url", image_url={}), ["messages", 0, "content", 0, "image_url", "url"]),
        ("/logs", {"project": "p"}, []),
        ("/logs", [LOG, {"project": "p"}], [1]),
        ("/logs", [LOG, 5], [1]),
        ("/logs", "just a string", []),
        ("/feedback", {"type": 5, "value": 1, "data_id": "data_1"}, ["type"]),
        ("/feedback", {"value": 1, "data_id": "data_1"}, ["type"]),
        ("/feedback", [{"type": "rating", "value": 1}], [0]),
        ("/chat", CHAT | {"surprise": 1}, ["surprise"]),
        ("/chat", {"project": "p", "messages": []}, ["model_config"]),
        ("/chat", CHAT | {"tool_choice": {"type": "function"}}, ["tool_choice", "function"]),
    ],
)
async def test_the_location_of_a_validation_error_exists_in_the_body(
    client: httpx.AsyncClient, path: str, body: Any, expected: list[str | int]
) -> None:
    refused = await client.post(path, json=body)
    assert refused.status_code == 422
    locations = [one["loc"] for one in refused.json()["detail"]]
    assert ["body", *expected] in locations
    # Other alternatives of a union may be reported, too: at the same field, or at one that contains it.
    assert all(["body", *expected][: len(loc)] == loc for loc in locations)


@pytest.mark.parametrize("path", ["/logs", "/feedback"])
@pytest.mark.parametrize("as_array", [False, True])
async def test_one_invalid_field_is_one_error(client: httpx.AsyncClient, path: str, as_array: bool) -> None:
    valid = LOG if path == "/logs" else {"type": "rating", "value": "good", "data_id": "data_1"}
    invalid = valid | {"created_at": "yesterday"}
    (only,) = (await client.post(path, json=[valid, invalid] if as_array else invalid)).json()["detail"]
    assert only["loc"] == (["body", 1, "created_at"] if as_array else ["body", "created_at"])


async def test_the_location_of_an_invalid_query_parameter_is_its_name(client: httpx.AsyncClient) -> None:
    (only,) = (await client.get("/sessions", params={"project_id": "pr_1", "size": 0})).json()["detail"]
    assert only["loc"] == ["query", "size"]


@pytest.mark.parametrize("path", ["/projects", "/sessions?project_id=p", "/logs?project_id=p"])
async def test_every_list_has_the_same_maximum_page_size(client: httpx.AsyncClient, path: str) -> None:
    (only,) = (await client.get(path, params={**httpx.URL(path).params, "size": 1001})).json()["detail"]
    assert (only["loc"], only["msg"]) == (["query", "size"], "Input should be less than or equal to 1000")
