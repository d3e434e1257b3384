"""How a body is read, kept and answered, with blobs written by hand."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel

from services.gateway import body as module
from services.gateway import errors
from services.gateway.body import CleanRoute, CompletingRoute, RecordingRoute, keep_images
from services.gateway.limits import SMALL_BYTES, LargeBodies
from shared.blobs import Blobs, Filled
from shared.errors import Denied, Internal, Unauthenticated, Unavailable

DATA = "QUJD" * 20_000
LARGE = "QUJD" * 300_000
"""Its body is read beside the others."""
ROOM = 3_000_000
"""For two of them, and not for three."""


class Asked(BaseModel):
    """A body."""

    url: str = ""
    inputs: dict[str, str] = {}
    number: int = 0


class HandmadeBlobs:
    """Keeps in memory, and notes the order of what happened."""

    def __init__(self) -> None:
        self.contents: dict[tuple[str, str], bytes] = {}
        self.happened: list[str] = []
        self.away = self.damaged = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def keep(self, organisation: str, contents: Mapping[str, bytes], *, brief: bool = False) -> None:
        self.happened.append("keep briefly" if brief else "keep")
        await self.gate.wait()
        if self.away:
            raise Unavailable("The message bus is away.")
        self.contents |= {(organisation, digest): content for digest, content in contents.items()}

    async def filled(self, organisation: str, text: bytes) -> Filled:
        heads: Any = {
            digest.encode(): SimpleNamespace(size=len(content), parts=1, brief=False)
            for (owner, digest), content in self.contents.items()
            if owner == organisation
        }
        blobs: Blobs = self  # type: ignore[assignment]
        return Filled(blobs, organisation, text, heads)

    async def parts(self, name: Any, _: Any) -> AsyncIterator[bytes]:
        if self.damaged:
            raise Internal("damaged")
        yield self.contents[name.organisation, name.digest]


class HandmadeCallers:
    """Know one key."""

    async def authenticate(self, key: str | None) -> None:
        if key != "good":
            raise Unauthenticated("Who are you?")


def _guard(request: Request) -> None:
    organisation = request.headers.get("X-Organisation")
    if organisation is None:
        raise Denied("Who are you?")
    request.state.organisation = organisation


@pytest.fixture
def blobs() -> HandmadeBlobs:
    return HandmadeBlobs()


@pytest.fixture
def room() -> LargeBodies:
    return LargeBodies(ROOM)


@pytest.fixture
async def client(blobs: HandmadeBlobs, room: LargeBodies) -> AsyncIterator[httpx.AsyncClient]:
    router = APIRouter(route_class=CleanRoute, dependencies=[Depends(_guard)])

    @router.post("/said")
    async def said(body: Asked, request: Request) -> dict[str, Any]:
        blobs.happened.append("route")
        return {"said": body.url, "length": len(body.url), "keys": request.state.provider_api_keys}

    async def record(body: Asked) -> int:
        return len(body.url)

    router.add_api_route("/record", record, methods=["POST"], route_class_override=RecordingRoute)

    async def complete(body: Asked) -> int:
        blobs.happened.append("route")
        if body.number:
            await keep_images()
        return len(body.url)

    router.add_api_route("/complete", complete, methods=["POST"], route_class_override=CompletingRoute)

    @router.post("/room")
    async def left(body: Asked) -> int:  # noqa: ARG001 - that it was read matters
        return room._free

    @router.get("/read")
    async def read(text: Annotated[str, ""]) -> list[str]:
        return [text, text]

    app = FastAPI()
    app.state.gateway = SimpleNamespace(blobs=blobs, authenticator=HandmadeCallers(), large_bodies=room)
    errors.install(app)
    app.include_router(router, prefix="/v4")
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"X-Organisation": "tm_1", "X-API-KEY": "good"}
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway/v4", headers=headers) as client:
        yield client


def url(data: str = DATA) -> str:
    return f"data:image/png;base64,{data}"


@pytest.mark.parametrize("data", [DATA, LARGE], ids=["small", "large"])
async def test_a_route_sees_tokens_and_its_caller_images(
    client: httpx.AsyncClient, blobs: HandmadeBlobs, data: str
) -> None:
    answer = await client.post("/said", json={"url": url(data), "provider_api_keys": {"openai": "sk"}})
    assert answer.status_code == 200
    assert answer.json()["said"] == url(data)
    assert answer.json()["length"] < 200
    assert answer.json()["keys"] == {"openai": "sk"}
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["content-type"] == "application/json"
    assert blobs.happened == ["keep", "route"]
    assert list(blobs.contents.values()) == [data.encode()]


async def test_nothing_is_kept_of_what_is_refused(client: httpx.AsyncClient, blobs: HandmadeBlobs) -> None:
    assert (await client.post("/said", json={"url": url(), "number": "many"})).status_code == 422
    del client.headers["X-Organisation"]
    assert (await client.post("/said", json={"url": url()})).status_code == 403
    assert blobs.happened == []


async def test_what_shall_not_be_saved_is_kept_briefly_where_it_is_used(
    client: httpx.AsyncClient, blobs: HandmadeBlobs
) -> None:
    body = {"save": False, "inputs": {"picture": url()}}
    assert (await client.post("/record", json=body)).status_code == 200
    assert blobs.happened == []
    assert (await client.post("/said", json=body)).status_code == 200
    assert blobs.happened == ["keep briefly", "route"]


async def test_a_route_may_keep_images_when_it_knows_that_they_shall_be(
    client: httpx.AsyncClient, blobs: HandmadeBlobs, room: LargeBodies
) -> None:
    assert (await client.post("/complete", json={"url": url()})).json() < 200
    assert (blobs.happened, blobs.contents, room._free) == (["route"], {}, ROOM)
    assert (await client.post("/complete", json={"url": url(), "number": 1})).json() < 200
    assert blobs.happened == ["route", "route", "keep"]
    blobs.away = True
    assert (await client.post("/complete", json={"url": url(), "number": 1})).status_code == 503


async def test_what_cannot_be_kept_is_not_accepted(client: httpx.AsyncClient, blobs: HandmadeBlobs) -> None:
    blobs.away = True
    assert (await client.post("/said", json={"url": url()})).status_code == 503
    assert blobs.happened == ["keep"]


async def test_a_token_opens_the_callers_own_data_alone(client: httpx.AsyncClient, blobs: HandmadeBlobs) -> None:
    await client.post("/said", json={"url": url()})
    ((_, digest),) = blobs.contents
    token = f"everloop-blob:{digest}"
    assert (await client.get("/read", params={"text": f"<{token}>"})).json() == [f"<{DATA}>"] * 2
    other = await client.get("/read", params={"text": token}, headers={"X-Organisation": "tm_2"})
    assert other.json() == [token] * 2


async def test_damaged_data_is_never_given(client: httpx.AsyncClient, blobs: HandmadeBlobs) -> None:
    blobs.damaged = True
    broken = await client.post("/said", json={"url": url()})
    assert b"QUJD" not in broken.content
    assert len(broken.content) < int(broken.headers["content-length"])  # a real connection breaks off here


@pytest.mark.parametrize("image", ["", url()], ids=["alone", "beside an image"])
async def test_text_has_a_limit_of_its_own(
    client: httpx.AsyncClient, blobs: HandmadeBlobs, monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    monkeypatch.setattr(module, "MOST_TEXT_BYTES", 1000)
    refused = await client.post("/said", json={"url": image, "text": "x" * 1000})
    assert refused.status_code == 413
    assert refused.json()["detail"]["type"] == "payload_too_large_error"
    assert "at most 1,000 fit" in refused.json()["detail"]["message"]
    assert (await client.post("/said", json={"url": image, "text": "x" * 800})).status_code == 200
    assert len(blobs.happened) == (2 if image else 1)


@pytest.mark.parametrize("size", [10, 2_000_000], ids=["small", "large"])
@pytest.mark.parametrize("raw", ["{", '{"url": 1e999}', "[" * 150 + "]" * 150], ids=range(3))
async def test_an_unreadable_body_is_a_422(client: httpx.AsyncClient, size: int, raw: str) -> None:
    refused = await client.post("/said", content=" " * size + raw, headers={"Content-Type": "application/json"})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["type"] == "json_invalid"


@pytest.mark.parametrize("size", [10, 2_000_000], ids=["small", "large"])
async def test_what_does_not_say_that_it_is_json_is_a_422(client: httpx.AsyncClient, size: int) -> None:
    content = json.dumps({"url": "x" * size})
    refused = await client.post("/said", content=content, headers={"Content-Type": "text/plain"})
    assert refused.status_code == 422


async def pieces(pulled: list[int], *, size: int = 2_000_000) -> AsyncIterator[bytes]:
    """A body that notes how much of it was read."""
    text = json.dumps({"url": "x" * size}).encode()
    for start in range(0, len(text), 50_000):
        pulled.append(start)
        yield text[start : start + 50_000]


@pytest.mark.parametrize("declared", [{"Content-Length": "2000011"}, {}], ids=["declared", "unknown"])
@pytest.mark.parametrize("key", ["", "bad"], ids=["no key", "wrong key"])
async def test_nothing_is_read_of_a_strangers_large_body(
    client: httpx.AsyncClient, room: LargeBodies, declared: dict[str, str], key: str
) -> None:
    pulled: list[int] = []
    headers = {"Content-Type": "application/json", "X-API-KEY": key, **declared}
    refused = await client.post("/said", content=pieces(pulled), headers=headers)
    assert refused.status_code == 401
    assert set(refused.json()["detail"]) == {"type", "message", "code", "origin"}
    assert refused.json()["detail"]["type"] == "authentication_error"
    assert pulled == []
    assert room._free == ROOM
    headers["X-API-KEY"] = "good"
    assert (await client.post("/said", content=pieces(pulled), headers=headers)).status_code == 200
    assert pulled


async def test_of_a_small_body_the_first_error_stays_the_first(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json", "X-API-KEY": "bad"}
    raw = b"{" + b" " * (SMALL_BYTES - 1)
    assert (await client.post("/said", content=raw, headers=headers)).status_code == 422
    assert (await client.post("/said", content=raw + b" ", headers=headers)).status_code == 401


async def test_large_bodies_in_hand_are_bounded_in_bytes(
    client: httpx.AsyncClient, blobs: HandmadeBlobs, room: LargeBodies
) -> None:
    blobs.gate.clear()
    body = {"url": url(LARGE)}
    stored = [asyncio.create_task(client.post("/said", json=body)) for _ in range(2)]
    async with asyncio.timeout(10):
        while len(blobs.happened) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        refused = await client.post("/said", json=body)
    assert refused.status_code == 503
    assert refused.json()["detail"]["type"] == "service_unavailable_error"
    assert int(refused.headers["Retry-After"]) >= 1
    headers = {"Content-Type": "application/json"}
    grown: list[int] = []
    assert (await client.post("/said", content=pieces(grown), headers=headers)).status_code == 503
    assert len(grown) < 20, "one that does not say how large it is, is read as far as there is room"
    assert (await client.post("/said", json={"url": "small"})).status_code == 200
    blobs.gate.set()
    assert [answer.status_code for answer in await asyncio.gather(*stored)] == [200, 200]
    assert (await client.post("/said", json=body)).status_code == 200
    assert room._free == ROOM


async def test_room_is_given_back_when_the_images_are_stored(client: httpx.AsyncClient) -> None:
    assert (await client.post("/room", json={"url": url(LARGE)})).json() == ROOM


async def test_room_is_given_back_whatever_goes_wrong(
    client: httpx.AsyncClient, blobs: HandmadeBlobs, room: LargeBodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    json_type = {"Content-Type": "application/json"}
    assert (await client.post("/said", content=b" " * 2_000_000, headers=json_type)).status_code == 422
    assert (await client.post("/said", json={"url": url(LARGE), "number": "many"})).status_code == 422
    assert (await client.post("/said", content=LARGE, headers={"Content-Type": "text/plain"})).status_code == 422
    blobs.away = True
    assert (await client.post("/said", json={"url": url(LARGE)})).status_code == 503
    monkeypatch.setattr(module, "MOST_TEXT_BYTES", 1000)
    assert (await client.post("/said", json={"url": "x" * 100_000})).status_code == 413
    del client.headers["X-Organisation"]
    assert (await client.post("/said", json={"url": url(LARGE)})).status_code == 403
    assert room._free == ROOM
