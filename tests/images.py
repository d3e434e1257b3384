"""Messages with images, and what the object store has of them."""

import asyncio
import base64
import hashlib
import random

from shared.blobs import Blobs
from shared.bus import Bus
from tests.calls import Json
from tests.stack import Stack
from tests.stack_bus import on_bus

MIB = 1024 * 1024


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

    return asyncio.run(on_bus(stack, look))


def store_blob(stack: Stack, organisation: str, url: str) -> str:
    """Store the data of this URL for an organisation; return its token."""
    content = url.partition(",")[2].encode()
    digest = hashlib.sha256(content).hexdigest()

    async def keep(bus: Bus) -> None:
        await Blobs(bus).store(organisation, {digest: content})

    asyncio.run(on_bus(stack, keep))
    return f"everloop-blob:{digest}"
