"""Messages with images, and what the object store has of them."""

import asyncio
import base64
import hashlib
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import SecretStr

from deploy.local.folder import Folder
from deploy.local.privileges.secrets import Secrets
from deploy.local.servers import ports
from shared.blobs import Blobs
from shared.bus import Bus
from shared.settings import ServiceSettings
from tests.calls import Json
from tests.stack import Stack

MIB = 1024 * 1024
T = TypeVar("T")


def data_url(size: int, seed: str) -> str:
    """Return a data URL of `size` random bytes (before base64); the same for the same seed."""
    return "data:image/png;base64," + base64.b64encode(random.Random(seed).randbytes(size)).decode()  # noqa: S311


def image_part(url: str, detail: str = "auto") -> Json:
    """Return an image part of a message."""
    return {"type": "image_url", "image_url": {"url": url, "detail": detail}}


def messages_with_images(*urls: str, text: str = "What is this?") -> list[Json]:
    """Return a list of one user message with a text and images."""
    return [{"role": "user", "content": [{"type": "text", "text": text}, *map(image_part, urls)]}]


def image_urls(message: Json) -> list[str]:
    """Return the URLs of the images in a message, in order."""
    return [it["image_url"]["url"] for it in message["content"] if it["type"] == "image_url"]


def stored_chunks(stack: Stack, url: str) -> dict[str, int]:
    """Return the subjects of `BLOBS` with the data of this URL, of any organisation, with their number of messages."""
    digest = hashlib.sha256(url.partition(",")[2].encode()).hexdigest()

    async def look(bus: Bus) -> dict[str, int]:
        info = await bus.client.jetstream().stream_info("BLOBS", subjects_filter=f"blobs.*.{digest}.>")
        return info.state.subjects or {}

    return asyncio.run(_as_operator(stack, look))


def store_blob(stack: Stack, organisation: str, url: str) -> str:
    """Store the data of this URL for an organisation; return its token."""
    content = url.partition(",")[2].encode()
    digest = hashlib.sha256(content).hexdigest()

    async def keep(bus: Bus) -> None:
        await Blobs(bus).store(organisation, {digest: content})

    asyncio.run(_as_operator(stack, keep))
    return f"everloop-blob:{digest}"


async def _as_operator(stack: Stack, work: Callable[[Bus], Awaitable[T]]) -> T:
    settings = ServiceSettings(
        nats_url=f"nats://{ports.HOST}:{stack.status()['nats-server']['port']}",
        nats_user="operator",
        nats_password=SecretStr(Secrets.load_or_create(Folder(stack.folder)).bus_passwords["operator"]),
    )
    bus = Bus(settings, "operator")
    await bus.open()
    try:
        return await work(bus)
    finally:
        await bus.close()
