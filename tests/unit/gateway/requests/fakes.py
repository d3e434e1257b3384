"""An application of five routes on the gateway's route classes, with blobs in memory and one valid key."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel

from services.gateway import errors
from services.gateway.requests.admission import BodyRoom
from services.gateway.requests.rate_limits import RateLimits
from services.gateway.requests.reads import Reads
from services.gateway.requests.route import BodyRoute, DeferredImagesRoute, SavedImagesRoute, store_request_images
from services.gateway.server.client_address import TrustedProxies
from shared.blobs import Blobs, InlinedText
from shared.bus import Bus
from shared.contracts.principal import Principal
from shared.errors import Denied, Internal, Unauthenticated, Unavailable
from shared.fair_order import FairOrder

DATA = "QUJD" * 20_000
LARGE_DATA = "QUJD" * 300_000
"""A body with it is parsed in the thread."""
ROOM_BYTES = 6_800_000
"""Enough for two bodies with `LARGE_DATA` of one organisation, and not for three."""


class ExampleBody(BaseModel):
    """The body of every route."""

    url: str = ""
    inputs: dict[str, str] = {}
    number: int = 0


class FakeBlobs:
    """Stores blobs in memory, and notes the order of calls."""

    def __init__(self) -> None:
        self.contents: dict[tuple[str, str], bytes] = {}
        self.calls: list[str] = []
        self.away = self.damaged = False
        self.may_finish = asyncio.Event()
        self.may_finish.set()

    async def store(self, organisation: str, contents: Mapping[str, bytes], *, temporary: bool = False) -> None:
        self.calls.append("store temporarily" if temporary else "store")
        await self.may_finish.wait()
        if self.away:
            raise Unavailable("The message bus is away.")
        self.contents |= {(organisation, digest): content for digest, content in contents.items()}

    async def inline(self, organisation: str, text: bytes) -> InlinedText:
        heads: Any = {
            digest.encode(): SimpleNamespace(size=len(content), parts=1, temporary=False)
            for (owner, digest), content in self.contents.items()
            if owner == organisation
        }
        blobs: Blobs = self  # type: ignore[assignment]
        return InlinedText(blobs, organisation, text, heads)

    async def parts(self, name: Any, _: Any) -> AsyncIterator[bytes]:
        if self.damaged:
            raise Internal("damaged")
        yield self.contents[name.organisation, name.digest]


class FakeAuthenticator:
    """Accepts the keys of two organisations."""

    def credential_hash(self, request: Request) -> str:
        return request.headers.get("X-API-KEY", "")

    async def authenticate_request(self, request: Request) -> Principal:
        key = request.headers.get("X-API-KEY")
        if key not in ("good", "another"):
            raise Unauthenticated("Who are you?")
        organisation = {"good": "tm_1", "another": "tm_2"}[key]
        return Principal(organisation=organisation, role="Admin", key_id="key_1", user_id="usr_1", email="a@b.example")


def _guard(request: Request) -> None:
    if "X-Permitted" not in request.headers:
        raise Denied("You may not.")


def create_app(blobs: FakeBlobs, room: BodyRoom) -> FastAPI:
    """`POST /echo` answers with what it was sent, `/save` is a `SavedImagesRoute`, `/defer` a `DeferredImagesRoute`
    that stores images if `number` is set, `/room` answers with the free bytes, `GET /repeat` with `text` twice."""
    router = APIRouter(route_class=BodyRoute, dependencies=[Depends(_guard)])

    @router.post("/echo")
    async def echo(body: ExampleBody, request: Request) -> dict[str, Any]:
        blobs.calls.append("endpoint")
        return {"url": body.url, "length": len(body.url), "keys": request.state.provider_api_keys}

    async def save(body: ExampleBody) -> int:
        return len(body.url)

    router.add_api_route("/save", save, methods=["POST"], route_class_override=SavedImagesRoute)

    async def defer(body: ExampleBody) -> int:
        blobs.calls.append("endpoint")
        if body.number:
            await store_request_images()
        return len(body.url)

    router.add_api_route("/defer", defer, methods=["POST"], route_class_override=DeferredImagesRoute)

    @router.post("/room")
    async def free_room(body: ExampleBody) -> int:  # noqa: ARG001 - the body must be parsed
        return room.free

    @router.get("/repeat")
    async def repeat(text: Annotated[str, ""]) -> list[str]:
        return [text, text]

    app = FastAPI()
    app.state.gateway = SimpleNamespace(
        blobs=blobs,
        authenticator=FakeAuthenticator(),
        body_room=room,
        fair_order=FairOrder(),
        rate_limits=RateLimits(cast("Bus", None), per_key=0, per_address=0),
        reads=Reads(),
        trusted_proxies=TrustedProxies(""),
    )
    errors.install(app)
    app.include_router(router, prefix="/v4")
    return app


def data_url(data: str = DATA) -> str:
    return f"data:image/png;base64,{data}"


async def chunks(sent: list[int]) -> AsyncIterator[bytes]:
    """A body of 1.5 MB in chunks of 50 kB; the start of each one that was read is appended to `sent`."""
    text = json.dumps({"url": "x" * 1_500_000}).encode()
    for start in range(0, len(text), 50_000):
        sent.append(start)
        yield text[start : start + 50_000]
